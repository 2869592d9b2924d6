"""Where the files of images are that only their ids are left of, as in a model file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toptune.images.image_set import ImageSet, file_fault


def folder_of(images: ImageSet) -> str | None:
    """Return the folder that the ids are paths below.

    Parameters
    ----------
    images : ImageSet
        From `open_images`, or any other.

    Returns
    -------
    str or None
        An absolute path; None where the images are in memory or in several places.

    Examples
    --------
    >>> from toptune.images import ImageSet
    >>> folder_of(ImageSet(("cat/1.png",), ("/data/pets/cat/1.png",), None))
    '/data/pets'
    >>> folder_of(ImageSet(("image-000000",), (b"...",), None)) is None
    True
    """
    paths: dict[str, Path] = {}
    for name, source in zip(images.ids, images.sources, strict=True):
        if not isinstance(source, str | os.PathLike):
            return None
        paths[name] = _absolute(source)
    here = Path.cwd()
    if all(_absolute(here / name) == path for name, path in paths.items()):
        return str(here)  # as where paths were given one by one, perhaps with dots in them
    roots = {_above(path, Path(name)) for name, path in paths.items()}
    root = roots.pop() if len(roots) == 1 else None
    return None if root is None else str(root)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay what they are)


def _above(path: Path, name: Path) -> Path | None:
    """Return what is left of a path above the name that it ends with."""
    n = len(name.parts)
    return path.parents[n - 1] if path.parts[-n:] == name.parts else None


def with_folder(provenance: Mapping[str, Any], images: ImageSet) -> dict[str, Any]:
    """Return what is known of a model with the folder of images that it was trained on.

    Parameters
    ----------
    provenance : mapping
        Its ``image_folders``, if there are any, are kept.
    images : ImageSet
        Whose folder is added, if they have one.
    """
    known = list(provenance.get("image_folders", []))
    folder = folder_of(images)
    if folder is None or folder in known:
        return dict(provenance)
    return {**provenance, "image_folders": [*known, folder]}


def image_files(ids: Iterable[str], folders: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Find the files of images by their ids.

    Parameters
    ----------
    ids : iterable of str
        Of an `ImageSet`.
    folders : sequence of paths
        Where to look, the last first: in the order they were added to a model, so that the newest
        file of a name counts, as where an old image was forgotten and a new one of its name added.

    Returns
    -------
    dict
        Id to file, of those that are there.
    """
    found: dict[str, Path] = {}
    for name in ids:
        files = (Path(folder) / name for folder in reversed(folders))
        file = next((file for file in files if file_fault(file) is None), None)
        if file is not None:
            found[name] = file
    return found
