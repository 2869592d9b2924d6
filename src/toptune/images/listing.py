"""Folder trees and manifests -> `ImageSet`, without opening an image."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toptune.errors import DataError, DataWarning
from toptune.images.folder_tree import (
    SPLITS,
    SUFFIXES,
    Found,
    absent_split,
    canonical_split,
    child_folders,
    split_folders,
    walk,
)
from toptune.images.image_set import ImageSet, Quarantined, file_fault, printable
from toptune.images.manifest import is_manifest_name, manifest_images, read_manifest

_LAYOUTS = (
    "labelled images are a folder with one folder per class (DATA/cat/1.jpg), the same under "
    "train, val and test, or a .csv or .parquet file with columns image_path and label"
)


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
        return _class_folders(root, "") if labelled else _all_images(root, "")
    if wanted not in folders:
        raise absent_split(root, wanted, tuple(folders))
    folder = folders[wanted]
    prefix = f"{printable(folder.name)}/"  # so that ids stay unique over the splits
    if not labelled:
        return _all_images(folder, prefix)
    if (table := _own_table(folder)) is not None:
        return manifest_images(table, [folder], split=None, labelled=True, prefix=prefix)
    return _class_folders(folder, prefix)


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
        below = _all_images(root, prefix)
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

    Raises
    ------
    DataError
        If `data` or `labels` does not exist, or a manifest cannot be read.
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
        raise DataError(f"{name} is a single file: {_LAYOUTS}")
    if split is not None:
        raise absent_split(path, split, ())
    return ImageSet((printable(path.name),), (str(path),), None)


def _all_images(folder: Path, prefix: str) -> ImageSet:
    found = walk(folder, prefix=prefix)
    good = [f for f in found if f.fault is None]
    if not good:
        raise _no_images(folder, found)
    return ImageSet(
        tuple(f.id for f in good), tuple(f.path for f in good), None, _set_aside(found, "")
    )


def _class_folders(folder: Path, prefix: str) -> ImageSet:
    found = walk(folder)
    good = [f for f in found if f.fault is None and "/" in f.id]
    loose = [f for f in found if f.fault is None and "/" not in f.id]
    if not good and loose:
        raise DataError(
            f"{printable(str(folder))} holds images but no class folders with images: {_LAYOUTS}"
        )
    if not good:
        raise _no_images(folder, found)
    labels = [f.id.partition("/")[0] for f in good]
    _warn_of_layout(folder, set(labels), len(loose))
    return ImageSet(
        tuple(prefix + f.id for f in good),
        tuple(f.path for f in good),
        np.array(labels, dtype=np.str_),
        _set_aside(found, prefix),
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


def _set_aside(found: list[Found], prefix: str) -> tuple[Quarantined, ...]:
    return tuple(Quarantined(prefix + f.id, f.fault) for f in found if f.fault is not None)


def _no_images(folder: Path, found: list[Found]) -> DataError:
    name = printable(str(folder))
    if found:
        first = found[0]
        return DataError(
            f"none of the {len(found)} images in {name} can be read; "
            f"the first, {first.id!r}: {first.fault}"
        )
    suffixes = ", ".join(sorted(s.lstrip(".") for s in SUFFIXES))
    return DataError(f"no images in {name}: looked for the extensions {suffixes}")
