"""The data sets of studies: where each comes from, how it is split, what belongs together.

`registry.yaml` lists them. A data set is looked for in the folder TOPTUNE_DATA names, one folder
per class, or is part of an installed package.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from toptune.demo import solar_cells
from toptune.errors import DataError
from toptune.images import ImageSet, content_hash, from_arrays, open_images, splits_of
from toptune.images import stratified_split as split_images

#: Environment variable with the folder of local copies.
FOLDER_VARIABLE = "TOPTUNE_DATA"


class DatasetInfo(BaseModel):
    """What is known of a data set before it is opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    classes: int
    images: int
    licence: str
    source: str
    split: Literal["own", "random"]
    #: Whether the mirror image of an image shows the same thing.
    flip: bool = True
    #: Folder below that of the data set which holds it, where others lie beside.
    folder: str = ""
    #: Pattern in a file's name; what its first group matches names the images that belong together.
    group: str = ""
    #: Groups are numbers, and those that differ by no more than this are one.
    group_gap: int | None = None
    #: Groups are told apart within a class only.
    group_in_class: bool = False
    #: Groups that make up the test part, of a data set whose folders show no split.
    test_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Training and test part of a data set."""

    train: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class Dataset:
    """A data set that is present: its images, and which of them its own split tests on."""

    info: DatasetInfo
    images: ImageSet
    test: NDArray[np.bool_] | None  # None: it has no split of its own

    def split(self, *, seed: int, test_size: float = 0.3) -> tuple[NDArray[Any], NDArray[Any]]:
        """Positions of the training and test images: the data set's own, else drawn with `seed`.

        Random splits are stratified and keep groups together.
        """
        if self.test is not None:
            return np.flatnonzero(~self.test), np.flatnonzero(self.test)
        return split_images(
            self.images.labels,
            test_size=test_size,
            random_state=seed,
            groups=self.images.groups,
        )

    def content_hash(self) -> str:
        """SHA-256 over ids, labels, split, groups and contents of all images."""
        digest = hashlib.sha256()
        labels = self.images.labels
        for i, (name, source) in enumerate(zip(self.images.ids, self.images.sources, strict=True)):
            group = None if self.images.groups is None else str(self.images.groups[i])
            held_out = None if self.test is None else bool(self.test[i])
            label = None if labels is None else str(labels[i])
            digest.update(repr((name, label, group, held_out)).encode())
            digest.update(content_hash(source))
        return digest.hexdigest()


@cache
def registry() -> Mapping[str, DatasetInfo]:
    """All known data sets by name."""
    text = resources.files(__package__).joinpath("registry.yaml").read_text(encoding="utf-8")
    return {row["name"]: DatasetInfo(**row) for row in yaml.safe_load(text)}


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of a data set.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    known = registry()
    if name not in known:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(known)}")
    return known[name]


def local_folder(name: str) -> Path | None:
    """Folder below TOPTUNE_DATA that holds a data set, or None."""
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        return None
    info = dataset_info(name)
    folder = Path(root) / name / info.folder
    return folder if folder.is_dir() else None


def is_here(name: str) -> bool:
    """Tell whether a data set is on this machine."""
    if name in _PACKAGES:
        return name == "digits" or find_spec("elpv_dataset") is not None
    return local_folder(name) is not None


def load_dataset(name: str) -> Dataset:
    """List the images of a data set that is on this machine, with labels, groups and split.

    Raises
    ------
    DataError
        If there is no data set of this name, it is not on this machine, or its folders or groups
        are not as the registry says.
    """
    info = dataset_info(name)
    package = _PACKAGES.get(name)
    if package is not None:
        return Dataset(info, package(), None)
    folder = local_folder(name)
    if folder is None:
        raise DataError(
            f"the data set {name} is not on this machine: put it into the folder that "
            f"{FOLDER_VARIABLE} names, as {name}/CLASS/FILE or {name}/train/CLASS/FILE and so on"
        )
    present = splits_of(folder)
    if present and not info.test_groups:
        parts = [
            open_images(folder, split=split)
            for split in ("train", "test" if "test" in present else "val")
        ]
        images = _joined(parts)
        test = np.repeat([False, True], [len(part) for part in parts])
    else:
        images, test = open_images(folder), None
    images = replace(images, groups=_groups(info, images))
    if info.test_groups and images.groups is not None:
        test = np.isin(images.groups, info.test_groups)
    if (test is not None) != (info.split == "own"):
        raise DataError(
            f"{folder}: the registry says that the split of {name} is {info.split}, but the folder "
            f"has {', '.join(present) or 'no splits'}"
        )
    return Dataset(info, images, test)


def _joined(parts: list[ImageSet]) -> ImageSet:
    return ImageSet(
        ids=tuple(name for part in parts for name in part.ids),
        sources=tuple(source for part in parts for source in part.sources),
        labels=np.concatenate([part.labels for part in parts if part.labels is not None]),
        quarantined=tuple(item for part in parts for item in part.quarantined),
    )


def _groups(info: DatasetInfo, images: ImageSet) -> NDArray[np.str_] | None:
    """Names of the groups, from the names of the files; None where these say nothing."""
    if not info.group:
        return images.groups
    files = [name.rsplit("/", 1)[-1] for name in images.ids]
    found = [re.search(info.group, file) for file in files]
    if None in found:
        file = files[found.index(None)]
        raise DataError(f"{info.name}: the name of {file} does not say what group it belongs to")
    names = np.array([match[1] for match in found if match])
    if info.group_gap is not None:
        number = names.astype(np.int64)
        order = np.argsort(number, kind="stable")
        joined = np.empty(len(number), dtype=np.intp)
        joined[order] = np.concatenate([[0], np.cumsum(np.diff(number[order]) > info.group_gap)])
        names = joined.astype(np.str_)
    if info.group_in_class and images.labels is not None:
        names = np.char.add(np.char.add(images.labels, "/"), names)
    return names


def _solar_cell_types() -> ImageSet:
    cells = solar_cells()
    folder = Path(str(cells.sources[0])).parent.parent
    lines = [line.split() for line in (folder / "labels.csv").read_text().splitlines() if line]
    kinds = {file: kind for file, _, kind in lines}
    return replace(cells, labels=np.array([kinds[name] for name in cells.ids]))


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)  # 8 x 8, 0 to 16
    return from_arrays(list(pixels), found.target.tolist())


# Data sets that come with an installed package.
_PACKAGES = {"elpv_grades": solar_cells, "elpv_types": _solar_cell_types, "digits": _digits}
