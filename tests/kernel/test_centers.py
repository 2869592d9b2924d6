"""Which rows become centers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toptune.kernel import Rows
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.selection import centers
from toptune.kernel.selection.centers import (
    EXACT_SAMPLES,
    automatic_n_centers,
    balanced_centers,
    leverage_centers,
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


# -------------------------------------------------------------------------------- leverage


def clumps(n: int, alone: int, seed: int = 0) -> np.ndarray:
    """Most rows in one dense clump, `alone` of them far from everything."""
    rng = np.random.default_rng(seed)
    X = 0.05 * rng.normal(size=(n, 3))
    X[:alone] = 20.0 * np.eye(3)[np.arange(alone) % 3] * (1 + np.arange(alone)[:, None])
    return X


def draw(X: np.ndarray, m: int, penalty: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return leverage_centers(
        Rows(X, dtype=torch.float64),
        m,
        kernel="gaussian",
        bandwidth=1.0,
        penalty=penalty,
        random_state=seeded(seed),
    )


@pytest.mark.parametrize("m", [1, 20, 299, 300, 1000])
def test_leverage_centers_are_sorted_distinct_and_stand_for_all_samples(m: int) -> None:
    rows, stands_for = draw(clumps(300, 5), m, 1e-4, seed=0)
    assert len(rows) == len(stands_for) == min(m, 300)
    assert np.all(np.diff(rows) > 0)
    assert np.all(stands_for > 0)
    assert stands_for.sum() == pytest.approx(300)


def test_rows_that_no_other_explains_become_centers_and_stand_for_few() -> None:
    X = clumps(2000, 8)
    for seed in range(5):
        rows, stands_for = draw(X, 400, 1e-4, seed)
        # 2000 rows are candidates: a row alone has a score near 1, one of the clump about 1 / 2000
        alone = rows < 8
        assert alone.sum() == 8
        assert stands_for[alone].max() < stands_for[~alone].min()


def test_estimated_scores_are_the_exact_ones_up_to_a_small_factor() -> None:
    X = np.random.default_rng(0).normal(size=(400, 2))
    K = kernel_matrix(torch.tensor(X), torch.tensor(X), "gaussian", 1.0).numpy()
    ridge = 1e-3 * 400
    exact = np.diag(np.linalg.solve(K + ridge * np.eye(400), K))
    some = seeded().permutation(400)[:200]
    estimated = centers._leverage_scores(
        Rows(X, dtype=torch.float64),
        np.arange(400),
        np.sort(some),
        np.full(200, 2.0),
        ridge=ridge,
        kernel="gaussian",
        bandwidth=1.0,
    )
    # A row alone that is not among those drawn keeps its whole k(x, x) / ridge, or 1: a few do.
    assert np.mean(estimated < 2 * exact) > 0.95
    assert np.all(estimated <= 1)
    assert np.all(estimated > exact / 2)
    everything = centers._leverage_scores(
        Rows(X, dtype=torch.float64),
        np.arange(400),
        np.arange(400),
        np.ones(400),
        ridge=ridge,
        kernel="gaussian",
        bandwidth=1.0,
    )
    np.testing.assert_allclose(everything, exact, rtol=1e-6)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 7.0])
def test_a_penalty_above_the_kernel_draws_as_many_centers_as_any(penalty: float) -> None:
    rows, stands_for = draw(clumps(500, 8), 100, penalty, seed=0)
    assert len(np.unique(rows)) == 100
    assert stands_for.sum() == pytest.approx(500)


def ill_spread(n: int, seed: int = 0) -> np.ndarray:
    """Clumps whose sizes fall by a power law: most rows in a few, many clumps of a row or two."""
    rng = np.random.default_rng(seed)
    sizes = 1.0 / np.arange(1, n // 10 + 1) ** 1.3
    which = rng.choice(len(sizes), n, p=sizes / sizes.sum())
    return 4 * rng.normal(size=(len(sizes), 5))[which] + 0.05 * rng.normal(size=(n, 5))


def unexplained(X: np.ndarray, rows: np.ndarray) -> float:
    """Mean over all rows of k(x, x) minus what the centers explain of it."""
    T = torch.tensor(X)
    K = kernel_matrix(T[rows], T[rows], "gaussian", 1.0)
    K.diagonal().add_(1e-10)
    k = kernel_matrix(T[rows], T, "gaussian", 1.0)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(K), k, upper=False)
    return float(1 - half.square().sum(0).mean())


def test_every_level_scores_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centers, "LEVEL_CENTERS", 100)
    original, scored = centers._leverage_scores, []

    def watched(X: Rows, rows: np.ndarray, *args: object, **named: object) -> np.ndarray:
        scored.append(len(rows))
        return original(X, rows, *args, **named)

    monkeypatch.setattr(centers, "_leverage_scores", watched)
    draw(ill_spread(4000), 300, 6e-8, seed=0)
    assert len(scored) >= 10  # a factor of four each
    # Below 2 / 4000 every level scored all rows.
    assert max(scored[:-1]) == centers.CANDIDATES_PER_CENTER * 100
    assert scored[-1] == centers.CANDIDATES_PER_CENTER * 300


def test_candidates_that_are_few_give_centers_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centers, "LEVEL_CENTERS", 200)
    X, m = ill_spread(4000), 800
    few = np.mean([unexplained(X, draw(X, m, 1e-3, seed)[0]) for seed in range(3)])
    monkeypatch.setattr(centers, "CANDIDATES_PER_CENTER", 4000)
    all_rows = np.mean([unexplained(X, draw(X, m, 1e-3, seed)[0]) for seed in range(3)])
    uniform = np.mean(
        [unexplained(X, uniform_centers(4000, m, random_state=seeded(seed))) for seed in range(3)]
    )
    # Standard deviation between seeds: 7 % of the first two, which are a sixth of the third.
    assert few < 1.2 * all_rows
    assert few < 0.3 * uniform


def test_leverage_centers_of_inner_products_and_of_equal_rows() -> None:
    X = np.ones((100, 4))
    for kernel in ("linear", "gaussian"):
        rows, stands_for = leverage_centers(
            Rows(X),
            30,
            kernel=kernel,
            bandwidth=1.0,
            penalty=1e-6,
            random_state=seeded(),
        )
        assert len(np.unique(rows)) == 30
        assert np.isfinite(stands_for).all()


def test_uniform_centers_are_any_rows() -> None:
    hits = np.zeros(30)
    for seed in range(400):
        rows = uniform_centers(30, 6, random_state=seeded(seed))
        assert np.all(np.diff(rows) > 0)
        hits[rows] += 1
    # each with probability 0.2: standard deviation sqrt(400 * 0.2 * 0.8) = 8
    assert np.all(np.abs(hits - 80) < 5 * 8)
    assert np.array_equal(uniform_centers(4, 9, random_state=seeded()), np.arange(4))
