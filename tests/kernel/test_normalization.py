"""The feature normaliser against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toptune.kernel import FeatureNormalizer

MATRICES = arrays(np.float64, (5, 4), elements=st.integers(-(10**9), 10**9).map(lambda k: k / 1000))


@given(X=MATRICES, power=st.sampled_from([0.25, 0.5, 1.0]))
@settings(deadline=None)
def test_is_the_signed_power_at_unit_length(X: np.ndarray, power: float) -> None:
    U = np.sign(X) * np.abs(X) ** power
    norms = np.linalg.norm(U, axis=1, keepdims=True)
    expected = np.divide(U, norms, out=np.zeros_like(U), where=norms > 0)
    found = FeatureNormalizer(power=power).fit_transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@given(X=MATRICES, scale=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_scale_of_a_row_does_not_matter(X: np.ndarray, scale: float) -> None:
    model = FeatureNormalizer().fit(X)
    np.testing.assert_allclose(model.transform(X * scale), model.transform(X), atol=1e-9)


def test_rows_of_zeros_stay_zero_and_the_input_is_left_alone() -> None:
    X = np.array([[0.0, 0.0], [4.0, -9.0]])
    before = X.copy()
    found = FeatureNormalizer().fit_transform(X)
    assert found.tolist()[0] == [0.0, 0.0]
    np.testing.assert_allclose(found[1], np.array([2, -3]) / np.sqrt(13))
    assert np.array_equal(X, before)


@pytest.mark.parametrize("groups", [None, (1000, 280)])
def test_float16_becomes_float32(groups: tuple[int, ...] | None) -> None:
    X = np.random.default_rng(0).random((3, 1280)).astype(np.float16)
    model = FeatureNormalizer(groups=groups)
    found = model.fit_transform(X)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, model.transform(X.astype(np.float32)))


def test_float32_stays_float32() -> None:
    X = np.random.default_rng(0).random((3, 1280), dtype=np.float32)
    found = FeatureNormalizer().fit_transform(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_squares_beyond_float32_neither_overflow_nor_vanish(scale: float) -> None:
    X = (np.array([[3.0, -4.0]]) * scale).astype(np.float32)
    found = FeatureNormalizer(power=1.0).fit_transform(X)
    np.testing.assert_allclose(found, [[0.6, -0.8]], rtol=1e-6)


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan")])
def test_an_impossible_power_is_named(power: float) -> None:
    with pytest.raises(ValueError, match="power must be > 0"):
        FeatureNormalizer(power=power).fit([[1.0]])


def test_each_group_is_normalised_by_itself() -> None:
    X = np.random.default_rng(0).normal(size=(6, 7))
    found = FeatureNormalizer(groups=[2, 5]).fit_transform(X)
    for columns in (slice(0, 2), slice(2, 7)):
        np.testing.assert_allclose(
            found[:, columns], FeatureNormalizer().fit_transform(X[:, columns]), rtol=1e-14
        )


@pytest.mark.parametrize("groups", [[3, 3], [7, 0], []])
def test_groups_that_do_not_add_up_are_named(groups: list[int]) -> None:
    with pytest.raises(ValueError, match="add up to 7"):
        FeatureNormalizer(groups=groups).fit(np.ones((2, 7)))
