"""Bandwidth and penalty by exact leave-one-out: no validation split, no refits.

One eigendecomposition per bandwidth gives the leave-one-out predictions of every penalty
(`solvers.PenaltyPath`). Bandwidths are multiples of the median distance between samples. Where n is
large the bandwidth is chosen on a subset, since its best value hardly moves with n; the penalty,
which does move, is then chosen again on all samples.

Letters: n samples, c outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.kernels import apply_profile, base_matrix, median_distance
from toptune.kernel.solvers import PenaltyPath, exact_path

#: Multiples of the median distance that are tried.
BANDWIDTH_FACTORS: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4, 2.0)
#: Penalties that are tried, from strong to weak so that a tie goes to the smoother function. Below
#: 1e-7 float32 eigenvalues are rounding noise.
PENALTIES: tuple[float, ...] = tuple(float(p) for p in np.logspace(0, -7, 15))
#: Most samples on which bandwidths are compared.
SELECTION_SAMPLES = 1000

#: Loss of leave-one-out predictions (n, c) for the samples they belong to; smaller is better.
Loss = Callable[[Tensor], float]


@dataclass(frozen=True)
class Candidate:
    """One pair of hyperparameters and its leave-one-out loss."""

    bandwidth: float
    penalty: float
    loss: float


def best_penalty(
    path: PenaltyPath,
    penalties: Sequence[float],
    loss: Loss,
    *,
    bandwidth: float,
) -> tuple[Candidate, list[Candidate]]:
    """Try every penalty on one path; return the best candidate and all of them.

    Raises
    ------
    FloatingPointError
        If no penalty gives a finite loss.
    """
    tried = [
        Candidate(bandwidth, penalty, loss(scores))
        for penalty, scores in zip(penalties, path.leave_one_out_path(penalties), strict=True)
    ]
    finite = [candidate for candidate in tried if np.isfinite(candidate.loss)]
    if not finite:
        raise FloatingPointError(f"no penalty gave a finite leave-one-out loss at {bandwidth=:g}")
    return min(finite, key=lambda candidate: candidate.loss), tried


def select(
    X: Tensor,  # (n, d)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    *,
    kernel: str,
    penalties: Sequence[float],
    loss: Loss,
) -> tuple[Candidate, PenaltyPath, list[Candidate]]:
    """Choose bandwidth and penalty together by exact leave-one-out on all the given samples.

    Parameters
    ----------
    X, Y, w
        Samples, targets and weights; n is small enough for an n x n eigendecomposition.
    kernel
        A radial kernel: a name of `kernels.PROFILES`.
    penalties
        Penalties to try.
    loss
        What is minimised.

    Returns
    -------
    best, path, tried
        The candidate of least loss, the path it lies on, and all that were tried.
    """
    base = base_matrix(X, X, kernel)
    median = median_distance(base)
    best: tuple[Candidate, PenaltyPath] | None = None
    tried: list[Candidate] = []
    for length in (factor * median for factor in BANDWIDTH_FACTORS):
        path = exact_path(apply_profile(base, kernel, length), Y, w)
        winner, candidates = best_penalty(path, penalties, loss, bandwidth=length)
        tried.extend(candidates)
        if best is None or winner.loss < best[0].loss:
            best = winner, path
    assert best is not None
    return (*best, tried)


def selection_subset(
    strata: NDArray[np.intp],  # (n,)
    size: int,
    *,
    random_state: np.random.RandomState,
) -> NDArray[np.intp]:
    """Row indices of a random subset with the proportions of the strata, sorted.

    Every stratum keeps at least one sample where `size` allows.
    """
    n = len(strata)
    if n <= size:
        return np.arange(n)
    counts = np.unique(strata, return_counts=True)[1]
    quota = _quotas(counts * (size / n), size)
    order = random_state.permutation(n)
    order = order[np.argsort(strata[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    return np.sort(np.concatenate([order[a : a + q] for a, q in zip(starts, quota, strict=True)]))


def _quotas(
    shares: NDArray[Any],  # (k,), adding up to size
    size: int,
) -> NDArray[np.intp]:  # (k,)
    """Whole numbers near the shares that add up to size, none of them zero where size allows."""
    quota = np.maximum(np.floor(shares).astype(np.intp), 1)
    while quota.sum() < size:
        quota[np.argmax(shares - quota)] += 1
    while quota.sum() > size:
        several = quota > 1
        excess = np.where(several if several.any() else quota > 0, quota - shares, -np.inf)
        quota[np.argmax(excess)] -= 1
    return quota


def as_float(value: float | str, name: str) -> float | None:
    """Return a positive number, or None for "auto".

    Raises
    ------
    ValueError
        Naming the parameter, for anything else.
    """
    if isinstance(value, str):
        if value == "auto":
            return None
    elif np.isfinite(value) and value > 0:
        return float(value)
    raise ValueError(f'{name} must be "auto" or a number > 0, got {value!r}')
