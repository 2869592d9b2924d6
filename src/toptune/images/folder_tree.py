"""Folders of images -> `ImageSet`: classes and splits by the names of folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toptune.errors import DataError, DataWarning
from toptune.images.image_set import ImageSet, Quarantined
from toptune.images.reading import file_fault, printable

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

SPLITS = ("train", "val", "test")
LAYOUTS = (
    "labelled images are a folder with one folder per class (DATA/cat/1.jpg), the same under "
    "train, val and test, or a .csv or .parquet file with columns image_path and label"
)
_ALIASES = {"valid": "val", "validation": "val"} | {name: name for name in SPLITS}


class _File(NamedTuple):
    """A file that is named like an image, or a folder that may not be entered."""

    id: str  # path relative to the folder that was walked, with forward slashes, printable
    path: str  # as the operating system takes it
    fault: str | None  # why it cannot be read, as far as that is known without opening it


def canonical_split(name: str) -> str | None:
    """Return "train", "val" or "test" for any spelling of it, None for another name."""
    return _ALIASES.get(name.lower())


def absent_split(data: Path, wanted: str, present: tuple[str, ...]) -> DataError:
    """Return the error for a split that is not there; it names those that are."""
    name = printable(str(data))
    if present:
        return DataError(f"{name} has no split {wanted!r}: choose from {', '.join(present)}")
    return DataError(
        f"{name} has no splits: ask for none, or put {wanted}/ above the class folders"
    )


def is_image_name(name: str) -> bool:
    """Return whether the extension is that of an image, in any case."""
    return Path(name).suffix.lower() in SUFFIXES


def _walk(
    folder: Path, prefix: str = "", inside: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[_File]:
    """Yield the images below a folder, none of them opened; hidden entries are skipped.

    Links to folders are followed, except into one of the folders that the walk is `inside` of, so
    that a circle of links ends.
    """
    try:
        status = folder.stat()
        entries = _visible(folder)
    except OSError:
        yield _File(prefix.rstrip("/"), str(folder), "permission denied")
        return
    identity = (status.st_dev, status.st_ino)
    if identity in inside:
        return
    for entry in entries:
        name = prefix + printable(entry.name)
        if _is_folder(entry):
            yield from _walk(Path(entry.path), f"{name}/", inside | {identity})
        elif is_image_name(entry.name):
            # Only a plain file needs no second look, and nearly all are plain.
            plain = entry.is_file(follow_symlinks=False)
            yield _File(name, entry.path, None if plain else file_fault(Path(entry.path)))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    # A macOS archive brings its own __MACOSX folder, which is hidden on a Mac.
    with os.scandir(folder) as entries:
        return [e for e in entries if not e.name.startswith(".") and e.name != "__MACOSX"]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False


def child_folders(folder: Path) -> list[Path]:
    """Return the visible folders directly in `folder`, sorted by name."""
    try:
        return sorted(Path(e.path) for e in _visible(folder) if _is_folder(e))
    except OSError as error:
        raise DataError(f"cannot read folder {printable(str(folder))}: {error.strerror}") from error


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split, {} where the folders of `root` are classes.

    The first level must be nothing but split folders. A single one counts only if it holds
    folders itself; otherwise it may well be a class called "test".

    Raises
    ------
    DataError
        If two folders name the same split.
    """
    folders = child_folders(root)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = canonical_split(folder.name)
        if split is None:
            return {}
        if split in splits:
            raise DataError(
                f"{printable(str(root))} has both {splits[split].name!r} and {folder.name!r}, "
                "which name the same split: merge them"
            )
        splits[split] = folder
    if len(folders) == 1 and not child_folders(folders[0]):
        return {}
    return {name: splits[name] for name in SPLITS if name in splits}


def all_images(folder: Path, prefix: str) -> ImageSet:
    """List all images below `folder`, without labels; `prefix` begins their ids."""
    return _image_set(folder, sorted(_walk(folder, prefix)))


def class_folders(folder: Path, prefix: str) -> ImageSet:
    """List the images in the class folders of `folder`; `prefix` begins their ids.

    Raises
    ------
    DataError
        If there are no class folders with images, or none of the images can be read.

    Warns
    -----
    DataWarning
        If class folders are empty, look like splits, or images lie beside them.
    """
    files = sorted(_walk(folder))
    inside = [file for file in files if "/" in file.id or file.fault is not None]
    n_loose = len(files) - len(inside)
    if n_loose and all(file.fault is not None for file in inside):
        raise DataError(
            f"{printable(str(folder))} holds images but no class folders with images: {LAYOUTS}"
        )
    images = _image_set(folder, inside, prefix)
    labels = [name.removeprefix(prefix).partition("/")[0] for name in images.ids]
    _warn_of_layout(folder, set(labels), n_loose)
    return replace(images, labels=np.array(labels, dtype=np.str_))


def _image_set(folder: Path, files: list[_File], prefix: str = "") -> ImageSet:
    usable = [file for file in files if file.fault is None]
    if not usable:
        raise _no_images(folder, files)
    return ImageSet(
        tuple(prefix + file.id for file in usable),
        tuple(file.path for file in usable),
        None,
        tuple(Quarantined(prefix + f.id, f.fault) for f in files if f.fault is not None),
    )


def _warn_of_layout(folder: Path, used: set[str], n_loose: int) -> None:
    name = printable(str(folder))
    classes = [printable(f.name) for f in child_folders(folder)]
    empty = [c for c in classes if c not in used]
    splits = [c for c in classes if canonical_split(c)]
    messages = []
    if empty:
        messages.append(f"class folders without images in {name}: {', '.join(map(repr, empty))}")
    if n_loose:
        messages.append(f"left out {n_loose} images that lie in {name} but in no class folder")
    if len(splits) > 1:
        others = [c for c in classes if c not in splits]
        messages.append(
            f"{', '.join(map(repr, splits))} in {name} are taken for classes, not splits, because "
            f"of the folders beside them: {', '.join(map(repr, others))}"
        )
    for message in messages:
        warnings.warn(message, DataWarning, stacklevel=4)


def _no_images(folder: Path, files: list[_File]) -> DataError:
    name = printable(str(folder))
    if files:
        first = files[0]
        return DataError(
            f"none of the {len(files)} images in {name} can be read; "
            f"the first, {first.id!r}: {first.fault}"
        )
    suffixes = ", ".join(sorted(s.lstrip(".") for s in SUFFIXES))
    return DataError(f"no images in {name}: looked for the extensions {suffixes}")
