"""Bandwidth, penalty and weights of feature groups by exact leave-one-out: no validation split.

One eigendecomposition per kernel gives the leave-one-out predictions of every penalty
(`exact.PenaltyPath`). Bandwidths are multiples of a length scale of the samples. Where n is large
the kernel is chosen on a subset; the best bandwidth hardly moves with n, and the penalty, which
does, is then chosen again on all samples.

Letters: n samples, d features, c outputs, g feature groups.
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

from toptune.kernel.kernels import apply_profile, base_matrix, length_scale
from toptune.kernel.selection.group_weights import refine_weights
from toptune.kernel.systems.exact import PenaltyPath, exact_path

_A = TypeVar("_A")
_B = TypeVar("_B")

#: Multiples of the length scale that are tried as bandwidths.
BANDWIDTH_FACTORS: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4, 2.0)
#: The bandwidth of the linear kernel only divides the penalty by its square.
LINEAR_FACTORS: tuple[float, ...] = (1.0,)
#: Penalties that are tried, from strong to weak so that a tie goes to the smoother function. Below
#: 1e-7 float32 eigenvalues are rounding noise.
PENALTIES: tuple[float, ...] = tuple(float(p) for p in np.logspace(0, -7.2, 19))
#: Most samples on which bandwidths are compared.
SELECTION_SAMPLES = 800
#: Up to so many samples the comparison is in float64: the least penalties, times n, are near what
#: float32 can resolve, and precision costs nothing there.
DOUBLE_SAMPLES = 300

#: Samples on which weights of feature groups are found.
WEIGHT_SAMPLES = 500

#: Some of the samples.
Index = slice | NDArray[np.intp]
#: Loss of leave-one-out predictions (n, c) for the samples they belong to; smaller is better.
Loss = Callable[[Tensor], float | Tensor]


@dataclass(frozen=True)
class Candidate:
    """Hyperparameters and their leave-one-out loss.

    `weights` are those of the feature groups, (g,); empty where there are no groups.
    """

    bandwidth: float
    penalty: float
    loss: float
    weights: tuple[float, ...] = ()
    kernel: str = ""


def best_penalty(
    path: PenaltyPath,
    penalties: Sequence[float],
    loss: Loss,
    *,
    bandwidth: float,
    weights: tuple[float, ...] = (),
    kernel: str = "",
) -> tuple[Candidate, list[Candidate]]:
    """Try every penalty on one path; return the best candidate and all of them.

    Raises
    ------
    FloatingPointError
        If no penalty gives a finite loss.
    """
    tried = [
        Candidate(bandwidth, penalty, float(loss(scores)), weights, kernel)
        for penalty, scores in zip(penalties, path.leave_one_out_path(penalties), strict=True)
    ]
    finite = [candidate for candidate in tried if np.isfinite(candidate.loss)]
    if not finite:
        raise FloatingPointError(f"no penalty gave a finite leave-one-out loss at {bandwidth=:g}")
    return min(finite, key=_by_loss), tried


def _by_loss(candidate: Candidate) -> float:
    return candidate.loss


def select(
    X: Tensor,  # (n, d)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    *,
    groups: NDArray[np.intp] | None = None,  # (n,)
    kernel: str,
    bandwidth: float | None,
    penalties: Sequence[float],
    loss: Callable[[Tensor, Index], Tensor],
    widths: Sequence[int] = (),
) -> tuple[Candidate, list[Candidate]]:
    """Choose kernel and penalty together by exact leave-one-out on all the given samples.

    Feature groups start with weights that make their length scales equal, and go from there where
    `refine_weights` takes them; then the bandwidth is chosen again. The better of both is returned.

    Parameters
    ----------
    X, Y, w
        Samples, targets and weights; n is small enough for an n x n eigendecomposition.
    groups
        Codes of the groups that are left out whole; None: every sample by itself.
    kernel
        A name of `kernels.KERNELS`.
    bandwidth
        Length scale of the kernel; None tries `BANDWIDTH_FACTORS` times that of the samples.
    penalties
        Penalties to try.
    loss
        What is minimised: loss of scores for some of the samples, differentiable in the scores.
    widths
        Numbers of columns of feature groups whose weights are to be chosen, adding up to d; fewer
        than two choose none.

    Returns
    -------
    best, tried
        The candidate of least loss, and all that were tried.
    """
    if len(X) <= DOUBLE_SAMPLES:
        X, Y, w = X.double(), Y.double(), w.double()
    tried: list[Candidate] = []

    def try_all(
        bases: Sequence[tuple[Tensor, float, tuple[float, ...]]],
    ) -> Candidate:
        """Best of some (base matrix, bandwidth, weights) at its best penalty."""

        def at(item: tuple[Tensor, float, tuple[float, ...]]) -> tuple[Candidate, list[Candidate]]:
            base, length, weights = item
            path = exact_path(apply_profile(base, kernel, length), Y, w, groups)
            return best_penalty(
                path,
                penalties,
                lambda scores: loss(scores, slice(None)),
                bandwidth=length,
                weights=weights,
                kernel=kernel,
            )

        results = _map_threads(at, bases)
        tried.extend(candidate for _, candidates in results for candidate in candidates)
        return min((winner for winner, _ in results), key=_by_loss)

    def try_bandwidths(base: Tensor, weights: tuple[float, ...]) -> Candidate:
        lengths = [bandwidth] if bandwidth is not None else _lengths(base, kernel)
        return try_all([(base, length, weights) for length in lengths])

    if len(widths) < 2:
        return try_bandwidths(base_matrix(X, X, kernel), ()), tried
    # A copy of each group's columns: `base_matrix` knows a matrix with itself by identity.
    columns = (x.contiguous() for x in torch.split(X, list(widths), dim=1))
    parts = torch.stack([base_matrix(x, x, kernel) for x in columns])

    def combined(weights: Sequence[float]) -> Tensor:
        out: Tensor = torch.tensordot(parts.new_tensor(weights), parts, dims=1)
        return out

    start = tuple(length_scale(part, kernel) ** -2 for part in parts)
    best = try_bandwidths(combined(start), start)
    # Evenly spread: where samples lie class by class, every class gets its share.
    n = len(X)
    rows = np.unique(np.linspace(0, n - 1, min(n, WEIGHT_SAMPLES)).astype(np.intp))

    def refine(begin: Candidate) -> tuple[float, ...]:
        return refine_weights(
            parts[:, rows][:, :, rows].double(),
            Y[rows].double(),
            w[rows].double(),
            start=begin.weights,
            penalty=begin.penalty,
            kernel=kernel,
            bandwidth=begin.bandwidth,
            loss=lambda scores: loss(scores, rows),
            groups=None if groups is None else groups[rows],
            penalties=(min(PENALTIES), max(PENALTIES)),
        )

    refined = _map_threads(refine, [best])[0]
    return min(best, try_bandwidths(combined(refined), refined), key=_by_loss), tried


def _lengths(base: Tensor, kernel: str) -> list[float]:
    scale = length_scale(base, kernel)
    factors = LINEAR_FACTORS if kernel == "linear" else BANDWIDTH_FACTORS
    return [factor * scale for factor in factors]


def descend_penalties(
    evaluate: Callable[[float], tuple[float, _A]],
    *,
    start: float,
    penalties: Sequence[float],
) -> tuple[float, _A, dict[float, float]]:
    """Walk from one penalty along its neighbours while the loss gets smaller or is infinite.

    For samples too many for the eigendecomposition that gives the whole path: a Cholesky factor per
    penalty costs about a sixth of it, and the start, chosen on a subset, is rarely more than a step
    or two away.

    Parameters
    ----------
    evaluate
        Returns the loss at a penalty, infinite where it cannot be told, and what belongs to it.
        Called in several threads.
    start
        Where to begin, one of `penalties`.
    penalties
        Penalties from strong to weak.

    Returns
    -------
    penalty, result, losses
        The best penalty, or the start if no loss was finite; what `evaluate` returned for it; and
        the losses of all that were tried.
    """
    found: dict[int, tuple[float, _A]] = {}

    def loss_at(*wanted: int) -> float:
        """Loss of the first of them; if it is to be computed, the others are, side by side."""
        if wanted[0] not in found:
            missing = [k for k in wanted if 0 <= k < len(penalties) and k not in found]
            results = _map_threads(evaluate, [penalties[k] for k in missing])
            found.update(zip(missing, results, strict=True))
        return found[wanted[0]][0] if wanted[0] in found else np.inf

    here = list(penalties).index(start)
    # With more samples the best penalty is weaker, if it changes: that neighbour comes first.
    step = 1 if loss_at(here, here + 1) > loss_at(here + 1) else -1
    # The neighbour after the next costs no time beside the next, and is often wanted.
    while loss_at(here + step, here + 2 * step) < found[here][0] or (
        np.isinf(found[here][0]) and here + step in found
    ):
        here += step
    if np.isinf(found[here][0]):
        here = list(penalties).index(start)
    return penalties[here], found[here][1], {penalties[k]: found[k][0] for k in sorted(found)}


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


def whole_group_subset(
    groups: NDArray[np.intp],  # (n,)
    size: int,
    *,
    random_state: np.random.RandomState,
) -> NDArray[np.intp]:
    """Rows of random groups, all rows of each; at most `size` unless every group has more."""
    names, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    taken, total = [], 0
    for group in random_state.permutation(len(names)).tolist():
        if total + counts[group] <= size:
            taken.append(group)
            total += counts[group]
    return np.flatnonzero(np.isin(codes, taken or [int(counts.argmin())]))


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
