"""Rows of features: from memory, from a file, in any dtype; what is wrong with them is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toptune.kernel import KernelClassifier, KernelRegressor, Rows, operators


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)


def mapped(array: np.ndarray, path: Path, *, offset: int = 0) -> np.ndarray:
    with path.open("wb") as file:
        file.write(b"\1" * offset)
        array.tofile(file)
    return np.memmap(path, dtype=array.dtype, mode="r", offset=offset, shape=array.shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 24, 5000])
def test_a_memory_map_gives_what_memory_gives(
    array: np.ndarray, dtype: type, offset: int, tmp_path: Path
) -> None:
    there = mapped(array.astype(dtype), tmp_path / "x", offset=offset)
    for view, same in (
        (there, array),
        (there[5:], array[5:]),
        (np.asarray(there)[3:40:2], array[3:40:2]),
        (there[:, :], array),
    ):
        rows = Rows(view, dtype=torch.float64)
        assert rows._file is not None  # read through the file, not the mapping
        same = same.astype(dtype).astype(np.float64)
        for part in (slice(0, len(same)), slice(2, 5), np.array([0, 1, 2, 7, 9, 10])):
            np.testing.assert_array_equal(rows.read(part).numpy(), same[part])


def test_columns_of_a_memory_map_are_refused_by_name(array: np.ndarray, tmp_path: Path) -> None:
    there = mapped(array, tmp_path / "x")
    with pytest.raises(ValueError, match=r"one after another, got strides \(28, 8\)"):
        Rows(there[:, ::2]).read(slice(0, 3))


@settings(max_examples=30)
@given(data=st.data())
def test_taking_rows_twice_is_taking_rows_of_rows(data: st.DataObject) -> None:
    X = np.arange(60, dtype=np.float64).reshape(20, 3)
    first = np.array(sorted(data.draw(st.sets(st.integers(0, 19), min_size=3))))
    second = np.array(sorted(data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1))))
    rows = Rows(X, dtype=torch.float64).take(first).take(second)
    assert len(rows) == len(second)
    np.testing.assert_array_equal(rows.all().numpy(), X[first][second])


def test_rows_are_transformed_then_centred_then_scaled(array: np.ndarray) -> None:
    offset, scale = torch.arange(7.0), torch.linspace(0.5, 2, 7)
    rows = Rows(array, transform=np.abs, offset=offset, scale=scale)
    expected = (np.abs(array) - offset.numpy()) * scale.numpy()
    np.testing.assert_allclose(rows.read(slice(3, 9)).numpy(), expected[3:9], rtol=1e-6)
    assert np.array_equal(array, np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32))


def test_float16_up_to_its_largest_values_is_read_without_overflow() -> None:
    X = np.array([[6e4, -6e4, 1.0], [6e4, 6e4, 2.0]], dtype=np.float16)
    rows = Rows(X, transform=lambda block: block * 2)
    np.testing.assert_array_equal(rows.all().numpy(), X.astype(np.float32) * 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_block_and_row(
    bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    X[17 * 20 + 3, 2] = bad
    y = np.arange(400) % 2
    model = KernelClassifier(n_centers=20, bandwidth=1.0, random_state=0)
    monkeypatch.setattr(operators, "BLOCK_BYTES", 20 * 4 * 20)  # 20 rows, 20 centers
    # The row is neither drawn for the selection nor as a center.
    monkeypatch.setattr("toptune.kernel.base.selection_subset", lambda *a, **k: np.arange(100))
    monkeypatch.setattr("toptune.kernel.base.balanced_centers", lambda *a, **k: np.arange(20))
    with pytest.raises(
        ValueError, match=r"block 17, rows 340 to 359: .*NaN or infinity in row 343"
    ):
        model.fit(X, y)


def test_large_finite_values_are_not_taken_for_infinity() -> None:
    X = np.full((3, 4), 3e38, dtype=np.float32)  # their sum overflows
    assert Rows(X).all().shape == (3, 4)


def test_a_file_that_became_shorter_is_an_error_that_names_file_and_row(
    array: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    rows = Rows(mapped(array, path))
    rows.all()
    os.truncate(path, 30 * 7 * 4 + 5)
    assert rows.read(slice(0, 30)).shape == (30, 7)
    with pytest.raises(ValueError, match=r"x ends before row 30 of 50: .*shorter"):
        rows.read(slice(20, 50))


def test_a_file_that_is_gone_is_an_error(array: np.ndarray, tmp_path: Path) -> None:
    rows = Rows(mapped(array, tmp_path / "x"))
    (tmp_path / "x").unlink()
    with pytest.raises(OSError, match="No such file"):
        rows.all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_estimator_fits_a_memory_map_as_it_fits_memory(dtype: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 7)).astype(dtype)
    y = (X[:, 0] > 0).astype(int)
    there = mapped(X, tmp_path / "x")
    for options in ({}, {"n_centers": 40}, {"n_centers": 40, "solver": "falkon"}):
        here = KernelClassifier(random_state=0, **options).fit(X, y)
        from_file = KernelClassifier(random_state=0, **options).fit(there, y)
        np.testing.assert_array_equal(from_file.dual_coef_, here.dual_coef_)
        np.testing.assert_array_equal(from_file.predict_proba(there), here.predict_proba(X))
    wide = KernelClassifier(random_state=0).fit(X.astype(np.float32), y)
    narrow = KernelClassifier(random_state=0).fit(X, y)
    np.testing.assert_array_equal(narrow.dual_coef_, wide.dual_coef_)


def test_an_estimator_takes_rows_with_a_transform() -> None:
    X = np.abs(np.random.default_rng(0).normal(size=(120, 5)))
    y = np.arange(120) % 3
    plain = KernelClassifier(n_centers=30, random_state=0).fit(np.sqrt(X), y)
    rows = KernelClassifier(n_centers=30, random_state=0).fit(Rows(X, transform=np.sqrt), y)
    np.testing.assert_array_equal(rows.dual_coef_, plain.dual_coef_)
    np.testing.assert_array_equal(
        rows.predict_proba(Rows(X, transform=np.sqrt)), plain.predict_proba(np.sqrt(X))
    )
    with pytest.raises(ValueError, match="5 features"):
        rows.predict(Rows(X[:, :4]))


# --------------------------------------------------------------- what estimators do with rows


def halves(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n, 7)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("kind", ["sorted", "shuffled", "mask"])
@pytest.mark.parametrize("options", [{}, {"n_centers": 40}], ids=["exact", "direct"])
def test_an_estimator_fits_and_predicts_a_part_of_a_file(
    kind: str, options: dict[str, int], tmp_path: Path
) -> None:
    X, y = halves()
    train = np.random.default_rng(1).permutation(300)[:200]
    train = {"sorted": np.sort(train), "shuffled": train}.get(kind, np.isin(np.arange(300), train))
    rows = Rows(mapped(X, tmp_path / "x"))
    w = np.random.default_rng(2).uniform(0.0, 1.0, 300) * (np.arange(300) % 7 > 0)
    part = KernelClassifier(random_state=0, **options).fit(rows.take(train), y[train], w[train])
    here = KernelClassifier(random_state=0, **options).fit(X[train], y[train], w[train])
    np.testing.assert_array_equal(part.dual_coef_, here.dual_coef_)
    np.testing.assert_array_equal(part.loo_decision_function_, here.loo_decision_function_)
    some = np.array([3, 5, 8])
    np.testing.assert_array_equal(part.predict_proba(rows.take(some)), here.predict_proba(X[some]))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[200, 300\]"):
        part.fit(rows.take(train), y)
    target = KernelRegressor(random_state=0, **options).fit(rows.take(train), X[train, 1])
    assert target.loo_predictions_.shape == (200,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_estimator_takes_rows_of_a_tensor(dtype: torch.dtype) -> None:
    X, y = halves(120)
    T = torch.from_numpy(X).to(dtype)
    X = T.double().numpy() if dtype == torch.float64 else T.float().numpy()
    here = KernelClassifier(n_centers=30, random_state=0).fit(X, y)
    rows = Rows(T.requires_grad_())
    model = KernelClassifier(n_centers=30, random_state=0).fit(rows, y)
    assert (model.n_features_in_, model.centers_.dtype) == (7, X.dtype)
    np.testing.assert_array_equal(model.dual_coef_, here.dual_coef_)
    np.testing.assert_array_equal(model.predict_proba(rows), here.predict_proba(X))
    with pytest.raises(ValueError, match="4 features"):
        model.predict(Rows(T[:, :4]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_estimator_takes_rows_of_a_tensor_on_a_cuda_device() -> None:
    X, y = halves(120)
    here = KernelClassifier(n_centers=30, random_state=0).fit(X, y)
    rows = Rows(torch.from_numpy(X).cuda()).take(np.arange(120))
    model = KernelClassifier(n_centers=30, random_state=0).fit(rows, y)
    np.testing.assert_array_equal(model.dual_coef_, here.dual_coef_)


def test_a_transform_is_applied_to_rows_of_a_tensor_too() -> None:
    X = torch.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Rows(X, transform=np.square).all(), X.square())


@pytest.mark.parametrize("name", ["offset", "scale"])
def test_rows_with_an_offset_or_a_scale_are_refused_by_name(name: str) -> None:
    X, y = halves(20)
    with pytest.raises(ValueError, match=f"came with a {name}: .*transform"):
        KernelClassifier().fit(Rows(X, **{name: torch.ones(7)}), y)
    model = KernelClassifier().fit(X, y)
    with pytest.raises(ValueError, match=f"came with a {name}"):
        model.predict(Rows(X, **{name: torch.ones(7)}))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (torch.ones(5), r"tensor of shape \(5,\)"),
        (torch.ones(5, 2, dtype=torch.complex64), "complex64"),
        (np.ones(5), "2D array"),
        (np.ones((0, 2)), "0 sample"),
        (torch.ones(0, 2), "at least one row"),
    ],
)
def test_data_that_is_no_matrix_of_numbers_is_named(data: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        KernelClassifier().fit(Rows(data), np.arange(5) % 2)  # type: ignore[arg-type]
