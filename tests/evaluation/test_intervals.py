"""Intervals of shares against the closed form and against resampling written out."""

from __future__ import annotations

import numpy as np
import pytest

from toptune.evaluation.intervals import share_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (37, 40), (500, 1000), (1, 1)])
def test_wilson(hits: int, n: int) -> None:
    z = 1.959963984540054
    p = hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = share_interval(np.arange(n) < hits)
    assert (low, high) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


def test_groups_are_drawn_whole() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), rng.integers(1, 9, 20))
    right = (rng.random(20) < 0.7)[groups]  # all images of a group alike
    low, high = share_interval(right, groups=groups.astype(str))
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 20, 20)
        rows = np.concatenate([np.flatnonzero(groups == g) for g in drawn])
        means.append(right[rows].mean())
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, atol=0.03)
    single = share_interval(right)
    assert high - low > 1.3 * (single[1] - single[0])


def test_one_group_tells_nothing() -> None:
    assert share_interval([True, True, False], groups=["a", "a", "a"]) == (0.0, 1.0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"right must have shape \(n,\), n > 0, got \(0,\)"):
        share_interval([])
    with pytest.raises(ValueError, match=r"groups must have shape \(2,\), got \(1,\)"):
        share_interval([True, False], groups=["a"])
