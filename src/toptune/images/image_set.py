"""A set of images with ids, labels and groups, none of them opened yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from toptune.errors import DataError
from toptune.images.labels import LabelKind, as_text, is_collection, kind_of_values, set_text
from toptune.images.reading import ImageSource, file_fault, printable


@dataclass(frozen=True)
class Quarantined:
    """An image that cannot be used, and the reason."""

    id: str
    reason: str


# Compared by identity: element-wise equality of `labels` has no single truth value.
@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that are listed but not opened, in a fixed order.

    Attributes
    ----------
    ids : tuple of str
        Unique names: a path relative to the data folder with forward slashes, the path as the
        manifest gives it, or ``image-000000`` and so on.
    sources : tuple of ImageSource
        Where the pixels come from, one per id.
    labels : ndarray of shape (n,), or None
        Names of classes, numbers, or sets as text; None where the images have no labels. Text from
        folders and manifests, of the type that was given for images in memory.
    quarantined : tuple of Quarantined
        Images that are known to be unusable from the listing; none of them is among `ids`.
    groups : ndarray of str, shape (n,), or None
        Name of the group of each image: images that a split must keep together, such as those of
        one object, video or patient. None without groups.
    label_kind : {"class", "number", "set"}
        What the labels stand for; see `toptune.images.labels`.

    Raises
    ------
    DataError
        If the lengths differ or an id occurs twice.
    """

    ids: tuple[str, ...]
    sources: tuple[ImageSource, ...]
    labels: npt.NDArray[Any] | None
    quarantined: tuple[Quarantined, ...] = ()
    groups: npt.NDArray[np.str_] | None = None
    label_kind: LabelKind = "class"

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(self.sources) != n:
            raise DataError(f"{n} ids but {len(self.sources)} sources: give one source per id")
        for name, names in (("labels", self.labels), ("groups", self.groups)):
            if names is not None and names.shape != (n,):
                raise DataError(f"{name} must have shape ({n},), got {names.shape}")
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise DataError(f"image id {twice!r} occurs more than once: ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    def with_text_labels(self) -> ImageSet:
        """Return the images with their labels as text."""
        return self if self.labels is None else replace(self, labels=as_text(self.labels))

    def subset(self, indices: Sequence[int] | npt.NDArray[Any]) -> ImageSet:
        """Return the images at `indices`, in that order.

        Parameters
        ----------
        indices : array-like of int, shape (k,), or of bool, shape (n,)
            Positions without repetition, or a mask.

        Returns
        -------
        ImageSet
            Without `quarantined`, which belongs to the listing as a whole.

        Examples
        --------
        >>> images = from_arrays([b"first", b"second", b"third"], ["cat", "dog", "cat"])
        >>> images.subset([2, 0]).ids
        ('image-000002', 'image-000000')
        """
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.intp)
        rows = np.arange(len(self))[chosen]
        return ImageSet(
            ids=tuple(self.ids[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            label_kind=self.label_kind,
        )


def from_arrays(
    images: Iterable[ImageSource],
    labels: Iterable[object] | None = None,
    *,
    groups: Iterable[object] | None = None,
) -> ImageSet:
    """Wrap images that are in memory, or a list of paths.

    Parameters
    ----------
    images : sequence of ImageSource
        Paths, bytes of image files, Pillow images or arrays; see `decode` for the arrays it takes.
    labels : sequence, optional
        One label per image, kept in the type that NumPy gives them; objects of other types, and
        lists, tuples or sets of names, are kept as text.
    groups : sequence, optional
        One group per image, kept as text; an image whose group is missing (None, NaN or empty) is
        a group of its own.

    Returns
    -------
    ImageSet
        Its ids are the paths where all images are distinct paths, else ``image-000000`` and so on.

    Raises
    ------
    DataError
        If there are no images, the lengths differ, an image is of another type, or a label is
        missing (None, NaN or empty).

    Examples
    --------
    >>> import numpy as np
    >>> images = from_arrays(np.zeros((2, 8, 8, 3), dtype=np.uint8), ["cat", "dog"])
    >>> images.ids, images.labels.tolist()
    (('image-000000', 'image-000001'), ['cat', 'dog'])
    """
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        raise DataError(f"images must be a list, got one {type(images).__name__}: write [image]")
    sources = tuple(images)
    if not sources:
        raise DataError("no images were given")
    for i, source in enumerate(sources):
        if not isinstance(source, str | bytes | os.PathLike | Image.Image | np.ndarray):
            raise DataError(
                f"images[{i}] is a {type(source).__name__}: "
                "give a path, bytes, a Pillow image or a NumPy array"
            )
    ids = _ids_of(sources)
    values = None if labels is None else _label_array(list(labels), len(sources))
    return ImageSet(
        ids,
        sources,
        values,
        groups=None if groups is None else group_names(groups, ids),
        label_kind="class" if values is None else kind_of_values(list(values)),
    )


def _ids_of(sources: tuple[ImageSource, ...]) -> tuple[str, ...]:
    paths = [printable(Path(s).as_posix()) for s in sources if isinstance(s, str | os.PathLike)]
    if len(set(paths)) == len(sources):
        return tuple(paths)
    return tuple(f"image-{i:06d}" for i in range(len(sources)))


def _label_array(values: list[object], n: int) -> npt.NDArray[Any]:
    if len(values) != n:
        raise DataError(f"{n} images but {len(values)} labels: give one label per image")
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray):
            raise DataError(f"labels[{i}] is an ndarray: give one label per image")
        if not is_collection(value) and is_missing(value):
            raise DataError(f"labels[{i}] is missing ({value!r}): leave out images without a label")
    if any(map(is_collection, values)):
        values = [set_text(v) if is_collection(v) else str(v) for v in values]
    array = np.array(values)
    return as_text(array) if array.dtype == object else array


def group_names(groups: Iterable[object], own: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return the group of each image as text.

    Parameters
    ----------
    groups : sequence
        One per image; blanks around a name do not count.
    own : sequence of str
        Distinct names, one per image: an image whose group is missing (None, NaN or empty) is a
        group of its own under this name, or one like it that no other group has.

    Returns
    -------
    ndarray of str, shape (n,)

    Raises
    ------
    DataError
        If the lengths differ, or a group is not a single value.
    """
    if isinstance(groups, str | bytes):
        raise DataError(f"groups must be a list, got {groups!r}: give one group per image")
    values = list(groups)
    if len(values) != len(own):
        raise DataError(f"{len(own)} images but {len(values)} groups: give one group per image")
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray | list | tuple):
            raise DataError(f"groups[{i}] is a {type(value).__name__}: give one group per image")
    names = ["" if is_missing(value) else str(value).strip() for value in values]
    taken = set(names)
    for i, name in enumerate(names):
        if not name:
            alone = own[i]
            while alone in taken:
                alone += "'"
            taken.add(alone)
            names[i] = alone
    return np.array(names, dtype=np.str_)


def is_missing(label: object) -> bool:
    """Return whether a label or group is None, NaN (or its text in tables) or blank."""
    return label is None or str(label).strip() in {"", "nan", "NaN", "<NA>"}


def folder_of(images: ImageSet) -> str | None:
    """Return the absolute path of the folder that the ids are paths below.

    None where the images are in memory or in several places.

    Examples
    --------
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
    """Add the folder of `images`, if they have one, to the ``image_folders`` of a provenance."""
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
        Where to look, in the order they were added to a model: the newest file of a name counts,
        as where an image was replaced by another of its name.

    Returns
    -------
    dict
        Id to file, of those that are there.
    """
    files: dict[str, Path] = {}
    for name in ids:
        there = (Path(folder) / name for folder in reversed(folders))
        if (file := next((path for path in there if file_fault(path) is None), None)) is not None:
            files[name] = file
    return files
