"""Groups of images: from manifests and from memory, through subsets, and in splits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from toptune import DataError
from toptune.errors import DataWarning
from toptune.images import (
    ImageSet,
    Quarantined,
    from_arrays,
    labelled_images,
    open_images,
    stratified_split,
    unlabelled_images,
)
from toptune.images.image_set import group_names

Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


@pytest.fixture
def root(image_tree: Tree) -> Path:
    return image_tree(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def groups_of(images: ImageSet) -> dict[str, str]:
    assert images.groups is not None
    assert images.groups.dtype.kind == "U"
    return dict(zip(images.ids, images.groups.tolist(), strict=True))


# --- manifests


def test_manifest_csv_groups_are_stripped_text(root: Path) -> None:
    lines = ["07, c.jpg", "7,a.jpg", " 07 ,b.jpg", '"x, y",d.jpg']
    table = write_csv(root / "list.csv", "group,image_path,label", *(f"{x},cat" for x in lines[1:]))
    assert groups_of(open_images(table)) == {"a.jpg": "7", "b.jpg": "07", "d.jpg": "x, y"}


@pytest.mark.parametrize("missing", ["", "  ", "nan", "<NA>"])
def test_manifest_missing_group_is_its_own_group(root: Path, missing: str) -> None:
    rows = ["a.jpg,cat,p1", f"b.jpg,cat,{missing}", "c.jpg,dog,p1", f"d.jpg,dog,{missing}"]
    images = open_images(write_csv(root / "list.csv", "image_path,label,group", *rows))
    found = groups_of(images)
    assert found["a.jpg"] == found["c.jpg"] == "p1"
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (pa.array(["p1", None, "p1"]), "0b0"),
        (pa.array([1, None, 1]), "0b0"),
        (pa.array([1.0, float("nan"), 1.0]), "0b0"),
        (pa.array(["p1", "p2", "p1"]).dictionary_encode(), "010"),
        (pa.array(["p1", "p1", ""], pa.large_string()), "00c"),
        (pa.array([None, None, None], pa.string()), None),
        (pa.nulls(3), None),
    ],
)
def test_manifest_parquet_groups_are_text(
    root: Path, groups: pa.Array, expected: str | None
) -> None:
    table = root / "list.parquet"
    paths = ["a.jpg", "b.jpg", "c.jpg"]
    columns = {"image_path": paths, "label": ["cat", "dog", "dog"], "group": groups}
    parquet.write_table(pa.table(columns), table)
    images = open_images(table)
    assert images.ids == tuple(paths)
    if expected is None:
        assert images.groups is None
    else:
        assert images.groups is not None
        same = images.groups[:, None] == images.groups
        np.testing.assert_array_equal(same, np.array([*expected])[:, None] == [*expected])


def test_manifest_empty_group_column_gives_none(root: Path) -> None:
    assert open_images(write_csv(root / "l.csv", "image_path,label", "a.jpg,cat")).groups is None
    empty = write_csv(root / "l.csv", "image_path,label,group", "a.jpg,cat,", "b.jpg,dog,nan")
    assert open_images(empty).groups is None
    full = write_csv(root / "l.csv", "image_path,label,group", "a.jpg,cat,p1")
    assert open_images(full, labelled=False).groups is None
    assert open_images(root, labelled=False).groups is None


def test_folder_class_tree_has_no_groups(image_tree: Tree) -> None:
    assert open_images(image_tree(["cat/1.jpg", "dog/1.jpg"])).groups is None


def test_manifest_label_file_and_metadata_give_groups(image_tree: Tree, tmp_path: Path) -> None:
    root = image_tree(["train/1.jpg", "train/2.jpg", "test/1.jpg"])
    lines = ["train/1.jpg,cat,p1", "test/1.jpg,dog,p1"]
    table = write_csv(tmp_path / "labels.csv", "image_path,label,group", *lines)
    assert groups_of(open_images(root, labels=table)) == {"train/1.jpg": "p1", "test/1.jpg": "p1"}
    rows = ["file_name,label,group", "1.jpg,cat,p1"]
    write_csv(root / "train" / "metadata.csv", *rows, "2.jpg,dog,")
    write_csv(root / "test" / "metadata.csv", *rows)
    trained, tested = groups_of(open_images(root)), groups_of(open_images(root, split="test"))
    assert trained["train/1.jpg"] == tested["test/1.jpg"] == "p1"
    assert trained["train/2.jpg"] != "p1"


def test_manifest_split_keeps_its_groups(root: Path) -> None:
    lines = ["a.jpg,cat,train,p1", "b.jpg,cat,test,p2", "c.jpg,dog,train,p3"]
    table = write_csv(root / "list.csv", "image_path,label,split,group", *lines)
    assert groups_of(open_images(table)) == {"a.jpg": "p1", "c.jpg": "p3"}
    assert groups_of(open_images(table, split="test")) == {"b.jpg": "p2"}


def test_manifest_contradictory_groups_are_quarantined(root: Path) -> None:
    lines = ["a.jpg,cat,p2", "b.jpg,cat,p1", "./a.jpg,cat,p1", "a.jpg,cat,p2"]
    table = write_csv(root / "list.csv", "image_path,label,group", *lines)
    with pytest.warns(DataWarning, match="1 images are named with contradictory groups"):
        images = open_images(table)
    assert groups_of(images) == {"b.jpg": "p1"}
    assert images.quarantined == (Quarantined("a.jpg", "contradictory groups: 'p1' and 'p2'"),)
    with pytest.warns(DataWarning, match="2 rows repeat an image"):
        assert len(open_images(table, labelled=False)) == 2


def test_manifest_missing_group_contradicts_nothing(root: Path) -> None:
    lines = ["a.jpg,cat,", "a.jpg,cat,p1", "b.jpg,cat, p1", "b.jpg,cat,p1 "]
    table = write_csv(root / "list.csv", "image_path,label,group", *lines)
    with pytest.warns(DataWarning, match="2 rows repeat an image"):
        assert groups_of(open_images(table)) == {"a.jpg": "p1", "b.jpg": "p1"}


def test_manifest_labels_contradict_before_groups(root: Path) -> None:
    lines = ["a.jpg,cat,p1", "a.jpg,dog,p2", "b.jpg,cat,p1", "c.jpg,,p1", "gone.jpg,cat,p3"]
    table = write_csv(root / "list.csv", "image_path,label,group", *lines)
    with pytest.warns(DataWarning, match="contradictory") as caught:
        images = open_images(table)
    assert len(caught) == 2
    assert groups_of(images) == {"b.jpg": "p1"}
    assert [q.reason for q in images.quarantined] == [
        "contradictory labels: 'cat' and 'dog'",
        "no label",
        "no such file",
    ]


def test_manifest_quarantined_rows_leave_groups_in_place(root: Path) -> None:
    lines = ["gone.jpg,cat,p0", "d.jpg,cat,p1", ",cat,p2", "b.jpg,,p3", "c.jpg,cat,p4"]
    images = open_images(write_csv(root / "list.csv", "image_path,label,group", *lines))
    assert groups_of(images) == {"d.jpg": "p1", "c.jpg": "p4"}
    assert len(images.quarantined) == 3


def test_manifest_group_column_twice_raises(root: Path) -> None:
    table = write_csv(root / "list.csv", "image_path,label,group,group", "a.jpg,cat,p1,p2")
    with pytest.raises(DataError, match="2 columns called group: keep one"):
        open_images(table)


# --- in memory


@given(
    st.lists(st.sampled_from([None, "", " ", float("nan"), "a", "b", "b'", "c", 3, " a "])),
    st.permutations(["a", "b", "b'", "b''", "c", "d", "e", "3", "'", "x"]),
)
def test_group_names_any_are_distinct_for_missing(groups: list[object], own: list[str]) -> None:
    groups = groups[: len(own)]
    names = group_names(groups, own[: len(groups)]).tolist()
    given = [str(g).strip() if str(g).strip() not in ("", "nan", "None") else None for g in groups]
    for i, name in enumerate(names):
        assert name
        if given[i] is not None:
            assert name == given[i]
        else:
            assert names.count(name) == 1


def test_from_arrays_groups_become_text() -> None:
    sources = [b"1", b"2", b"3", b"4"]
    images = from_arrays(sources, groups=[7, None, np.int64(7), np.str_("p")])
    assert groups_of(images) == {
        "image-000000": "7",
        "image-000001": "image-000001",
        "image-000002": "7",
        "image-000003": "p",
    }
    assert from_arrays(sources).groups is None
    images = labelled_images(sources, [0, 1, 0, 1], groups=np.array([1, 1, 2, 2]))
    assert images.groups is not None
    assert images.groups.tolist() == ["1", "1", "2", "2"]
    assert labelled_images(sources, [0, 1, 0, 1]).groups is None
    assert unlabelled_images(images) is images


def test_labelled_images_groups_replace_those_of_image_set(image_tree: Tree) -> None:
    images = open_images(image_tree(["cat/p1 1.jpg", "cat/p1 2.jpg", "dog/p2 1.jpg"]))
    assert labelled_images(images, None) is images
    patients = [Path(i).name.partition(" ")[0] for i in images.ids]
    grouped = labelled_images(images, None, groups=patients)
    assert groups_of(grouped)["dog/p2 1.jpg"] == "p2"
    assert (grouped.ids, grouped.labels) == (images.ids, images.labels)
    again = labelled_images(grouped, None, groups=["x", "y", "z"])
    assert list(groups_of(again).values()) == ["x", "y", "z"]
    with pytest.raises(DataError, match="3 images but 1 groups"):
        labelled_images(images, None, groups=["p1"])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["p1"], "2 images but 1 groups: give one group per image"),
        (["p1", "p2", "p3"], "2 images but 3 groups"),
        ("p1", "groups must be a list, got 'p1'"),
        (["p1", ["p2"]], r"groups\[1\] is a list: give one group per image"),
        (np.eye(2), r"groups\[0\] is a ndarray"),
    ],
)
def test_labelled_images_groups_that_do_not_fit_raise(groups: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled_images([b"1", b"2"], ["cat", "dog"], groups=groups)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        stratified_split(["cat", "dog"], groups=groups)  # type: ignore[arg-type]


def test_labelled_images_groups_for_folder_raise(root: Path) -> None:
    with pytest.raises(DataError, match="column group of a manifest; for a list of groups give"):
        labelled_images(root, None, groups=["p1"])


def test_image_set_groups_are_checked_and_kept() -> None:
    groups = np.array(["p", "q", "p"])
    images = ImageSet(("a", "b", "c"), (b"1", b"2", b"3"), None, groups=groups)
    assert groups_of(images.subset([2, 1])) == {"c": "p", "b": "q"}
    assert groups_of(images.subset(np.array([False, True, False]))) == {"b": "q"}
    assert groups_of(images.subset([])) == {}
    with pytest.raises(DataError, match=r"groups must have shape \(2,\), got \(3,\)"):
        ImageSet(("a", "b"), (b"1", b"2"), None, groups=groups)


# --- splits


@st.composite
def grouped_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of images; groups of one class and of several, large and small."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = rng.integers(0, draw(st.integers(1, n)), n)
    if draw(st.booleans()):
        return rng.integers(0, draw(st.integers(1, 5)), n), groups
    return groups % draw(st.integers(1, 5)), groups


def groups_by_class(labels: np.ndarray, groups: np.ndarray) -> dict[int, set[int]]:
    return {c: set(groups[labels == c].tolist()) for c in labels.tolist()}


@given(grouped_labels(), st.floats(0.02, 0.98), st.integers(0, 2**32 - 1))
def test_stratified_split_groups_stay_on_one_side(
    case: tuple[np.ndarray, np.ndarray], test_size: float, seed: int
) -> None:
    labels, groups = case
    by_class = groups_by_class(labels, groups)
    alone = {g for members in by_class.values() if len(members) == 1 for g in members}
    try:
        train, test = stratified_split(
            labels, test_size=test_size, random_state=seed, groups=groups
        )
    except DataError as error:
        few = len(set(groups.tolist())) < 2
        assert ("at least two groups" in str(error)) == few
        assert alone >= set(groups.tolist())  # every group is the only one of some class
        return
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert len(test) > 0
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    assert not set(groups[train].tolist()) & set(groups[test].tolist())
    assert set(labels[train].tolist()) == set(labels.tolist())
    assert not alone & set(groups[test].tolist())
    again = stratified_split(labels, test_size=test_size, random_state=seed, groups=groups)
    np.testing.assert_array_equal(again[1], test)


@given(grouped_labels(), st.floats(0.1, 0.9))
def test_stratified_split_no_single_move_improves(
    case: tuple[np.ndarray, np.ndarray], test_size: float
) -> None:
    labels, groups = case
    try:
        _, test = stratified_split(labels, test_size=test_size, groups=groups)
    except DataError:
        return
    by_class = groups_by_class(labels, groups)
    tested = set(groups[test].tolist())

    def error(chosen: set[int]) -> float:
        total = 0.0
        for c, members in by_class.items():
            if len(members) > 1:
                n = (labels == c).sum()
                k = np.isin(groups[labels == c], list(chosen)).sum()
                total += (k - test_size * n) ** 2 / n
        return total

    for group in set(groups.tolist()):
        moved = tested ^ {group}
        trained = all(members - moved for members in by_class.values())
        if moved and trained:
            assert error(moved) >= error(tested) - 1e-6


@pytest.mark.parametrize("test_size", [0.1, 0.25, 0.3, 0.5, 0.8])
def test_stratified_split_uneven_groups_keep_proportions(test_size: float) -> None:
    """Forty patients of 1 to 30 images, each with its own mixture of four classes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 31, 40)
    groups = np.repeat(np.arange(40), sizes)
    labels = np.concatenate([rng.choice(4, s, p=rng.dirichlet(np.ones(4))) for s in sizes])
    n = np.bincount(labels)
    for seed in range(10):
        _, test = stratified_split(labels, test_size=test_size, random_state=seed, groups=groups)
        share = np.bincount(labels[test], minlength=4) / n
        np.testing.assert_allclose(share, test_size, atol=0.03)


@pytest.mark.parametrize("test_size", [0.1, 0.25, 0.3])
def test_stratified_split_many_classes_beats_scikit_learn(test_size: float) -> None:
    """One hundred classes of five groups; how far each class is from `test_size`, on average."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(500), rng.integers(1, 8, 500))
    labels = groups % 100
    n = np.bincount(labels)

    def miss(test: np.ndarray) -> float:
        return float(np.abs(np.bincount(labels[test], minlength=100) / n - test_size).mean())

    ours = miss(stratified_split(labels, test_size=test_size, groups=groups)[1])
    shuffle = GroupShuffleSplit(100, test_size=test_size, random_state=0)
    folds = StratifiedGroupKFold(round(1 / test_size), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ten folds of five groups
        for splitter in (shuffle, folds):
            best = min(miss(test) for _, test in splitter.split(labels, labels, groups))
            assert ours < 0.75 * best
    assert ours < 0.04


def test_stratified_split_groups_of_one_equal_no_groups() -> None:
    labels = np.repeat(["cat", "dog", "emu"], [60, 30, 10])
    _, test = stratified_split(labels, test_size=0.3, groups=[None] * 100)
    assert np.unique(labels[test], return_counts=True)[1].tolist() == [18, 9, 3]


def test_stratified_split_seed_decides_names_do_not() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 30, 200)
    labels = rng.integers(0, 3, 200)
    splits = [stratified_split(labels, random_state=s, groups=groups)[1] for s in (3, 3, 4)]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert splits[0].tolist() != splits[2].tolist()
    named = [f"patient {g:03d}" for g in groups]
    again = stratified_split(labels, random_state=3, groups=named)[1]
    np.testing.assert_array_equal(again, splits[0])


def test_stratified_split_only_group_of_a_class_is_trained_on() -> None:
    labels = ["cat", "emu", "cat", "dog", "cat", "dog", "cat"]
    groups = ["p1", "p1", "p2", "p2", "p3", "p3", "p2"]
    for seed in range(10):
        train, test = stratified_split(labels, test_size=0.5, random_state=seed, groups=groups)
        assert {0, 1} <= set(train.tolist())
        assert test.tolist() in ([2, 3, 6], [4, 5])


def test_stratified_split_large_test_part_keeps_every_class() -> None:
    labels = np.arange(80) % 40  # forty classes of two groups
    train, test = stratified_split(labels, test_size=0.98, groups=np.arange(80))
    assert sorted(labels[train]) == sorted(labels[test]) == list(range(40))


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([], [], "0 images of 0 groups: at least two groups are needed"),
        (["cat", "dog"], ["p1", "p1"], "2 images of 1 group: at least two groups"),
        (["cat", "dog"], ["p1", "p2"], "2 groups: each group is the only one of some class"),
        (["cat", "dog"], ["p1", None], "each group is the only one of some class"),
    ],
)
def test_stratified_split_impossible_groups_raise(
    labels: list[str], groups: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        stratified_split(labels, groups=groups)


def test_stratified_split_bad_arguments_raise_before_groups() -> None:
    with pytest.raises(DataError, match="without labels"):
        stratified_split(None, groups=["p1", "p2"])
    with pytest.raises(DataError, match="test_size must be between 0 and 1"):
        stratified_split(["cat", "cat"], test_size=1, groups=["p1", "p2"])


def test_stratified_split_manifest_groups_stay_together(root: Path) -> None:
    lines = ["a.jpg,cat,p1", "b.jpg,dog,p1", "c.jpg,cat,p2", "d.jpg,dog,p2"]
    images = open_images(write_csv(root / "list.csv", "image_path,label,group", *lines))
    train, test = stratified_split(images.labels, test_size=0.5, groups=images.groups)
    parts = [images.subset(part) for part in (train, test)]
    assert sorted(set(groups_of(part).values()).pop() for part in parts) == ["p1", "p2"]
    assert [len(part) for part in parts] == [2, 2]
