"""Inducing points: which rows of the training set the Nystrom approximation is built on.

Letters: n samples, m centers, N sum of the sample weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from toptune.kernel.kernels import kernel_diagonal, kernel_matrix
from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.operators import Rows

#: How centers can be drawn.
CENTERS = ("balanced", "uniform", "leverage")
#: Up to this many samples every sample is a center: the solution is exact kernel ridge regression.
EXACT_SAMPLES = 3000
#: Above it the number of centers grows with sqrt(n), the rate at which Nystrom ridge regression
#: keeps the accuracy of the exact solution (Rudi, Camoriano and Rosasco 2015, arXiv 1507.04717).
CENTERS_PER_SQRT_N = 16
#: Most centers that "auto" takes: the direct solution's m x m matrices then take about 0.5 GB each.
MAX_AUTOMATIC_CENTERS = 8000
#: BLESS: candidates over 1 / lambda, centers over effective dimension, and the factor of lambda
#: from one level to the next.
CANDIDATES, OVERSAMPLING, LEVEL_FACTOR = 2.0, 2.0, 4.0
#: Most centers of a level before the last: their Cholesky factor must cost little.
LEVEL_CENTERS = 1000
#: Most candidates of a level, over the most centers that it draws, so that none scores all of many
#: rows.
CANDIDATES_PER_CENTER = 5
#: Rows scored at a time.
SCORED_ROWS = 4096


def automatic_n_centers(n: int) -> int:
    """Return the number of centers that "auto" stands for with n samples.

    Examples
    --------
    >>> [automatic_n_centers(n) for n in (100, 3000, 20_000, 100_000, 1_000_000)]
    [100, 3000, 3000, 5059, 8000]
    """
    if n <= EXACT_SAMPLES:
        return n
    return min(max(EXACT_SAMPLES, int(CENTERS_PER_SQRT_N * n**0.5)), MAX_AUTOMATIC_CENTERS)


def uniform_centers(
    n: int, m: int, *, random_state: np.random.RandomState
) -> NDArray[np.intp]:  # (min(m, n),)
    """Draw different rows, each as likely as any other; sorted."""
    return np.sort(random_state.permutation(n)[:m])


def balanced_centers(
    y: NDArray[np.intp],  # (n,) class codes
    m: int,
    *,
    random_state: np.random.RandomState,
) -> NDArray[np.intp]:  # (min(m, n),)
    """Draw different rows with as equal a share for every class as its size allows; sorted.

    A class smaller than its share gives all its rows, and the rest is shared among the others, so
    that a rare class is not represented by a handful of centers.
    """
    n = len(y)
    if m >= n:
        return np.arange(n)
    shuffled = random_state.permutation(n)
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    counts = np.unique(y, return_counts=True)[1]
    rank = np.concatenate([np.arange(count) for count in counts])  # place of a row in its class
    # Taking rows by rank goes round the classes, one row each, until m are taken. Rows of the last
    # round are tied; the shuffle decides between them, so no class name is favoured.
    tie = random_state.permutation(n)
    return np.sort(by_class[np.lexsort((tie, rank))[:m]])


def leverage_centers(
    X: Rows,
    m: int,
    *,
    kernel: str,
    bandwidth: float,
    penalty: float,
    random_state: np.random.RandomState,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:  # (min(m, n),) each
    """Draw different rows by approximate ridge leverage score: those that others explain least.

    BLESS (Rudi, Calandriello, Carratino and Rosasco 2018, arXiv 1810.13258): lambda falls from one
    level to the next; each level estimates the scores of uniform candidates with the centers of the
    level before, and draws its own by them, at most 1000 of at most 5000. The last level is at the
    penalty itself and draws m of at most 5 m candidates, without replacement.

    Parameters
    ----------
    X
        Samples.
    m
        Number of centers.
    kernel, bandwidth, penalty
        Of the problem.

    Returns
    -------
    rows, stands_for
        Sorted rows, and how many samples each stands for, adding up to n.
    """
    n = len(X)
    if m >= n:
        return np.arange(n), np.ones(n)
    centers, stands_for = np.array([int(random_state.randint(n))]), np.array([float(n)])
    largest = lam = float(kernel_diagonal(X.read(centers), kernel, bandwidth).max())
    last = False
    while not last:
        lam = max(lam / LEVEL_FACTOR, penalty)
        last = lam == penalty
        wanted = CANDIDATES_PER_CENTER * (m if last else LEVEL_CENTERS)
        if not last:
            wanted = min(wanted, math.ceil(CANDIDATES * largest / lam))
        candidates = np.sort(random_state.permutation(n)[: max(wanted, LEVEL_CENTERS)])
        scores = _leverage_scores(
            X, candidates, centers, stands_for, ridge=lam * n, kernel=kernel, bandwidth=bandwidth
        )
        dimension = n / len(candidates) * scores.sum()
        size = m if last else min(LEVEL_CENTERS, math.ceil(OVERSAMPLING * dimension))
        centers, stands_for = _draw(candidates, scores, size, n, random_state)
    return centers, stands_for


def _leverage_scores(
    X: Rows,
    rows: NDArray[np.intp],  # (r,)
    centers: NDArray[np.intp],  # (j,)
    stands_for: NDArray[np.float64],  # (j,)
    *,
    ridge: float,
    kernel: str,
    bandwidth: float,
) -> NDArray[np.float64]:  # (r,)
    """(k(x, x) - k_J(x)^T (K_JJ + ridge diag(1 / stands_for))^-1 k_J(x)) / ridge."""
    Z = X.read(centers)
    K = kernel_matrix(Z, Z, kernel, bandwidth).double()
    K.diagonal().add_(torch.as_tensor(ridge / stands_for, device=K.device))
    L = cholesky_factor(K, name="the kernel matrix of the candidates", announce=False)
    out = []
    for part in np.array_split(rows, 1 + len(rows) // SCORED_ROWS):
        block = X.read(part)
        k = kernel_matrix(Z, block, kernel, bandwidth).double()
        explained = torch.linalg.solve_triangular(L, k, upper=False).square_().sum(0)
        out.append(kernel_diagonal(block, kernel, bandwidth).double() - explained)
    scores: NDArray[np.float64] = torch.cat(out).cpu().numpy() / ridge
    # Exact scores are at most 1. A row that is explained up to rounding can be drawn, if hardly.
    scores.clip(min=float(np.finfo(np.float32).eps), max=1.0, out=scores)
    return scores


def _draw(
    candidates: NDArray[np.intp],  # (r,)
    scores: NDArray[np.float64],  # (r,)
    size: int,
    n: int,
    random_state: np.random.RandomState,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Draw different candidates with odds in proportion to the scores (Gumbel keys), sorted."""
    keys = np.log(scores) + random_state.gumbel(size=len(scores))
    chosen = np.sort(np.argsort(-keys, kind="stable")[:size])
    probability = np.minimum(1.0, size * scores[chosen] / scores.sum())
    stands_for = 1.0 / probability
    return candidates[chosen], stands_for * (n / stands_for.sum())
