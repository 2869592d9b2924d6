"""Intervals and paired differences against closed forms and against enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from toptune.evaluation.intervals import paired_difference, share_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (37, 40), (500, 1000), (1, 1)])
def test_share_interval_without_groups_equals_wilson(hits: int, n: int) -> None:
    z = 1.959963984540054
    p = hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = share_interval(np.arange(n) < hits)
    assert (low, high) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


def test_share_interval_groups_equals_resampling_of_groups() -> None:
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


def test_share_interval_one_group_is_zero_to_one() -> None:
    assert share_interval([True, True, False], groups=["a", "a", "a"]) == (0.0, 1.0)


def test_share_interval_bad_shapes_raise() -> None:
    with pytest.raises(ValueError, match=r"right must have shape \(n,\), n > 0, got \(0,\)"):
        share_interval([])
    with pytest.raises(ValueError, match=r"groups must have shape \(2,\), got \(1,\)"):
        share_interval([True, False], groups=["a"])


# --------------------------------------------------------------------------- two classifiers


def predictions(better: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted labels, a right and b wrong at 1, b right and a wrong at -1."""
    d = np.array(better)
    return np.zeros(len(d), int), (d < 0).astype(int), (d > 0).astype(int)


@given(
    better=st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=9),
    seed=st.integers(0, 10**6),
    grouped=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_paired_difference_p_value_equals_all_sign_assignments(
    better: list[int], seed: int, grouped: bool
) -> None:
    groups = np.arange(len(better))
    if grouped:
        groups = np.random.default_rng(seed).integers(0, 4, len(better))
        groups[:2] = 0, 1  # two at least
    sums = [sum(np.array(better)[groups == g]) for g in np.unique(groups)]
    all_sums = [abs(sum(s * d for s, d in zip(signs, sums, strict=True)))
                for signs in itertools.product((-1, 1), repeat=len(sums))]  # fmt: skip
    expected = np.mean([value >= abs(sum(sums)) for value in all_sums])
    found = paired_difference(*predictions(better), groups=groups, n_resamples=1)
    # Sums of at most 2^9 chances, each with a few roundings.
    assert found.p_value == pytest.approx(expected, rel=1e-12)
    assert found.difference == pytest.approx(np.mean(better))
    assert found.n == len(better)


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 0), (1, 0), (9, 2), (5, 5), (300, 240)])
def test_paired_difference_without_groups_equals_mcnemar(n_a: int, n_b: int) -> None:
    found = paired_difference(*predictions([1] * n_a + [-1] * n_b + [0] * 50), n_resamples=1)
    expected = 1.0 if n_a + n_b == 0 else binomtest(n_a, n_a + n_b, 0.5).pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 2, 2, 3]])
def test_paired_difference_interval_equals_all_bootstrap_samples(groups: list[int] | None) -> None:
    better = np.array([1, 1, 0, -1, 1, 0, 0])
    members = np.arange(7) if groups is None else np.array(groups)
    units = [better[members == g] for g in np.unique(members)]
    samples = itertools.product(range(len(units)), repeat=len(units))
    means = np.sort([np.concatenate([units[k] for k in drawn]).mean() for drawn in samples])
    found = paired_difference(*predictions(better.tolist()), groups=groups, n_resamples=200_000)
    # 200,000 draws put the quantile within 0.1 % (three standard deviations) of its place.
    for value, level in ((found.low, 0.025), (found.high, 0.975)):
        assert means[int((level - 0.002) * len(means))] <= value + 1e-12
        assert value - 1e-12 <= means[int((level + 0.002) * len(means))]


def test_paired_difference_copies_in_groups_count_once() -> None:
    """Ten copies of every sample tell no more than one, if they are named as groups."""
    better = [1, 1, 0, -1, 1, 0, 1, 1]
    once = paired_difference(*predictions(better))
    copies = np.repeat(better, 10).tolist()
    grouped = paired_difference(*predictions(copies), groups=np.repeat(range(8), 10))
    assert (grouped.low, grouped.high) == (once.low, once.high)
    assert grouped.p_value == pytest.approx(once.p_value, rel=1e-12)
    loose = paired_difference(*predictions(copies))
    assert loose.high - loose.low < 0.5 * (once.high - once.low)


def test_paired_difference_same_seed_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    y, a, b = rng.integers(0, 2, (3, 3000))
    groups = rng.integers(0, 500, 3000)
    first = paired_difference(y, a, b, groups=groups, random_state=1)
    assert paired_difference(y, a, b, groups=groups, random_state=1) == first
    assert paired_difference(y, a, b, groups=groups, random_state=2) != first
    assert first.low < first.difference < first.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predicted_a": ["x"]}, r"of one shape \(n,\), got \(2,\), \(1,\) and \(2,\)"),
        ({"groups": [1]}, r"groups must have shape \(2,\), got \(1,\)"),
        ({"groups": [1, 1]}, "at least two groups, got 1"),
        ({"y_true": ["x"], "predicted_a": ["x"], "predicted_b": ["x"]}, "two samples, got 1"),
        ({"n_resamples": 0}, "n_resamples must be >= 1, got 0"),
    ],
)
def test_paired_difference_bad_input_raises(arguments: dict[str, Any], message: str) -> None:
    usual = {"y_true": ["x", "y"], "predicted_a": ["x", "y"], "predicted_b": ["x", "x"]}
    with pytest.raises(ValueError, match=message):
        paired_difference(**(usual | arguments))
