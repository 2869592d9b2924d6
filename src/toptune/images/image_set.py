"""One image before it is decoded, and a set of them with ids, labels and groups."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from toptune.errors import DataError
from toptune.images.labels import LabelKind, as_text, is_collection, kind_of_values, set_text

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
"""A path, the bytes of an image file, a Pillow image or an array of pixels."""

LoadedImage: TypeAlias = bytes | Image.Image | npt.NDArray[Any]
"""What `read_source` returns: an `ImageSource` that is no longer a path."""


class UnreadableImage(DataError):
    """One image cannot be read or decoded.

    Attributes
    ----------
    reason : str
        Why, in one line that does not depend on where the image lies, so that equal faults count
        as equal in a report.
    """

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)


@dataclass(frozen=True)
class Quarantined:
    """An image that was set aside, and why."""

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
        What was set aside while listing; none of it is among `ids`.
    groups : ndarray of str, shape (n,), or None
        Name of the group of each image: what belongs together, such as photographs of one object,
        frames of one video or one patient, and must not be torn apart by a split. None where
        nothing is known of groups.
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
            Its `quarantined` is empty: images set aside belong to the listing, not to a part of it.

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
            raise DataError(f"labels[{i}] is a {type(value).__name__}: give one label per image")
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
        Distinct names, one per image: where the group is missing (None, NaN or empty), the image
        is a group of its own under this name, or one like it that no other group has.

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
    """Tell whether a label or group is None, NaN (or the text of it in tables) or blank."""
    return label is None or str(label).strip() in {"", "nan", "NaN", "<NA>"}


def printable(path: str) -> str:
    r"""Return `path` with bytes that are not UTF-8 written as ``\xNN``, fit to be stored."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_fault(path: Path) -> str | None:
    """Say in one line why `path` cannot be read as a file, or None if nothing speaks against it."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "broken symbolic link" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:
        return _os_reason(error)
    if stat.S_ISDIR(mode):
        return "is a directory"
    # Reading a named pipe or a device could wait for ever.
    return None if stat.S_ISREG(mode) else "not a regular file"


def _os_reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # without the path that str(error) names
    return f"cannot be read: {error}"


def read_source(source: ImageSource) -> LoadedImage:
    """Read the file if `source` is a path; return anything else unchanged.

    Parameters
    ----------
    source : ImageSource
        A path, bytes, a Pillow image or an array.

    Returns
    -------
    bytes, PIL.Image.Image or ndarray
        For a path, the file's bytes, read once.

    Raises
    ------
    UnreadableImage
        If the file is missing, empty, a broken link, a folder, or may not be read.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    fault = file_fault(path)
    if fault is not None:
        raise UnreadableImage(fault)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(_os_reason(error)) from error
    if not data:
        raise UnreadableImage("empty file")
    return data


def content_hash(source: ImageSource) -> bytes:
    """Return a digest that changes whenever the decoded pixels could.

    Parameters
    ----------
    source : ImageSource
        A path is read first; the bytes of a file and the file itself have the same digest.

    Returns
    -------
    bytes
        32 bytes of SHA-256: over the file's bytes; over mode, size, palette, transparency, EXIF
        orientation and pixels of a Pillow image; over dtype, shape and values of an array.

    Raises
    ------
    UnreadableImage
        If a path or a Pillow image cannot be read, or an array holds Python objects.

    Examples
    --------
    >>> content_hash(b"the bytes of a file").hex()[:16]
    '0f599b9451f725bf'
    """
    loaded = read_source(source)
    if isinstance(loaded, bytes):
        return hashlib.sha256(loaded).digest()
    if isinstance(loaded, Image.Image):
        return _hash_image(loaded)
    if loaded.dtype.hasobject:
        raise UnreadableImage(f"array of shape {loaded.shape} and dtype {loaded.dtype}")
    digest = hashlib.sha256(f"array {loaded.dtype.str} {loaded.shape}\n".encode())
    digest.update(np.ascontiguousarray(loaded).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _hash_image(image: Image.Image) -> bytes:
    try:
        pixels = image.tobytes()
    except (OSError, SyntaxError, ValueError) as error:  # a lazily opened file may be damaged
        raise UnreadableImage(f"damaged: {error}") from error
    palette = image.getpalette("RGBA") if image.mode in ("P", "PA") else None
    header = (
        image.mode,
        image.size,
        palette,
        image.info.get("transparency"),
        exif_orientation(image),
    )
    digest = hashlib.sha256(f"image {header}\n".encode())
    digest.update(pixels)
    return digest.digest()


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where there is none or it is nonsense."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError):
        return 1  # Damaged metadata does not spoil the pixels.
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
