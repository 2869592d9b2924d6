"""What is selected is the best of the grid, by refits; and the subset keeps the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.selection.calibration import fit_temperature
from toptune.kernel.selection.search import (
    BANDWIDTH_FACTORS,
    as_float,
    best_penalty,
    descend_penalties,
    select,
    selection_subset,
)
from toptune.kernel.systems.exact import exact_path, exact_solution


def moons(n: int = 36) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 3
    X = rng.normal(size=(n, 2)) + 1.5 * np.eye(3)[codes][:, :2]
    Y = 2.0 * np.eye(3)[codes] - 1.0
    return torch.tensor(X), torch.tensor(Y), torch.tensor(codes)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_choice_is_the_best_of_the_grid_by_brute_force_refits(weighted: bool) -> None:
    X, Y, codes = moons()
    n, w, penalties = len(X), torch.ones(len(X)).double(), (1.0, 1e-2, 1e-4)
    if weighted:
        w = torch.tensor(np.random.default_rng(1).uniform(0.1, 4.0, n))

    def loss(scores: torch.Tensor, rows: slice = slice(None)) -> float:
        return fit_temperature(scores, codes[rows], w[rows])[1]

    best, tried = select(X, Y, w, kernel="gaussian", bandwidth=None, penalties=penalties, loss=loss)
    distances = torch.pdist(X)
    brute = {}
    for factor in BANDWIDTH_FACTORS:
        bandwidth = factor * float(distances.median())
        K = kernel_matrix(X, X, "gaussian", bandwidth)
        for penalty in penalties:
            scores = torch.empty_like(Y)
            for i in range(n):
                kept = torch.arange(n) != i
                # the stationarity of the weighted objective: (W K + lambda N I) alpha = W Y
                W = w[kept, None]
                A = W * K[kept][:, kept] + penalty * w.sum() * torch.eye(n - 1).double()
                scores[i] = K[i, kept] @ torch.linalg.solve(A, W * Y[kept])
            brute[bandwidth, penalty] = loss(scores)
    expected = min(brute, key=lambda pair: brute[pair])
    assert (best.bandwidth, best.penalty) == (pytest.approx(expected[0]), expected[1])
    assert best.loss == pytest.approx(brute[expected], rel=1e-6)
    assert [c.loss for c in tried] == pytest.approx(list(brute.values()), rel=1e-6)
    given, tried = select(
        X, Y, w, kernel="gaussian", bandwidth=best.bandwidth, penalties=penalties, loss=loss
    )
    assert given == best
    assert [c.penalty for c in tried] == list(penalties)


def test_selection_leaves_the_number_of_threads_alone() -> None:
    X, Y, _ = moons()
    before = torch.get_num_threads()
    w = torch.ones(len(X)).double()
    select(
        X, Y, w, kernel="gaussian", bandwidth=None, penalties=(0.1,), loss=lambda scores, rows: 1.0
    )
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("start", [0, 3, 6])
def test_the_descent_finds_the_best_penalty_from_anywhere(start: int) -> None:
    X, Y, codes = moons(60)
    w, penalties = torch.ones(60).double(), tuple(10.0**-k for k in range(7))
    K = kernel_matrix(X, X, "gaussian", 1.5)

    def loss(scores: torch.Tensor) -> float:
        return fit_temperature(scores, codes, w)[1]

    path = exact_path(K, Y, w)
    losses = [loss(scores) for scores in path.leave_one_out_path(penalties)]
    k = int(np.argmin(losses))
    assert 0 < k < 6  # and the loss has one valley, or the descent could not be exact
    assert losses[: k + 1] == sorted(losses[: k + 1], reverse=True)
    assert losses[k:] == sorted(losses[k:])

    def evaluate(penalty: float) -> tuple[float, torch.Tensor]:
        scores = exact_solution(K, Y, w, penalty).leave_one_out()
        return loss(scores), scores

    best, scores, tried = descend_penalties(evaluate, start=penalties[start], penalties=penalties)
    assert best == penalties[k]
    assert tried == pytest.approx({p: losses[penalties.index(p)] for p in tried}, rel=1e-6)
    torch.testing.assert_close(scores, path.leave_one_out(penalties[k]))
    # everything between the start and one step beyond the best, nothing else
    assert len(tried) <= abs(start - k) + 4


@pytest.mark.parametrize(
    ("losses", "start", "best"),
    [
        ([3.0, 2.0, np.inf, np.inf, np.inf], 4, 1),
        ([3.0, 2.0, np.inf, np.inf, np.inf], 1, 1),
        ([np.inf, np.inf, 1.0, 2.0, 3.0], 1, 2),
        ([np.inf] * 5, 2, 2),
        ([np.inf] * 5, 4, 4),
        ([np.inf], 0, 0),
    ],
)
def test_the_walk_leaves_infinite_losses_and_ends_where_it_began_if_all_are(
    losses: list[float], start: int, best: int
) -> None:
    penalties = tuple(10.0**-k for k in range(len(losses)))
    found, place, _ = descend_penalties(
        lambda penalty: (losses[penalties.index(penalty)], penalties.index(penalty)),
        start=penalties[start],
        penalties=penalties,
    )
    assert (penalties.index(found), place) == (best, best)


def test_a_tie_goes_to_the_stronger_penalty() -> None:
    X, Y, _ = moons()
    path = exact_path(kernel_matrix(X, X, "gaussian", 1.0), Y, torch.ones(len(X)).double())
    best, tried = best_penalty(path, (1.0, 1e-1, 1e-2), lambda scores: 1.0, bandwidth=1.0)
    assert best.penalty == 1.0
    assert [c.penalty for c in tried] == [1.0, 1e-1, 1e-2]


def test_losses_that_are_not_finite_are_passed_over_and_none_left_is_an_error() -> None:
    X, Y, _ = moons()
    path = exact_path(kernel_matrix(X, X, "gaussian", 1.0), Y, torch.ones(len(X)).double())
    losses = iter([float("nan"), 2.0, float("inf")])
    best, _ = best_penalty(path, (1.0, 0.1, 0.01), lambda scores: next(losses), bandwidth=1.0)
    assert best.penalty == 0.1
    with pytest.raises(FloatingPointError, match="bandwidth=1"):
        best_penalty(path, (1.0,), lambda scores: float("nan"), bandwidth=1.0)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    size=st.integers(6, 60),
    seed=st.integers(0, 50),
)
def test_the_subset_keeps_every_class_and_about_its_share(
    counts: list[int], size: int, seed: int
) -> None:
    rng = np.random.RandomState(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    rows = selection_subset(y, size, random_state=rng)
    n = len(y)
    assert np.all(np.diff(rows) > 0)
    assert len(rows) == min(size, n)
    kept = np.bincount(y[rows], minlength=len(counts))
    assert kept.min() >= 1
    share = np.array(counts) * min(size / n, 1.0)
    # one for rounding, and the largest class makes room for those that would get none
    rescued = int((share < 1).sum())
    assert np.all(np.abs(kept - share) <= 1 + rescued)


def test_the_subset_follows_the_seed() -> None:
    y = np.zeros(100, dtype=np.intp)
    draws = [selection_subset(y, 10, random_state=np.random.RandomState(s)) for s in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(("value", "expected"), [("auto", None), (2, 2.0), (0.5, 0.5)])
def test_as_float(value: float | str, expected: float | None) -> None:
    assert as_float(value, "penalty") == expected
