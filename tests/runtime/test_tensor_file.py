"""Tensor files: the round trip, whole files or none, and files that cannot be read."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from toptune.errors import ModelFileError, StorageError
from toptune.runtime.tensor_file import load_tensors, save_tensors

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    # No surrogates: they are no characters, and no UTF-8 file can hold them.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner),
    max_leaves=8,
)


def write(path: Path, document: dict[str, Any] | None = None, **tensors: np.ndarray) -> Path:
    save_tensors(path, tensors or {"a": np.ones(2)}, document or {}, kind="model", format_version=3)
    return path


def read(path: Path, *required: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return load_tensors(path, kind="model", format_version=3, required=required)


# ------------------------------------------------------------------------------- the round trip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (3, 4), (0, 4), (2, 3, 2)])
def test_tensors_come_back_bit_by_bit(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = (100 * np.random.default_rng(0).random(shape)).astype(dtype)
    (found,) = read(write(tmp_path / "m", t=values), "t")[0].values()
    assert (found.dtype, found.shape) == (values.dtype, shape)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "view",
    [
        lambda A: A.T,
        lambda A: A[::2, 1:],
        lambda A: np.asfortranarray(A),
        lambda A: A.astype(">f8"),
        lambda A: A[0, 0, ...],
    ],
    ids=["transposed", "strided", "fortran", "big-endian", "zero-dimensional"],
)
def test_the_layout_of_an_array_does_not_matter(
    view: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    values = view(np.arange(20.0).reshape(5, 4))
    found = read(write(tmp_path / "m", t=values))[0]["t"]
    assert found.shape == values.shape
    assert np.array_equal(found, values)


@given(document=st.dictionaries(st.text("xyz", min_size=1, max_size=4), JSON, max_size=4))
@settings(deadline=None, max_examples=40)
def test_the_document_comes_back(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("files") / "m"
    assert read(write(path, document))[1] == {"kind": "model", "format_version": 3} | document


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Anybody's reader opens it: a length, a JSON header, and the bytes (the format's own text)."""
    content = write(tmp_path / "m", {"x": "é"}, t=np.arange(3, dtype=np.int32)).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert (header["t"]["dtype"], header["t"]["shape"]) == ("I32", [3])
    assert json.loads(header["__metadata__"]["toptune"])["x"] == "é"
    assert content[8 + size :] == np.arange(3, dtype="<i4").tobytes()


# -------------------------------------------------------------------------- whole files or none


def test_an_older_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "m", t=np.zeros(1000))
    write(path, t=np.ones(2))
    assert read(path)[0]["t"].tolist() == [1.0, 1.0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="the limit of a file's size is of Unix")
def test_a_disk_that_is_full_leaves_the_older_file(tmp_path: Path) -> None:
    import resource

    path = write(tmp_path / "m", t=np.ones(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal of this limit, so a write beyond it fails like one on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(StorageError, match=f"cannot write {re.escape(str(path))}: "):
            write(path, t=np.zeros(2**16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read(path)[0]["t"].tolist() == [1.0, 1.0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere.m: No such file"):
        write(tmp_path / "nowhere" / "m")


def test_a_folder_is_not_overwritten_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "m")
    assert (tmp_path / "m").is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_a_description_too_large_for_the_format_is_an_error_a_user_can_read(tmp_path: Path) -> None:
    """A header of safetensors holds 100 MB: the paths of a million images can reach it."""
    with pytest.raises(StorageError, match="too large"):
        write(tmp_path / "m", {"ids": "x" * 100_000_001})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions of Unix")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_file_has_the_permissions_of_any_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        path = write(tmp_path / "m")
        assert os.umask(umask) == umask  # and the umask is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


# ------------------------------------------------------------------- files that cannot be read


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()], ids=["absent", "folder"])
def test_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "m"
    make(path)
    with pytest.raises(ModelFileError, match=f"no model file at {re.escape(str(path))}"):
        read(path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_file_cut_short_is_damaged(kept: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m", t=np.ones(50))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=f"{re.escape(str(path))} is damaged or no"):
        read(path)


@given(content=st.binary(max_size=200))
@settings(deadline=None, max_examples=40)
def test_any_bytes_are_damaged_or_foreign_and_never_a_crash(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("files") / "m"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"damaged|not one of toptune's"):
        read(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_a_network_are_no_model(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_torch_file({"weight": torch.ones(3).to(dtype)}, path)
    with pytest.raises(ModelFileError, match="a safetensors file, but not one of toptune's"):
        read(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "model"}', "7", "null"])
def test_a_damaged_description(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_file({"a": np.ones(2)}, path, metadata={"toptune": text})
    with pytest.raises(ModelFileError, match="its description is damaged"):
        read(path)


def test_another_kind_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    with pytest.raises(ModelFileError, match="holds toptune model, but a features file is needed"):
        load_tensors(path, kind="features", format_version=3, required=())


@pytest.mark.parametrize("version", [2, 4])
def test_another_format_version_says_what_to_do(version: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    with pytest.raises(ModelFileError, match=f"version 3; .* reads version {version}. Use the"):
        load_tensors(path, kind="model", format_version=version, required=())


def test_tensors_that_are_missing_are_named_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "m", b=np.ones(1))
    with pytest.raises(ModelFileError, match=r"lacks the tensors a, c$"):
        read(path, "c", "b", "a")
