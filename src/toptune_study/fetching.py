"""Get a public data set, once, from the library that knows it -> a folder of images.

    ROOT/NAME/train/CLASS/FILE     and test, as published
    ROOT/NAME/CLASS/FILE           where the publisher gives no split

That is how local copies lie, so what was fetched is found as one. All is written below
ROOT/NAME.part and renamed at the end: what a killed process leaves is never taken for a data set,
and the next fetch begins anew.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants
from filelock import FileLock, Timeout
from PIL import Image, ImageOps

from toptune.errors import DataError, DataWarning, StorageError
from toptune.images.folder_tree import is_image_name
from toptune.runtime.progress import progress_bar
from toptune_study.datasets import (
    FOLDER_VARIABLE,
    DatasetInfo,
    Fetch,
    data_folder,
    dataset_info,
    whereabouts,
)

# What Pillow writes into a PNG file as it is; anything else becomes RGB.
_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
# Where torchvision's data sets keep the paths of their images, or pairs of path and label.
_PATHS = ("_image_files", "_images", "_samples", "samples")


# Class and image, and its file where the library has one.
_Row = tuple[str, Image.Image, Path | None]
# What the library gives for one split, which has a length, and what reads its row k.
_Split = tuple[Any, Callable[[int], _Row]]


def fetch_dataset(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Download a public data set, unless a folder of its name is there already.

    This is the only thing in toptune that downloads images, and it is never called unless the user
    names the data set.

    Parameters
    ----------
    name : str
        As the registry has it.
    root : path, optional
        Folder to put it into; by default the one that TOPTUNE_DATA names. It is made if need be.

    Returns
    -------
    Path
        Folder of the data set.

    Raises
    ------
    DataError
        If there is no data set of this name, no library fetches it, HF_HUB_OFFLINE is set, there is
        no `root`, the library is not installed, or the library fails.
    StorageError
        If it cannot be written, or another process is fetching it.

    Warns
    -----
    DataWarning
        If what came has not as many classes or images as the registry says.
    """
    info = dataset_info(name)
    place = data_folder() if root is None else Path(root)
    if place is None:
        raise DataError(f"where to? {FOLDER_VARIABLE} must name the folder of data sets")
    target = place / name
    if target.is_dir():
        return target
    if info.fetch is None:
        raise DataError(f"no library fetches {name}: {whereabouts(name).where}")
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise DataError(f"{name} is not in {place}, and HF_HUB_OFFLINE is set")
    part = place / f"{name}.part"
    lock = place / f"{name}.part.lock"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            if not target.is_dir():  # another process may just have ended
                try:
                    _fetch(info, info.fetch, part)
                    (part / "tree").rename(target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            with contextlib.suppress(OSError):
                lock.unlink()
    except Timeout as error:
        raise StorageError(f"another process is fetching {name} to {place}") from error
    except OSError as error:
        raise StorageError(f"cannot write {name} to {place}: {error.strerror or error}") from error
    return target


def _fetch(info: DatasetInfo, fetch: Fetch, part: Path) -> None:
    """Write all images below `part`/tree."""
    shutil.rmtree(part, ignore_errors=True)
    tree, raw = part / "tree", part / "raw"
    raw.mkdir(parents=True)
    folders: dict[Path, str] = {}
    n = 0
    for side, splits in (("train", fetch.train), ("test", fetch.test), ("", fetch.whole)):
        number = 0
        for arguments in splits:
            with _library_errors(info.name, fetch):
                found, read = _OPENERS[fetch.library](fetch, arguments, raw)
            with progress_bar(f"fetching {info.name}", len(found)) as advance:
                for k in range(len(found)):
                    with _library_errors(info.name, fetch):
                        row = read(k)
                    _write(row, tree / side / _folder_name(row[0]), number, folders)
                    number += 1
                    advance(1)
        n += number
    classes = len(set(folders.values()))
    if (classes, n) != (info.classes, info.images):
        warnings.warn(
            f"the registry says that {info.name} has {info.images} images of {info.classes} "
            f"classes, but {n} images of {classes} classes came",
            DataWarning,
            stacklevel=3,
        )


@contextlib.contextmanager
def _library_errors(name: str, fetch: Fetch) -> Iterator[None]:
    """Turn what a library raises into an error that says what was fetched, and from what.

    Standard output is the commands': what the library prints goes to standard error.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot fetch {name} ({fetch.library}: {fetch.name}): {reason}") from error


def _torchvision(fetch: Fetch, arguments: Mapping[str, Any], raw: Path) -> _Split:
    """Open one split by torchvision, which downloads it to `raw`."""
    library = importlib.import_module("torchvision.datasets")
    found = getattr(library, fetch.name)(root=str(raw), download=True, **arguments)
    names = getattr(found, "classes", None) or getattr(found, "categories", None)
    files = _files(found)

    def read(k: int) -> _Row:
        image, label = found[k]
        return _class_name(names, int(label)), image, files[k] if files else None

    return found, read


def _files(found: Any) -> list[Path]:
    """Return the files of one of torchvision's data sets; [] where it decodes an archive."""
    for attribute in _PATHS:
        rows = getattr(found, attribute, None)
        if isinstance(rows, list) and len(rows) == len(found):
            files = [row[0] if isinstance(row, tuple) else row for row in rows]
            if all(isinstance(file, str | os.PathLike) for file in files):
                return [Path(file) for file in files]
    return []


def _hub(fetch: Fetch, arguments: Mapping[str, Any], raw: Path) -> _Split:
    """Open one split by the library `datasets`, which downloads it to `raw`."""
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"{fetch.name} is fetched by the package datasets: pip install datasets"
        ) from error
    found = library.load_dataset(fetch.name, cache_dir=str(raw), **arguments)
    names = getattr(found.features[fetch.label], "names", None)

    def read(k: int) -> _Row:
        values = found[k]
        return _class_name(names, int(values[fetch.label])), values[fetch.image], None

    return found, read


_OPENERS = {"torchvision": _torchvision, "datasets": _hub}


def _class_name(names: Any, label: int) -> str:
    """Name of a class, the first one where it has several; its number where it has none."""
    if names is None:
        return str(label)
    name = names[label]
    return str(name[0] if isinstance(name, tuple | list) else name)


def _folder_name(label: str) -> str:
    """Name of a class as that of a folder: visible, and in one piece."""
    return re.sub(r"^\.", "_", re.sub(r'[/\\:*?"<>|\x00-\x1f]', "-", label.strip())) or "_"


def _write(row: _Row, folder: Path, number: int, folders: dict[Path, str]) -> None:
    """Copy the file of an image, or write it as PNG; never over another one."""
    label, image, file = row
    if folders.setdefault(folder, label) != label:
        raise DataError(f"the classes {folders[folder]!r} and {label!r} would share a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if file is not None and is_image_name(file.name):
        path = folder / file.name
        if path.exists():
            path = folder / f"{path.stem}-{number:06d}{path.suffix}"
        shutil.copyfile(file, path)
        return
    image = ImageOps.exif_transpose(image)
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    image.save(folder / f"{number:06d}.png")
