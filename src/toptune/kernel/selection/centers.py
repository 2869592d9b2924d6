"""Inducing points: which rows of the training set the Nystrom approximation is built on.

Letters: n samples, m centers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: How centers can be drawn.
CENTERS = ("balanced", "uniform")
#: Up to this many samples every sample is a center: the solution is exact kernel ridge regression.
EXACT_SAMPLES = 3000
#: Above it the number of centers grows with sqrt(n), the rate at which Nystrom ridge regression
#: keeps the accuracy of the exact solution (Rudi, Camoriano and Rosasco 2015, arXiv 1507.04717).
CENTERS_PER_SQRT_N = 16
#: Most centers that "auto" takes: the direct solution's m x m matrices then take about 0.5 GB each.
MAX_AUTOMATIC_CENTERS = 8000


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
