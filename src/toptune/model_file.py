"""The `.toptune` file: one safetensors file, tensors plus one JSON document. No pickle.

What the tensors and the document mean is the tuner's business; this module makes the file atomic to
write and says plainly what is wrong with one that cannot be read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from toptune.errors import ModelFileError, StorageError

#: Raised by one whenever an older reader would misunderstand the file.
FORMAT_VERSION = 1
_KEY = "toptune"


def save_model(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    document: Mapping[str, Any],
) -> None:
    """Write tensors and document; readers see the old file or the whole new one.

    Parameters
    ----------
    path
        File to write, replaced if it exists.
    tensors
        Arrays by name.
    document
        What JSON can hold.

    Raises
    ------
    StorageError
        If the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    text = json.dumps({"format_version": FORMAT_VERSION, **document}, ensure_ascii=False)
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata={_KEY: text})
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes private files; a saved model gets the permissions of any new file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_model(
    path: str | os.PathLike[str], *, required: Iterable[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the tensors and the document of a model file.

    Parameters
    ----------
    path
        File written by `save_model`.
    required
        Names of the tensors that must be there.

    Returns
    -------
    tensors, document

    Raises
    ------
    ModelFileError
        If the file is missing, no safetensors file, no toptune model, of another format version, or
        lacks tensors.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelFileError(f"no model file at {source}")
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{source} is damaged or no toptune model: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{source} is a safetensors file, but no toptune model")
    try:
        document = json.loads(metadata[_KEY])
        version = document["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{source}: its description is damaged: {error}") from error
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{source} has format version {version}; this toptune reads version {FORMAT_VERSION}. "
            "Use the toptune that wrote it, or train again"
        )
    missing = sorted(set(required) - tensors.keys())
    if missing:
        raise ModelFileError(f"{source} lacks the tensors {', '.join(missing)}")
    return tensors, document
