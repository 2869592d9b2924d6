"""The data sets of studies: where each comes from, how it is split, what belongs together.

`registry.yaml` lists them. A data set is looked for in the folder TOPTUNE_DATA names, one folder
per class, else it may be part of an installed package. `fetching` gets those that libraries know.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from toptune.errors import DataError
from toptune.images import ImageSet, content_hash, from_arrays, open_images, splits_of
from toptune.images import stratified_split as split_images
from toptune.images.demo import solar_cells

#: Environment variable with the folder of local copies.
FOLDER_VARIABLE = "TOPTUNE_DATA"


class Fetch(BaseModel):
    """How a library gets a data set: arguments of its splits, those of one part together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Literal["torchvision", "datasets"]
    #: Class of torchvision.datasets, or data set on the Hugging Face hub.
    name: str
    train: tuple[dict[str, bool | int | str], ...] = ()
    test: tuple[dict[str, bool | int | str], ...] = ()
    #: In place of the two, where the publisher gives no split.
    whole: tuple[dict[str, bool | int | str], ...] = ()
    #: Columns, on the hub.
    image: str = "image"
    label: str = "label"

    @model_validator(mode="after")
    def _is_split_or_whole(self) -> Fetch:
        if not bool(self.whole) == (not self.train) == (not self.test):
            raise ValueError("fetch has either train and test, or whole")
        return self


class DatasetInfo(BaseModel):
    """What is known of a data set before it is opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Also the name of its folder.
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Annotated[str, Field(min_length=1, max_length=60)]
    classes: Annotated[int, Field(ge=2)]
    #: In the training and test part together.
    images: int
    #: As the source states it.
    licence: Annotated[str, Field(min_length=1)]
    #: Address it comes from; for samples of a repository with the commit.
    source: Annotated[str, Field(pattern="^https?://")]
    #: Authors, year and title of the publication; empty where none is known.
    citation: str = ""
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
    fetch: Fetch | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> DatasetInfo:
        if self.images < self.classes:
            raise ValueError(f"{self.name} has fewer images than classes")
        if self.group and re.compile(self.group).groups != 1:
            raise ValueError(f"the group pattern of {self.name} must have one group")
        if not self.group and (self.group_gap or self.group_in_class or self.test_groups):
            raise ValueError(f"{self.name} has a rule of groups, but no group pattern")
        if self.test_groups and self.split != "own":
            raise ValueError(f"{self.name} has test groups, so its split must be own")
        if self.fetch and bool(self.fetch.whole) != (self.split == "random"):
            raise ValueError(f"{self.name} is fetched with another split than {self.split}")
        return self


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
    return parse_registry(text)


def parse_registry(text: str) -> Mapping[str, DatasetInfo]:
    """Return the data sets that a YAML list describes, by name.

    Raises
    ------
    ValueError
        If an entry has an unknown or missing key, contradicts itself, or has the name of another.
    """
    found: dict[str, DatasetInfo] = {}
    for row in yaml.safe_load(text):
        info = DatasetInfo.model_validate(row)
        if info.name in found:
            raise ValueError(f"there are two data sets called {info.name}")
        found[info.name] = info
    return found


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


def data_folder() -> Path | None:
    """Folder of local copies that TOPTUNE_DATA names, whether it exists or not, or None."""
    root = os.environ.get(FOLDER_VARIABLE)
    return Path(root) if root else None


def local_folder(name: str) -> Path | None:
    """Folder below TOPTUNE_DATA that holds a data set, or None."""
    root = data_folder()
    info = dataset_info(name)
    folder = root / name / info.folder if root else None
    return folder if folder and folder.is_dir() else None


@dataclass(frozen=True)
class DatasetLocation:
    """Whether a data set is on this machine, and where it is or comes from."""

    state: Literal["here", "fetchable", "missing"]
    where: str


def whereabouts(name: str) -> DatasetLocation:
    """Say whether a data set is on this machine, and where, or how to get it.

    Raises
    ------
    DataError
        If there is no data set of this name.
    """
    info = dataset_info(name)
    folder, package = local_folder(name), _PACKAGES.get(name)
    if folder is not None:
        return DatasetLocation("here", str(folder))
    if package is not None and find_spec(package.module):
        return DatasetLocation("here", f"package {package.name}")
    if info.fetch is not None:
        return DatasetLocation("fetchable", f"{info.fetch.library}: {info.fetch.name}")
    if package is not None:
        return DatasetLocation("missing", f"pip install {package.name}")
    return DatasetLocation("missing", f"a sample of {info.source}")


def is_here(name: str) -> bool:
    """Tell whether a data set is on this machine."""
    return whereabouts(name).state == "here"


def load_dataset(name: str) -> Dataset:
    """List the images of a data set that is on this machine, with labels, groups and split.

    Parameters
    ----------
    name : str
        As the registry has it. A local copy counts before a package.

    Returns
    -------
    Dataset
        Nothing is opened, and nothing downloaded.

    Raises
    ------
    DataError
        If there is no data set of this name, it is not on this machine, its folders or groups
        are not as the registry says, or a group is in both parts of its own split.
    """
    info = dataset_info(name)
    folder, package = local_folder(name), _PACKAGES.get(name)
    if folder is None and package is not None:
        return Dataset(info, package.images(), None)
    if folder is None:
        raise DataError(_absent(info))
    present = splits_of(folder)
    test: NDArray[np.bool_] | None = None
    if present and not info.test_groups:
        parts = [
            open_images(folder, split=split)
            for split in ("train", "test" if "test" in present else "val")
        ]
        images = _joined(parts)
        test = np.repeat([False, True], [len(part) for part in parts])
    else:
        images = open_images(folder)
    groups = _groups(info, images)
    images = replace(images, groups=groups)
    if info.test_groups and groups is not None:
        test = np.isin(groups, info.test_groups)
    if (test is not None) != (info.split == "own"):
        raise DataError(
            f"{folder}: the registry says that the split of {name} is {info.split}, but the folder "
            f"has {', '.join(present) or 'no splits'}"
        )
    if groups is not None and test is not None:
        torn = np.intersect1d(groups[test], groups[~test])
        if len(torn):
            raise DataError(f"{folder}: the group {torn[0]} is in the training and the test part")
    return Dataset(info, images, test)


def _absent(info: DatasetInfo) -> str:
    """Say that a data set is not here, and how to get it."""
    root = data_folder()
    if root is None:
        found = f"{FOLDER_VARIABLE} is not set"
    elif not root.is_dir():
        found = f"{FOLDER_VARIABLE} names {root}, which is no folder"
    else:
        found = f"{root} has no folder {Path(info.name) / info.folder}"
    if info.fetch is not None:
        way = f"get it by: toptune datasets --fetch {info.name}"
    else:
        way = (
            f"it is a sample of {info.source}; put it into the folder that {FOLDER_VARIABLE} "
            f"names, as {info.name}/CLASS/FILE or {info.name}/train/CLASS/FILE and so on"
        )
    return f"the data set {info.name} is not on this machine ({found}): {way}"


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
    return from_arrays(list(pixels), found.target.astype(str).tolist())  # text, as in folders


@dataclass(frozen=True)
class _Package:
    """An installed package that has images."""

    name: str
    module: str
    images: Callable[[], ImageSet]


_PACKAGES = {
    "elpv_grades": _Package("elpv-dataset", "elpv_dataset", solar_cells),
    "elpv_types": _Package("elpv-dataset", "elpv_dataset", _solar_cell_types),
    "digits": _Package("scikit-learn", "sklearn", _digits),
}
