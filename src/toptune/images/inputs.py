"""Images in whatever form a user has them -> `ImageSet`, without opening any."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError, DataWarning
from toptune.images.folder_tree import (
    LAYOUTS,
    SPLITS,
    absent_split,
    all_images,
    canonical_split,
    child_folders,
    class_folders,
    split_folders,
)
from toptune.images.image_set import ImageSet, Quarantined, from_arrays, group_names
from toptune.images.manifest import is_manifest_name, manifest_images, read_manifest
from toptune.images.reading import ImageSource, file_fault, printable

Images: TypeAlias = str | os.PathLike[str] | Sequence[ImageSource] | NDArray[Any] | ImageSet
"""A folder or manifest, a list of images, one array of images, or an `ImageSet`."""


def labelled_images(
    images: Images,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    split: str | None = None,
    groups: Iterable[object] | None = None,
) -> ImageSet:
    """List images with their labels and groups.

    Parameters
    ----------
    images : Images
        A folder or manifest as for `open_images`, or images given directly.
    labels : array-like, path or None
        One label per image given directly, or one list of labels per image; for a folder, a
        manifest or nothing.
    split : str, optional
        Split of a folder or manifest.
    groups : sequence, optional
        One group per image given directly or in an `ImageSet`, whose own they replace; missing
        ones as for `from_arrays`. A manifest has them in its column ``group``.

    Returns
    -------
    ImageSet
        Its labels are text, or as they were given directly; its groups are text.

    Raises
    ------
    DataError
        If labels or groups and images do not fit each other, or the images cannot be listed.
    """
    if isinstance(images, ImageSet):
        if groups is not None:
            images = replace(images, groups=group_names(groups, images.ids))
        return images
    if isinstance(images, str | os.PathLike):
        if labels is not None and not isinstance(labels, str | os.PathLike):
            raise DataError(
                "labels for a folder must be a manifest file; for a list of labels give a list of "
                "images"
            )
        if groups is not None:
            raise DataError(
                "groups of a folder or manifest come from the column group of a manifest; for a "
                "list of groups give a list of images, or the ImageSet that open_images returns"
            )
        return open_images(images, split=split, labels=labels)
    if labels is None or isinstance(labels, str | os.PathLike):
        raise DataError("a list of images needs a list with one label per image")
    return from_arrays(images, labels, groups=groups)  # type: ignore[arg-type]


def images_to_compare(
    images: Images,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    split: str | None,
) -> ImageSet:
    """List labelled images to evaluate on: of the split test where there is one, else val."""
    if split is None and isinstance(images, str | os.PathLike):
        table = labels if isinstance(labels, str | os.PathLike) else None
        present = splits_of(images, labels=table)
        split = next((name for name in ("test", "val", "train") if name in present), None)
    return labelled_images(images, labels, split=split)


def unlabelled_images(images: Images) -> ImageSet:
    """List images without labels: a file, everything below a folder, or images given directly.

    Raises
    ------
    DataError
        If there are none.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | os.PathLike):
        return open_images(images, labelled=False)
    return from_arrays(images)


def open_images(
    data: str | os.PathLike[str],
    *,
    split: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    labelled: bool = True,
) -> ImageSet:
    """List the images of a folder or a manifest, without opening any.

    Parameters
    ----------
    data : path
        One of: a folder with one folder per class, whose name is the label of all images below it;
        such folders below ``train``, ``val`` (or ``valid``, ``validation``) and ``test``; a CSV or
        Parquet file with the columns ``image_path`` (or ``file_name``), ``label`` and perhaps
        ``split`` and ``group``, its relative paths starting from its own folder; a folder with such
        a file called ``metadata.csv``. Without labels also any folder of images, or one image.
    split : {"train", "val", "test"}, optional
        The split to list. By default the training split if there are splits and labels are wanted,
        else everything.
    labels : path, optional
        A manifest for the images of the folder `data`; its relative paths start from `data`, or
        else from its own folder.
    labelled : bool
        Whether labels are wanted. If not, folder names and the columns ``label`` and ``group`` are
        ignored.

    Returns
    -------
    ImageSet
        Sorted by path, or in the order of the manifest. Broken links, missing files, and images
        without a label or with contradictory labels or groups are in its `quarantined`. Its
        `groups` are those of the column ``group``, None where there is none; an image with no value
        there is a group of its own.

    Raises
    ------
    DataError
        If `data` does not exist, is laid out in no known way, lacks `split`, or holds no image.

    Warns
    -----
    DataWarning
        If a class folder holds no image, or rows of a manifest repeat or contradict each other.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(folder, name, "1.png"))
    ...     images = open_images(folder)
    >>> images.ids, images.labels.tolist()
    (('cat/1.png', 'dog/1.png'), ['cat', 'dog'])
    """
    root = _existing(data)
    wanted = None if split is None else _known_split(split)
    if labels is not None:
        return _with_label_file(root, _existing(labels), wanted, labelled)
    if not root.is_dir():
        if is_manifest_name(root):
            return manifest_images(root, [root.parent], split=wanted, labelled=labelled)
        return _one_image(root, wanted, labelled)
    if labelled and (table := _own_table(root)) is not None:
        return manifest_images(table, [root], split=wanted, labelled=True)
    folders = split_folders(root)
    if wanted is None and labelled and folders:
        wanted = "train"
    if wanted is None:
        return class_folders(root, "") if labelled else all_images(root, "")
    if wanted not in folders:
        raise absent_split(root, wanted, tuple(folders))
    folder = folders[wanted]
    prefix = f"{printable(folder.name)}/"  # so that ids stay unique over the splits
    if not labelled:
        return all_images(folder, prefix)
    if (table := _own_table(folder)) is not None:
        return manifest_images(table, [folder], split=None, labelled=True, prefix=prefix)
    return class_folders(folder, prefix)


def open_unlabelled(paths: Sequence[str | os.PathLike[str]]) -> ImageSet:
    """List images to be classified: files, and all images below folders.

    Parameters
    ----------
    paths : list of paths
        Images and folders; what is named twice is listed once.

    Returns
    -------
    ImageSet
        In the order of `paths`; the ids are paths that can be opened from the current folder.

    Raises
    ------
    DataError
        If there are no paths, one does not exist, or a folder holds no image.

    Examples
    --------
    >>> open_unlabelled(["no/such.jpg"])
    Traceback (most recent call last):
        ...
    toptune.errors.DataError: 'no/such.jpg': no such file or folder
    """
    if not paths:
        raise DataError("no images were named")
    sources: dict[str, str] = {}
    quarantined: dict[str, Quarantined] = {}
    for path in paths:
        if Path(path).is_symlink() and not Path(path).exists():
            # A shell lists it among the images of *.jpg; a name that is not there at all is a slip.
            name = printable(Path(path).as_posix())
            quarantined[name] = Quarantined(name, "broken symbolic link")
            continue
        root = _existing(path)
        if not root.is_dir():
            sources.setdefault(printable(root.as_posix()), str(root))
            continue
        prefix = "" if root == Path() else f"{printable(root.as_posix().rstrip('/'))}/"
        below = all_images(root, prefix)
        for name, source in zip(below.ids, below.sources, strict=True):
            sources.setdefault(name, str(source))
        quarantined.update((item.id, item) for item in below.quarantined)
    if not sources:
        first = next(iter(quarantined.values()))
        raise DataError(f"no image can be read; the first, {first.id!r}: {first.reason}")
    return ImageSet(tuple(sources), tuple(sources.values()), None, tuple(quarantined.values()))


def splits_of(
    data: str | os.PathLike[str], *, labels: str | os.PathLike[str] | None = None
) -> tuple[str, ...]:
    """Name the splits that `open_images` can list.

    Parameters
    ----------
    data, labels : path
        As for `open_images`.

    Returns
    -------
    tuple of str
        Those of "train", "val" and "test" that are present, in this order.
    """
    root = _existing(data)
    table = _existing(labels) if labels is not None else None
    if table is None and not root.is_dir():
        table = root if is_manifest_name(root) else None
    elif table is None:
        table = _own_table(root)
    if table is not None:
        return read_manifest(table).split_names()
    return tuple(split_folders(root)) if root.is_dir() else ()


def _existing(data: str | os.PathLike[str]) -> Path:
    if not os.fspath(data).strip():
        raise DataError("the path of the images is empty: name a folder or a manifest")
    fault = file_fault(Path(data))
    if fault not in (None, "is a directory"):
        fault = "no such file or folder" if fault == "no such file" else fault
        raise DataError(f"{printable(os.fspath(data))!r}: {fault}")
    return Path(data)


def _known_split(split: str) -> str:
    canonical = canonical_split(split)
    if canonical is None:
        raise DataError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return canonical


def _with_label_file(root: Path, table: Path, split: str | None, labelled: bool) -> ImageSet:
    if not root.is_dir():
        raise DataError(
            f"{printable(str(root))} must be a folder when the labels are in a file of their own"
        )
    return manifest_images(table, [root, table.parent], split=split, labelled=labelled)


def _own_table(folder: Path) -> Path | None:
    """Path of the folder's ``metadata.csv``, if it labels images."""
    table = folder / "metadata.csv"
    if not table.is_file():
        return None
    manifest = read_manifest(table)
    if (manifest.images is None or manifest.labels is None) and child_folders(folder):
        # Many class trees come with a table of other facts under this name.
        warnings.warn(
            f"{printable(str(table))} has no columns file_name and label, so the labels are taken "
            "from the folders",
            DataWarning,
            stacklevel=3,
        )
        return None
    return table


def _one_image(path: Path, split: str | None, labelled: bool) -> ImageSet:
    name = printable(str(path))
    if labelled:
        raise DataError(f"{name} is a single file: {LAYOUTS}")
    if split is not None:
        raise absent_split(path, split, ())
    return ImageSet((printable(path.name),), (str(path),), None)
