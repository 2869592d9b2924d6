"""CSV and Parquet manifests, metadata.csv, labels in a file of their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from toptune import DataError
from toptune.errors import DataWarning
from toptune.images import ImageSet, Quarantined, open_images, splits_of

Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


@pytest.fixture
def root(image_tree: Tree) -> Path:
    return image_tree(["a.jpg", "b.jpg", "c.jpg", "sub dir/ü.jpg"])


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pairs(images: ImageSet) -> list[tuple[str, str]]:
    assert images.labels is not None
    return list(zip(images.ids, images.labels.tolist(), strict=True))


@pytest.mark.parametrize("column", ["image_path", "file_name"])
def test_manifest_csv_keeps_order_and_text(root: Path, column: str) -> None:
    table = write_csv(
        root / "list.csv",
        f"weight,label,{column}",
        "1,007,c.jpg",
        "2,1.50,a.jpg",
        'heavy,"x, y",sub dir/ü.jpg',
        "4,true,b.jpg",
    )
    images = open_images(table)
    expected = [("c.jpg", "007"), ("a.jpg", "1.50"), ("sub dir/ü.jpg", "x, y"), ("b.jpg", "true")]
    assert pairs(images) == expected
    assert images.sources[2] == str(root / "sub dir" / "ü.jpg")
    assert splits_of(table) == ()


def test_manifest_bom_and_crlf_are_read(root: Path) -> None:
    table = root / "list.csv"
    table.write_bytes(b"\xef\xbb\xbfimage_path,label\r\na.jpg,cat\r\n")
    assert pairs(open_images(table)) == [("a.jpg", "cat")]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array(["007", "cat"]), ["007", "cat"]),
        (pa.array([7, 8]), ["7", "8"]),
        (pa.array(["cat", "dog"]).dictionary_encode(), ["cat", "dog"]),
        (pa.array([3, 4]).dictionary_encode(), ["3", "4"]),
        (pa.array(["cat", "dog"], pa.large_string()), ["cat", "dog"]),
        (pa.array([True, False]), ["true", "false"]),
    ],
)
def test_manifest_parquet_labels_become_text(
    root: Path, labels: pa.Array, expected: list[str]
) -> None:
    folder = root / "split=train"  # looks like a partition, and is none
    folder.mkdir()
    table = folder / "list.parquet"
    paths = [str(root / "a.jpg"), "../b.jpg"]
    parquet.write_table(pa.table({"image_path": paths, "label": labels}), table)
    images = open_images(table)
    assert images.ids == tuple(paths)
    assert images.labels is not None
    assert images.labels.tolist() == expected


def test_manifest_parquet_null_labels_are_quarantined(root: Path) -> None:
    table = root / "list.parquet"
    labels = pa.array([1.0, float("nan"), None])
    parquet.write_table(
        pa.table({"file_name": ["a.jpg", "b.jpg", "c.jpg"], "label": labels}), table
    )
    images = open_images(table)
    assert images.ids == ("a.jpg",)
    assert {q.id for q in images.quarantined} == {"b.jpg", "c.jpg"}


def test_manifest_split_column_selects_rows(root: Path) -> None:
    table = write_csv(
        root / "list.csv",
        "image_path,label,split",
        "a.jpg,cat,train",
        "b.jpg,dog,validation",
        "c.jpg,cat,Test",
    )
    assert splits_of(table) == ("train", "val", "test")
    assert pairs(open_images(table)) == [("a.jpg", "cat")]
    assert pairs(open_images(table, split="valid")) == [("b.jpg", "dog")]
    assert pairs(open_images(table, split="test")) == [("c.jpg", "cat")]
    assert open_images(table, labelled=False).ids == ("a.jpg", "b.jpg", "c.jpg")


def test_manifest_absent_split_raises(root: Path) -> None:
    lines = ["image_path,label,split", "a.jpg,cat,test", "b.jpg,cat,"]
    table = write_csv(root / "list.csv", *lines)
    with pytest.raises(DataError, match=r"list\.csv has no split 'train': choose from test"):
        open_images(table)
    plain = write_csv(root / "plain.csv", "image_path,label", "a.jpg,cat")
    with pytest.raises(DataError, match="has no splits"):
        open_images(plain, split="test")


def test_manifest_empty_split_column_is_none(root: Path) -> None:
    table = write_csv(root / "list.csv", "image_path,label,split", "a.jpg,cat,", "b.jpg,dog,")
    assert splits_of(table) == ()
    assert len(open_images(table)) == 2


def test_manifest_unknown_split_rows_warn(root: Path) -> None:
    table = write_csv(
        root / "list.csv", "image_path,label,split", "a.jpg,cat,train", "b.jpg,cat,spare"
    )
    with pytest.warns(DataWarning, match=r"left out 1 rows of no known split \('spare'\)"):
        assert open_images(table).ids == ("a.jpg",)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label", r"no column image_path or file_name; its columns are: path, label"),
        ("image_path,class", r"no column label; its columns are: image_path, class"),
        ("image_path;label", r"no column image_path or file_name; .*: image_path;label"),
        ("image_path,label,label", "2 columns called label"),
    ],
)
def test_manifest_missing_columns_are_named(root: Path, header: str, message: str) -> None:
    row = ",".join(["a.jpg"] * (header.count(",") + 1))
    with pytest.raises(DataError, match=message):
        open_images(write_csv(root / "list.csv", header, row))


def test_manifest_unlabelled_needs_no_labels(root: Path) -> None:
    images = open_images(write_csv(root / "list.csv", "image_path", "a.jpg"), labelled=False)
    assert (images.ids, images.labels) == (("a.jpg",), None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("ragged.csv", b"image_path,label\na.jpg,cat,dog\n"),
        ("latin.csv", b"image_path,label\na.jpg,caf\xe9\n"),
        ("text.parquet", b"image_path,label\na.jpg,cat\n"),
        ("empty.parquet", b""),
    ],
)
def test_manifest_no_table_raises(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read manifest .*{name}: ") as caught:
        open_images(root / name)
    assert "\n" not in str(caught.value)


def test_manifest_without_rows_raises(root: Path) -> None:
    with pytest.raises(DataError, match="names no images"):
        open_images(write_csv(root / "list.csv", "image_path,label"))


# --- rows that cannot be used


def test_manifest_missing_files_are_quarantined(root: Path) -> None:
    (root / "link.jpg").symlink_to(root / "gone.jpg")
    (root / "folder.jpg").mkdir()
    lines = ["a.jpg,cat", "gone.jpg,dog", "link.jpg,dog", "folder.jpg,dog", ",dog"]
    images = open_images(write_csv(root / "list.csv", "image_path,label", *lines))
    assert images.ids == ("a.jpg",)
    assert set(images.quarantined) == {
        Quarantined("gone.jpg", "no such file"),
        Quarantined("link.jpg", "broken symbolic link"),
        Quarantined("folder.jpg", "is a directory"),
        Quarantined("row 5", "no path in the manifest"),
    }


def test_manifest_all_files_missing_names_folders(root: Path) -> None:
    table = write_csv(root / "list.csv", "image_path,label", "x/1.jpg,cat", "x/2.jpg,dog")
    with pytest.raises(DataError, match=r"none of the 2 files .*'x/1\.jpg': .* looked up in") as e:
        open_images(table)
    assert str(root) in str(e.value)


def test_manifest_nothing_usable_names_first_reason(root: Path) -> None:
    table = write_csv(root / "list.csv", "image_path,label", "a.jpg,", "gone.jpg,dog")
    with pytest.raises(DataError, match=r"2 images and none can be used; .*'a\.jpg': no label"):
        open_images(table)


def test_manifest_missing_labels_are_quarantined(root: Path) -> None:
    lines = ["a.jpg,cat", "b.jpg,", "c.jpg,NaN", "sub dir/ü.jpg,  "]
    images = open_images(write_csv(root / "list.csv", "image_path,label", *lines))
    assert pairs(images) == [("a.jpg", "cat")]
    assert [q.reason for q in images.quarantined] == ["no label"] * 3


def test_manifest_repeated_rows_are_kept_once(root: Path) -> None:
    lines = ["a.jpg,cat", "b.jpg,dog", "./a.jpg,cat", f"{root}/a.jpg,cat", "b.jpg,"]
    table = write_csv(root / "list.csv", "image_path,label", *lines)
    with pytest.warns(DataWarning, match="3 rows repeat an image with the same label"):
        images = open_images(table)
    assert pairs(images) == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert images.quarantined == ()


def test_manifest_contradictory_labels_are_quarantined(root: Path) -> None:
    lines = ["a.jpg,dog", "b.jpg,cat", "./a.jpg,cat", "a.jpg,dog"]
    table = write_csv(root / "list.csv", "image_path,label", *lines)
    with pytest.warns(DataWarning, match="1 images are named with contradictory labels"):
        images = open_images(table)
    assert pairs(images) == [("b.jpg", "cat")]
    assert images.quarantined == (Quarantined("a.jpg", "contradictory labels: 'cat' and 'dog'"),)


def test_manifest_image_in_two_splits_is_no_contradiction(root: Path) -> None:
    lines = ["a.jpg,cat,train", "a.jpg,dog,test"]
    table = write_csv(root / "list.csv", "image_path,label,split", *lines)
    assert pairs(open_images(table)) == [("a.jpg", "cat")]
    assert pairs(open_images(table, split="test")) == [("a.jpg", "dog")]


# --- metadata.csv


def test_open_images_folder_with_metadata_uses_it(root: Path) -> None:
    write_csv(root / "metadata.csv", "file_name,label", "b.jpg,dog", "sub dir/ü.jpg,cat")
    assert pairs(open_images(root)) == [("b.jpg", "dog"), ("sub dir/ü.jpg", "cat")]
    assert len(open_images(root, labelled=False)) == 4


def test_open_images_metadata_with_splits_selects_rows(root: Path) -> None:
    write_csv(root / "metadata.csv", "file_name,label,split", "a.jpg,cat,train", "b.jpg,cat,test")
    assert splits_of(root) == ("train", "test")
    assert open_images(root, split="test").ids == ("b.jpg",)


def test_open_images_metadata_in_split_folders_is_used(image_tree: Tree) -> None:
    root = image_tree(["train/images/1.jpg", "test/images/1.jpg"])
    for split in ("train", "test"):
        write_csv(root / split / "metadata.csv", "file_name,label", f"images/1.jpg,{split}ed")
    assert pairs(open_images(root)) == [("train/images/1.jpg", "trained")]
    assert pairs(open_images(root, split="test")) == [("test/images/1.jpg", "tested")]


def test_open_images_metadata_beside_class_folders_warns(image_tree: Tree) -> None:
    root = image_tree(["cat/1.jpg"])
    write_csv(root / "metadata.csv", "id,age", "1,3")
    with pytest.warns(DataWarning, match=r"metadata\.csv has no columns file_name and label"):
        assert pairs(open_images(root)) == [("cat/1.jpg", "cat")]


def test_open_images_metadata_without_labels_raises(image_tree: Tree) -> None:
    root = image_tree(["1.jpg"])
    write_csv(root / "metadata.csv", "file_name,text", "1.jpg,a cat")
    with pytest.raises(DataError, match="no column label; its columns are: file_name, text"):
        open_images(root)


# --- labels in a file of their own


def test_open_images_label_file_starts_from_data_folder(root: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "labels.csv", "image_path,label,split", "a.jpg,cat,train")
    images = open_images(root, labels=table)
    assert pairs(images) == [("a.jpg", "cat")]
    assert images.sources == (str(root / "a.jpg"),)
    assert splits_of(root, labels=table) == ("train",)
    assert splits_of(root) == ()


def test_open_images_label_file_falls_back_to_own_folder(image_tree: Tree) -> None:
    data = image_tree(["a.jpg"], root="data")
    other = image_tree(["a.jpg", "b.jpg"], root="other")
    table = write_csv(other / "labels.csv", "image_path,label", "a.jpg,cat", "b.jpg,dog", "c.jpg,x")
    images = open_images(data, labels=table)
    assert images.sources == (str(data / "a.jpg"), str(other / "b.jpg"))
    assert images.quarantined == (Quarantined("c.jpg", "no such file"),)


def test_open_images_label_file_for_a_file_raises(root: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "labels.csv", "image_path,label", "a.jpg,cat")
    with pytest.raises(DataError, match=r"labels\.csv must be a folder"):
        open_images(table, labels=table)
    with pytest.raises(DataError, match=r"a\.jpg is no manifest: give a \.csv or \.parquet"):
        open_images(root, labels=root / "a.jpg")
    with pytest.raises(DataError, match="no such file or folder"):
        open_images(root, labels=tmp_path / "gone.csv")


def test_manifest_many_rows_keep_order(root: Path) -> None:
    rows = [f"{name}.jpg,{label}" for name, label in zip("abc", "xyz", strict=True)]
    table = write_csv(root / "list.csv", "image_path,label", *rows * 2000)
    with pytest.warns(DataWarning, match="5997 rows repeat"):
        images = open_images(table)
    assert pairs(images) == [("a.jpg", "x"), ("b.jpg", "y"), ("c.jpg", "z")]
    np.testing.assert_array_equal(images.labels, ["x", "y", "z"])
