"""Features and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from toptune.errors import DataError, ModelFileError, StorageError
from toptune.features import Features
from toptune.images import Quarantined
from toptune.runtime.tensor_file import save_tensors


def features(*, labelled: bool = True, grouped: bool = False) -> Features:
    return Features(
        X=np.arange(12, dtype=np.float32).reshape(3, 4),
        ids=("cat/ä b.jpg", "cat/2.jpg", "狗/1.png"),
        labels=np.array(["cat", "cat", "狗"]) if labelled else None,
        layers={"middle": 1, "last": 3},
        provenance={"backbone": "net", "layers": {"last": 3}},
        quarantined=(Quarantined("cat/3.jpg", "truncated"),),
        seconds=1.5,
        groups=np.array(["p 1", "狗", "p 1"]) if grouped else None,
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_features_saved_and_loaded_are_equal(labelled: bool, tmp_path: Path) -> None:
    before = features(labelled=labelled)
    before.save(tmp_path / "f.safetensors")
    after = Features.load(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(after.X, before.X)
    assert after.X.dtype == np.float32
    if labelled:
        assert after.labels.tolist() == before.labels.tolist()
    else:
        assert after.labels is None
    for name in ("ids", "layers", "provenance", "quarantined", "seconds"):
        assert getattr(after, name) == getattr(before, name), name
    assert list(after.layers) == ["middle", "last"]
    assert len(after) == 3


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_features_groups_round_trip(half: bool, mapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    features(grouped=True).save(path, half=half)
    after = Features.load(path, mapped=mapped)
    assert after.groups is not None
    assert after.groups.dtype.kind == "U"
    assert after.groups.tolist() == ["p 1", "狗", "p 1"]
    assert after.layers == {"middle": 1, "last": 3}
    assert bytes(load_file(path)["image_groups"]).decode() == '["p 1", "狗", "p 1"]'


def test_features_file_without_groups_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "f.safetensors"
    features().save(path)
    assert set(load_file(path)) == {"features", "ids", "labels"}  # as files always were
    assert Features.load(path).groups is None
    # What makes groups readable for those who know nothing of them.
    tensors = {"features": np.zeros((1, 4), np.float32), "ids": np.frombuffer(b'["a"]', np.uint8)}
    document = {"groups": [["last", 4]], "provenance": {}, "quarantined": [], "seconds": 0}
    strange = {**tensors, "strange": np.zeros(3, np.uint8)}
    save_tensors(path, strange, document, kind="features", format_version=1)
    assert Features.load(path).ids == ("a",)
    wrong = {**tensors, "image_groups": np.frombuffer(b'["a", "b"]', np.uint8)}
    save_tensors(path, wrong, document, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match=r"groups must have shape \(1,\), got \(2,\)"):
        Features.load(path)


def test_features_empty_or_fortran_ordered_round_trip(tmp_path: Path) -> None:
    nothing = Features(X=np.zeros((0, 4), np.float32), ids=(), labels=None, layers={"last": 4})
    nothing.save(tmp_path / "f.safetensors")
    assert Features.load(tmp_path / "f.safetensors").X.shape == (0, 4)
    turned = Features(**{**vars(features()), "X": np.asfortranarray(features().X)})
    turned.save(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(Features.load(tmp_path / "f.safetensors").X, features().X)


def test_features_other_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    with pytest.raises(ModelFileError, match="no features file at"):
        Features.load(path)
    path.write_bytes(b"garbage" * 30)
    with pytest.raises(ModelFileError, match="is damaged or no features file"):
        Features.load(path)
    tensors = {"features": np.zeros((0, 4), np.float32)}
    save_tensors(path, tensors, {}, kind="model", format_version=1)
    with pytest.raises(ModelFileError, match="holds toptune model, but a features file is needed"):
        Features.load(path)
    save_tensors(path, tensors, {}, kind="features", format_version=2)
    with pytest.raises(ModelFileError, match="has format version 2"):
        Features.load(path)
    save_tensors(path, tensors, {}, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match="lacks the tensors ids"):
        Features.load(path)


@pytest.mark.parametrize("ids", [b"[", b'"a"x', b"\xff\xfe"])
def test_features_damaged_names_raise(ids: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    tensors = {
        "features": np.zeros((1, 4), np.float32),
        "ids": np.frombuffer(ids, dtype=np.uint8),
    }
    document = {"groups": [["last", 4]], "provenance": {}, "quarantined": [], "seconds": 0}
    save_tensors(path, tensors, document, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match="its description is damaged"):
        Features.load(path)


def test_features_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere.f\.safetensors"):
        features().save(tmp_path / "nowhere" / "f.safetensors")


def test_features_tensor_is_readable_by_safetensors(tmp_path: Path) -> None:
    features().save(tmp_path / "f.safetensors")
    tensors = load_file(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(tensors["features"], features().X)
    assert bytes(tensors["labels"]).decode() == '["cat", "cat", "狗"]'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("a",)}, r"must have shape \(1, 4\)"),
        ({"layers": {"last": 3}}, r"must have shape \(3, 3\)"),
        ({"labels": np.array(["a"])}, r"labels must have shape \(3,\), got \(1,\)"),
        ({"groups": np.array(["a"])}, r"groups must have shape \(3,\), got \(1,\)"),
    ],
)
def test_features_wrong_lengths_raise(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Features(**{**vars(features()), **change})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"groups": [["last", 9]], "provenance": {}, "quarantined": [], "seconds": 0},
        {"groups": [["last", 4]], "provenance": {}, "quarantined": [{"id": 1}], "seconds": 0},
        {"groups": 4, "provenance": {}, "quarantined": [], "seconds": 0},
    ],
)
def test_features_damaged_description_is_named(document: dict, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    ids = np.frombuffer(b'["a"]', dtype=np.uint8)
    tensors = {"features": np.zeros((1, 4), np.float32), "ids": ids}
    save_tensors(path, tensors, document, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match="its description is damaged"):
        Features.load(path)


# ------------------------------------------------------------------------- half, and left on disk


@pytest.mark.parametrize("half", [False, True])
def test_features_mapped_stay_in_their_file(half: bool, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    before = features()
    before.save(path, half=half)
    after = Features.load(path, mapped=True)
    assert isinstance(after.X, np.memmap)
    assert after.X.dtype == (np.float16 if half else np.float32)
    np.testing.assert_array_equal(after.X, before.X)
    np.testing.assert_array_equal(after.X, Features.load(path).X)
    assert after.ids == before.ids
    assert after.labels is not None
    nothing = Features(X=np.zeros((0, 4), np.float32), ids=(), labels=None, layers={"last": 4})
    nothing.save(path)
    assert Features.load(path, mapped=True).X.shape == (0, 4)


def test_features_beyond_float16_raise(tmp_path: Path) -> None:
    large = Features(**{**vars(features()), "X": features().X * 1e4})
    with pytest.raises(DataError, match="beyond the range of float16"):
        large.save(tmp_path / "f.safetensors", half=True)
    assert not (tmp_path / "f.safetensors").exists()
    large.save(tmp_path / "f.safetensors")


def test_features_other_dtype_cannot_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    tensors = {"features": np.arange(6).reshape(3, 2), "ids": np.zeros(2, np.uint8)}
    save_tensors(path, tensors, {}, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match="damaged"):
        Features.load(path, mapped=True)


# ---------------------------------------------------------------------------------------- subset


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    "rows", [np.array([2, 0]), np.array([], dtype=np.intp), np.array([False, True, True])]
)
def test_features_subset_keeps_rows(rows: np.ndarray, grouped: bool, labelled: bool) -> None:
    whole = features(labelled=labelled, grouped=grouped)
    found = whole.subset(rows)
    chosen = np.arange(3)[rows].tolist()
    assert len(found) == len(chosen)
    assert found.ids == tuple(whole.ids[i] for i in chosen)
    np.testing.assert_array_equal(found.X, whole.X[rows])
    for name, given in (("labels", labelled), ("groups", grouped)):
        values, part = getattr(whole, name), getattr(found, name)
        assert (part is not None) == given
        if given:
            assert part.tolist() == [values[i] for i in chosen]
    for name in ("layers", "provenance", "quarantined", "seconds"):
        assert getattr(found, name) == getattr(whole, name)
    assert len(whole) == 3


def test_features_image_groups_warns_and_returns_groups() -> None:
    grouped = features(grouped=True)
    with pytest.warns(FutureWarning, match=r"image_groups.*groups"):
        assert grouped.image_groups is grouped.groups  # type: ignore[attr-defined]
