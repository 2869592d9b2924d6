"""Bandwidth and penalty by exact leave-one-out: no validation split, no refits.

One eigendecomposition per bandwidth gives the leave-one-out predictions of every penalty
(`solvers.PenaltyPath`). Bandwidths are multiples of the median distance between samples. Where n is
large both are chosen on a subset; the best bandwidth hardly moves with n, and the penalty, which
does move, is then chosen again on all samples.

Letters: n samples, c outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.kernels import apply_profile, base_matrix, median_distance
from toptune.kernel.solvers import PenaltyPath, exact_path, exact_solution

_A = TypeVar("_A")
_B = TypeVar("_B")

#: Multiples of the median distance that are tried.
BANDWIDTH_FACTORS: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4, 2.0)
#: Penalties that are tried, from strong to weak so that a tie goes to the smoother function. Below
#: 1e-7 float32 eigenvalues are rounding noise.
PENALTIES: tuple[float, ...] = tuple(float(p) for p in np.logspace(0, -7, 15))
#: Most samples on which bandwidths are compared.
SELECTION_SAMPLES = 800
#: Up to so many samples the comparison is in float64: the least penalties, times n, are near what
#: float32 can resolve, and precision costs nothing there.
DOUBLE_SAMPLES = 300

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
    bandwidth: float | None,
    penalties: Sequence[float],
    loss: Loss,
) -> tuple[Candidate, list[Candidate]]:
    """Choose bandwidth and penalty together by exact leave-one-out on all the given samples.

    Parameters
    ----------
    X, Y, w
        Samples, targets and weights; n is small enough for an n x n eigendecomposition.
    kernel
        A name of `kernels.KERNELS`.
    bandwidth
        Length scale of the kernel; None tries `BANDWIDTH_FACTORS` times the median distance.
    penalties
        Penalties to try.
    loss
        What is minimised.

    Returns
    -------
    best, tried
        The candidate of least loss, and all that were tried.
    """
    if len(X) <= DOUBLE_SAMPLES:
        X, Y, w = X.double(), Y.double(), w.double()
    base = base_matrix(X, X, kernel)
    lengths = [bandwidth] if bandwidth is not None else _lengths(base)

    def at(length: float) -> tuple[Candidate, list[Candidate]]:
        path = exact_path(apply_profile(base, kernel, length), Y, w)
        return best_penalty(path, penalties, loss, bandwidth=length)

    results = _map_threads(at, lengths)
    best = min((winner for winner, _ in results), key=lambda candidate: candidate.loss)
    return best, [candidate for _, tried in results for candidate in tried]


def _lengths(base: Tensor) -> list[float]:
    median = median_distance(base)
    return [factor * median for factor in BANDWIDTH_FACTORS]


def descend_penalties(
    K: Tensor,  # (n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    *,
    start: Candidate,
    penalties: Sequence[float],
    loss: Loss,
) -> tuple[Candidate, Tensor, list[Candidate]]:
    """Walk from the penalty of `start` along neighbours while exact leave-one-out gets better.

    For samples too many for the eigendecomposition that gives the whole path: a Cholesky factor per
    penalty costs about a sixth of it, and the start, chosen on a subset, is rarely more than a step
    or two away.

    Parameters
    ----------
    K, Y, w
        Kernel matrix, targets and weights of all samples, in the dtype to compute in.
    start
        Where to begin; its penalty is one of `penalties`.
    penalties
        Penalties from strong to weak.
    loss
        What is minimised.

    Returns
    -------
    best, scores, tried
        The best candidate, its leave-one-out predictions (n, c), and all that were tried.
    """
    found: dict[int, tuple[Candidate, Tensor]] = {}

    def at(k: int) -> tuple[Candidate, Tensor]:
        scores = exact_solution(K, Y, w, penalties[k]).leave_one_out()
        return Candidate(start.bandwidth, penalties[k], loss(scores)), scores

    def loss_at(*wanted: int) -> float:
        """Loss of the first of them; those not yet known are computed side by side."""
        missing = [k for k in wanted if 0 <= k < len(penalties) and k not in found]
        found.update(zip(missing, _map_threads(at, missing), strict=True))
        return found[wanted[0]][0].loss if wanted[0] in found else np.inf

    here = list(penalties).index(start.penalty)
    # With more samples the best penalty is weaker, if it changes: that neighbour comes first.
    step = 1 if loss_at(here, here + 1) > loss_at(here + 1) else -1
    while loss_at(here + step) < found[here][0].loss:
        here += step
    return (*found[here], [found[k][0] for k in sorted(found)])


def _map_threads(function: Callable[[_A], _B], items: Sequence[_A]) -> list[_B]:
    """`[function(item) for item in items]`, each in one thread and on one processor.

    An eigendecomposition gains little from a second processor, and where that one is busy with
    something else its threads wait for each other: five to ten times slower was measured. Whole
    eigendecompositions side by side need no such waiting.
    """
    if not items:
        return []
    # PyTorch's number of threads belongs to the thread that sets it: nobody else's changes.
    with ThreadPoolExecutor(
        min(len(items), torch.get_num_threads()),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        return list(pool.map(function, items))


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
    quota: NDArray[np.intp] = np.maximum(np.floor(shares).astype(np.intp), 1)
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
