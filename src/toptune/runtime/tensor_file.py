"""Tensors by name plus one JSON document in one safetensors file. No pickle, written atomically.

Models and features are both kept so. What the tensors and the document mean is the caller's
business; this module says plainly what is wrong with a file that cannot be read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from toptune.errors import ModelFileError, StorageError
from toptune.runtime.atomic import write_atomically

_KEY = "toptune"


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    document: Mapping[str, Any],
    *,
    kind: str,
    format_version: int,
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
    kind
        What the file holds, "model" or "features"; `load_tensors` compares it.
    format_version
        Raised by one whenever an older reader would misunderstand the file.

    Raises
    ------
    StorageError
        If the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    header = {**document, "kind": kind, "format_version": format_version}
    text = json.dumps(header, ensure_ascii=False)
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    try:
        content = save(arrays, metadata={_KEY: text})
    except SafetensorError as error:  # the format limits the size of the document
        raise StorageError(f"cannot write {target}: {error}") from error
    write_atomically(target, content)


def load_tensors(
    path: str | os.PathLike[str],
    *,
    kind: str,
    format_version: int,
    required: Iterable[str],
    mapped: Collection[str] = (),
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the tensors and the document of a file.

    Parameters
    ----------
    path
        File written by `save_tensors`.
    kind, format_version
        What the file must be.
    required
        Names of the tensors that must be there.
    mapped
        Names of tensors to leave in the file, as memory maps.

    Returns
    -------
    tensors, document

    Raises
    ------
    ModelFileError
        If the file is missing, no safetensors file, of another kind or format version, or lacks
        tensors.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelFileError(f"no {kind} file at {source}")
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:  # tensors of others may be of types that NumPy lacks
                raise ModelFileError(f"{source} is a safetensors file, but not one of toptune's")
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names if name not in mapped}
        tensors.update((name, _map_tensor(source, name)) for name in mapped if name in names)
    except (SafetensorError, OSError, TypeError, AttributeError, KeyError) as error:
        raise ModelFileError(f"{source} is damaged or no {kind} file: {error}") from error
    try:
        document = json.loads(metadata[_KEY])
        found, version = document["kind"], document["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{source}: its description is damaged: {error}") from error
    if found != kind:
        raise ModelFileError(f"{source} holds toptune {found}, but a {kind} file is needed")
    if version != format_version:
        raise ModelFileError(
            f"{source} has format version {version}; this toptune reads version {format_version}. "
            "Use the toptune that wrote it, or make it again"
        )
    missing = sorted(set(required) - tensors.keys())
    if missing:
        raise ModelFileError(f"{source} lacks the tensors {', '.join(missing)}")
    return tensors, document


def _map_tensor(source: Path, name: str) -> NDArray[Any]:
    """Map one tensor: a safetensors file is the length of a header, the header, and the data."""
    with source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    dtype = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[entry["dtype"]]
    start, shape = 8 + length + int(entry["data_offsets"][0]), tuple(entry["shape"])
    if 0 in shape:  # there is nothing to map
        return np.empty(shape, dtype)
    return np.memmap(source, dtype=dtype, mode="r", offset=start, shape=shape)


def encode_names(names: Iterable[str]) -> NDArray[np.uint8]:
    """Return names as a tensor of the bytes of a JSON list: the document's size is limited."""
    text = json.dumps(list(names), ensure_ascii=False)
    return np.frombuffer(text.encode(), dtype=np.uint8)


def decode_names(tensor: NDArray[Any]) -> list[str]:
    """Return the names that `encode_names` wrote.

    Raises
    ------
    ValueError
        If the tensor holds something else.
    """
    return [str(name) for name in json.loads(tensor.tobytes())]
