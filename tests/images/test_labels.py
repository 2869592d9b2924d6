"""Names, numbers and sets: told apart by where labels come from; types that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from toptune.errors import DataError
from toptune.features import Features
from toptune.images import ImageSet, from_arrays, labelled_images, open_images
from toptune.images.labels import kind_of_column, set_of, set_text
from toptune.runtime.tensor_file import load_tensors, save_tensors

PIXELS = np.zeros((3, 8, 8, 3), dtype=np.uint8)
NAMES = st.text(st.characters(exclude_characters=";"), min_size=1).filter(lambda s: s.strip())


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([0.0, 0.33, 1.0], "number"),
        (np.array([0.5, 1, 2], dtype=np.float32), "number"),
        ([1, 2, 2.5], "number"),
        ([1.0, 2.0, 3.0], "class"),  # whole numbers may be classes
        ([1, 2, 3], "class"),
        ([True, False, True], "class"),
        (["0.0", "0.33", "1.0"], "class"),  # text in memory was meant as text
        (["a", "b", "a"], "class"),
        (["a;b", "b", "a"], "set"),
        ([["a", "b"], ["b"], []], "set"),
        ([{"a", "b"}, frozenset("b"), ("a",)], "set"),
    ],
)
def test_label_kind_in_memory_follows_values(labels: Any, kind: str) -> None:
    images = labelled_images(PIXELS, labels)
    assert images.label_kind == kind
    assert images.subset([2, 0]).label_kind == kind


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["0.0", "0.33", "1.0"], "number"),
        (["1", "2", "-3e-1"], "number"),
        (["1.0", "2.0", "3"], "class"),
        (["007", "12", "3"], "class"),
        (["1.5", "2", "poly"], "class"),
        (["1_0.5", "2", "3"], "class"),  # Python would take it for a number
        (["a;b", "b", "a"], "set"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_label_kind_manifest_follows_text(
    image_tree: Callable[..., Path], labels: list[str], kind: str, suffix: str
) -> None:
    root = image_tree(["1.png", "2.png", "3.png"])
    table = pa.table({"image_path": ["1.png", "2.png", "3.png"], "label": labels})
    path = root / f"list{suffix}"
    if suffix == ".csv":
        rows = [f"{k + 1}.png,{label}" for k, label in enumerate(labels)]
        path.write_text("\n".join(["image_path,label", *rows]))
    else:
        parquet.write_table(table, path)
    images = open_images(path)
    assert images.label_kind == kind
    assert images.labels is not None
    assert images.labels.tolist() == labels
    assert open_images(path, labelled=False).label_kind == "class"


def test_label_kind_parquet_numbers_follow_values(image_tree: Callable[..., Path]) -> None:
    root = image_tree(["1.png", "2.png"])
    parquet.write_table(
        pa.table({"file_name": ["1.png", "2.png"], "label": [0.1, 1.0]}), root / "list.parquet"
    )
    images = open_images(root / "list.parquet")
    assert images.label_kind == "number"
    assert images.labels is not None
    assert [float(text) for text in images.labels] == [0.1, 1.0]


def test_label_kind_folder_names_are_classes(image_tree: Callable[..., Path]) -> None:
    """The four grades of a data set of solar cells, as folders, stay classes."""
    assert open_images(image_tree(["0.0/1.png", "0.33/2.png"])).label_kind == "class"
    assert open_images(image_tree(["a;b/1.png", "c/2.png"], root="other")).label_kind == "class"


@given(names=st.sets(NAMES))
def test_set_of_set_text_round_trips(names: set[str]) -> None:
    assert set_of(set_text(names)) == {name.strip() for name in names}
    assert kind_of_column([set_text(names), ";"]) == "set"


def test_from_arrays_sets_are_written_in_one_way() -> None:
    images = from_arrays(PIXELS, [["b", "a", "b"], ("a ", "b"), set()])
    assert images.labels is not None
    assert images.labels.tolist() == ["a;b", "a;b", ";"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1, 0], [1, 1]], r"must hold names without ';', as text; got 0"),
        ([["a;b"], ["a"], []], "got 'a;b'"),
        ([["a", " "], ["a"], []], "got ' '"),
        ([["a"], None, []], r"labels\[1\] is missing \(None\)"),
        ([["a"], ["b"]], "3 images but 2 labels"),
    ],
)
def test_set_text_bad_names_raise(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled_images(PIXELS, labels)


def test_features_file_keeps_label_kind(tmp_path: Path) -> None:
    features = Features(
        X=np.zeros((2, 1), np.float32),
        ids=("a", "b"),
        labels=np.array(["0.5", "1"]),
        layers={"last": 1},
        label_kind="number",
    )
    features.save(tmp_path / "f")
    assert Features.load(tmp_path / "f").label_kind == "number"
    assert features.subset(np.array([1])).label_kind == "number"
    tensors, document = load_tensors(tmp_path / "f", kind="features", format_version=1, required=())
    del document["kind"], document["format_version"], document["label_kind"]
    save_tensors(tmp_path / "old", tensors, document, kind="features", format_version=1)
    assert Features.load(tmp_path / "old").label_kind == "class"
    document["label_kind"] = "colour"
    save_tensors(tmp_path / "bad", tensors, document, kind="features", format_version=1)
    with pytest.raises(ValueError, match="its description is damaged"):
        Features.load(tmp_path / "bad")


def test_image_set_label_kind_defaults_to_class() -> None:
    assert ImageSet(("a",), (b"",), np.array(["0.5"])).label_kind == "class"


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.array([3, 1, 1], np.int32), "int32"),
        ([True, False, True], "bool"),
        (["cat", "dog", "cat"], "<U3"),
        (np.array(["cat", "dog", "cat"], object), "<U3"),
        ([Path("b"), Path("a"), Path("b")], "<U1"),
        ([["cat"], [], ["cat", "dog"]], "<U7"),
    ],
)
def test_from_arrays_labels_keep_dtype(labels: Any, dtype: str) -> None:
    images = labelled_images(PIXELS[:3], labels)
    assert images.labels is not None
    assert images.labels.dtype == np.dtype(dtype)
    assert images.subset([2, 0]).labels is not None
    text = images.with_text_labels().labels
    assert text is not None
    assert text.tolist() == [str(label) for label in images.labels]
