"""Which rows become centers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toptune.kernel.selection.centers import (
    EXACT_SAMPLES,
    automatic_n_centers,
    balanced_centers,
    uniform_centers,
)


def seeded(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    m=st.integers(1, 200),
    seed=st.integers(0, 100),
)
def test_balanced_centers_are_sorted_distinct_and_as_equal_as_the_sizes_allow(
    counts: list[int], m: int, seed: int
) -> None:
    y = np.random.RandomState(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = balanced_centers(y, m, random_state=seeded(seed))
    assert len(rows) == min(m, len(y))
    assert np.all(np.diff(rows) > 0)
    taken = np.bincount(y[rows], minlength=len(counts))
    # As equal as possible: whoever has rows left is at most one behind the largest share.
    for share, count in zip(taken, counts, strict=True):
        assert share == count or share >= taken.max() - 1


def test_the_same_seed_draws_the_same_rows_and_another_seed_others() -> None:
    y = np.repeat([0, 1], 100)
    first = balanced_centers(y, 20, random_state=seeded(1))
    assert np.array_equal(first, balanced_centers(y, 20, random_state=seeded(1)))
    assert not np.array_equal(first, balanced_centers(y, 20, random_state=seeded(2)))


def test_no_class_is_favoured_when_there_are_fewer_centers_than_classes() -> None:
    y = np.repeat(np.arange(10), 5)
    hits = np.zeros(10)
    for seed in range(400):
        hits[y[balanced_centers(y, 3, random_state=seeded(seed))]] += 1
    # Each class is hit with probability 0.3: standard deviation sqrt(400 * 0.3 * 0.7) = 9.2.
    assert np.all(np.abs(hits - 120) < 5 * 9.2)


@pytest.mark.parametrize("n", [1, 50, EXACT_SAMPLES, EXACT_SAMPLES + 1, 10**6])
def test_automatic_number_of_centers(n: int) -> None:
    m = automatic_n_centers(n)
    assert m == n if n <= EXACT_SAMPLES else EXACT_SAMPLES <= m < n
    assert automatic_n_centers(n + 1) >= m


def test_uniform_centers_are_any_rows() -> None:
    hits = np.zeros(30)
    for seed in range(400):
        rows = uniform_centers(30, 6, random_state=seeded(seed))
        assert np.all(np.diff(rows) > 0)
        hits[rows] += 1
    # each with probability 0.2: standard deviation sqrt(400 * 0.2 * 0.8) = 8
    assert np.all(np.abs(hits - 80) < 5 * 8)
    assert np.array_equal(uniform_centers(4, 9, random_state=seeded()), np.arange(4))
