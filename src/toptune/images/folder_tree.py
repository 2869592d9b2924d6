"""Walk a folder of images; recognise the folders that name splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toptune.errors import DataError
from toptune.images.image_set import file_fault, printable

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

SPLITS = ("train", "val", "test")
_ALIASES = {"valid": "val", "validation": "val"} | {name: name for name in SPLITS}


@dataclass(frozen=True)
class Found:
    """One file that is named like an image, or a folder that may not be entered.

    Attributes
    ----------
    id : str
        Path relative to the folder that was walked, with forward slashes, printable.
    path : str
        Path as the operating system takes it.
    fault : str or None
        Why the image cannot be read, as far as that is known without opening it.
    """

    id: str
    path: str
    fault: str | None


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
    """Tell whether the extension is one of an image, in upper or lower case."""
    return Path(name).suffix.lower() in SUFFIXES


def walk(folder: Path, *, prefix: str = "") -> list[Found]:
    """List the images below `folder`, sorted by id, without opening any.

    Hidden entries are skipped. Links to folders are followed, except into a folder that the walk
    is already inside of, so that a circle of links ends.
    """
    return sorted(_walk(folder, prefix, frozenset()), key=lambda found: found.id)


def _walk(folder: Path, prefix: str, inside: frozenset[tuple[int, int]]) -> Iterator[Found]:
    try:
        status = folder.stat()
        entries = _visible(folder)
    except OSError:
        yield Found(prefix.rstrip("/"), str(folder), "permission denied")
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
            yield Found(name, entry.path, None if plain else file_fault(Path(entry.path)))


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
