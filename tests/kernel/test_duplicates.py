"""Near-duplicates against brute force: all pairs in float64, groups joined one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toptune.kernel import FeatureNormalizer, duplicates
from toptune.kernel.duplicates import NEAR, joined_groups, near_duplicate_groups


def by_hand(X: np.ndarray, near: float = NEAR) -> list[int]:
    """Codes in the order in which groups appear, from all pairs."""
    X = X.astype(np.float64)
    n = len(X)
    D = ((X[:, None] - X[None]) ** 2).sum(2)
    between = np.sort(D[np.triu_indices(n, 1)])
    # Of an even number the lower of the two in the middle, as `torch.median` has it.
    limit = near * between[(len(between) - 1) // 2] if n > 1 else 0.0
    names = list(range(n))
    for i in range(n):
        for j in range(i):
            if D[i, j] <= limit and names[i] != names[j]:
                names = [names[j] if name == names[i] else name for name in names]
    return in_order(names)


def in_order(names: list[int] | np.ndarray) -> list[int]:
    """Rename groups by the order in which they appear."""
    codes: dict[int, int] = {}
    return [codes.setdefault(int(name), len(codes)) for name in names]


def clusters(seed: int, n_groups: int = 12, dtype: type = np.float32) -> np.ndarray:
    """Normalised rows: groups of one to four with noise far below the distances between groups."""
    rng = np.random.default_rng(seed)
    centres = np.abs(rng.normal(size=(n_groups, 16))) + 0.1
    rows = np.repeat(centres, rng.integers(1, 5, n_groups), axis=0)
    rows = rows * (1 + 0.05 * rng.uniform(-1, 1, rows.shape))
    shuffled = rows[rng.permutation(len(rows))].astype(dtype)
    normalised: np.ndarray = FeatureNormalizer().fit_transform(shuffled)
    return normalised


@settings(max_examples=60, deadline=None)
@given(
    # Whole numbers: squared distances are exact, so that no pair lies near the limit by rounding.
    arrays(
        np.float64, st.tuples(st.integers(1, 14), st.integers(1, 3)), elements=st.integers(0, 9)
    ),
    st.sampled_from([0.0, 0.03125, 0.25, 1.0]),
)
def test_groups_are_those_of_brute_force(X: np.ndarray, near: float) -> None:
    codes = near_duplicate_groups(X, near=near)
    assert codes.shape == (len(X),)
    assert in_order(codes) == by_hand(X, near)
    assert set(codes.tolist()) == set(range(len(set(codes.tolist()))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_recognised_at_the_default(seed: int, dtype: type) -> None:
    X = clusters(seed, dtype=dtype)
    codes = near_duplicate_groups(X)
    assert in_order(codes) == by_hand(X)
    assert len(set(codes.tolist())) == 12


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_blocks_find_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = clusters(0)
    expected = near_duplicate_groups(X).tolist()
    monkeypatch.setattr(duplicates, "ROWS", rows)
    assert near_duplicate_groups(X).tolist() == expected


@pytest.mark.parametrize("rows", [2, 2048])
def test_chains_are_one_group(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends are far from each other, but each link is near the next; and across blocks."""
    monkeypatch.setattr(duplicates, "ROWS", rows)
    chain = np.arange(10)[:, None] * [1.0, 0.0]
    others = [[0.0, 40.0], [0.0, 80.0], [40.0, 40.0]]
    order = np.random.default_rng(0).permutation(13)
    X = np.concatenate([chain, others])[order]
    codes = near_duplicate_groups(X)
    of_chain = {int(c) for c, place in zip(codes, order, strict=True) if place < 10}
    assert len(of_chain) == 1
    assert len(set(codes.tolist())) == 4


def test_the_median_may_be_taken_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    X = clusters(1)
    monkeypatch.setattr(duplicates, "MEDIAN_SAMPLES", 20)
    assert in_order(near_duplicate_groups(X)) == by_hand(X)


def test_one_sample_is_a_group() -> None:
    assert near_duplicate_groups(np.ones((1, 3))).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [3, 2048])
def test_nothing_but_duplicates(dtype: type, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The median distance is zero, or what rounding leaves of it."""
    monkeypatch.setattr(duplicates, "ROWS", rows)
    row = FeatureNormalizer().fit_transform(np.random.default_rng(0).random((1, 700), dtype=dtype))
    X = np.repeat(row, 20, axis=0)
    assert near_duplicate_groups(X).tolist() == [0] * 20
    X[7] = X[7][::-1]
    codes = near_duplicate_groups(X)
    assert (codes != codes[7]).sum() == 19
    assert len(set(codes.tolist())) == 2
    assert near_duplicate_groups(np.zeros((4, 2), dtype=dtype)).tolist() == [0] * 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        near_duplicate_groups([[0.0, 1.0], [value, 1.0]])
    with pytest.raises(ValueError, match="0 sample"):
        near_duplicate_groups(np.zeros((0, 2)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20))
def test_groups_of_two_kinds_are_joined(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    names = list(range(len(pairs)))
    for i in range(len(pairs)):
        for j in range(i):
            if (first[i] == first[j] or second[i] == second[j]) and names[i] != names[j]:
                names = [names[j] if name == names[i] else name for name in names]
    text = np.array([f"object {k}" for k in second])
    for other in (second, text):
        codes = joined_groups(first, other)
        assert in_order(codes) == in_order(names)
        assert set(codes.tolist()) == set(range(len(set(names))))
