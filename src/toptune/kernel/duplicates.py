"""Near-duplicates: samples so close that one tells the label of the other.

Letters: n samples, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.utils.validation import check_array

from toptune.kernel.kernels import base_matrix

#: Samples nearer than this part of the median squared distance within classes are near-duplicates:
#: on four image sets whose groups are files of one object, all such pairs were of one group.
NEAR = 0.15
#: Samples of which the median distance is taken, and rows compared at a time.
MEDIAN_SAMPLES, ROWS = 1000, 2048


def joined_groups(
    first: NDArray[Any],  # (n,)
    second: NDArray[Any],  # (n,)
) -> NDArray[np.intp]:  # (n,)
    """Codes of the least groups that hold whole groups of both kinds.

    Examples
    --------
    >>> joined_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])).tolist()
    [0, 0, 0, 1]
    """
    a, b = (np.unique(groups, return_inverse=True)[1] for groups in (first, second))
    n, of_a = len(a), int(a.max(initial=-1)) + 1
    size = n + of_a + int(b.max(initial=-1)) + 1
    samples = np.arange(n)
    edges = np.concatenate([samples, samples]), np.concatenate([n + a, n + of_a + b])
    graph = coo_matrix((np.ones(2 * n, dtype=bool), edges), shape=(size, size))
    codes: NDArray[np.intp] = connected_components(graph, directed=False)[1][:n].astype(np.intp)
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def near_duplicate_groups(
    X: ArrayLike, y: ArrayLike | None = None, *, near: float = NEAR
) -> NDArray[np.intp]:  # (n,)
    """Codes of groups that chains of near-duplicates form; others are groups of their own.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features, finite and normalised, as `FeatureNormalizer` gives them.
    y : array-like of shape (n,), optional
        Classes: what counts is then the median distance within classes, for samples of one class
        are no duplicates only because the classes lie far apart.
    near : float, default=0.15
        Squared distance of near-duplicates, as a part of the median squared distance of two
        samples.

    Returns
    -------
    ndarray of int, shape (n,)

    Examples
    --------
    >>> near_duplicate_groups([[0.0], [0.01], [1.0], [2.0], [3.0]]).tolist()
    [0, 0, 1, 2, 3]
    """
    rows = torch.from_numpy(check_array(X, dtype=[np.float32, np.float64]))
    n = len(rows)
    drawn = np.unique(np.linspace(0, n - 1, min(n, MEDIAN_SAMPLES)).astype(np.intp))
    some = rows[drawn]
    i, j = torch.triu_indices(len(some), len(some), offset=1)
    spread = base_matrix(some, some, "gaussian")[i, j]
    if y is not None:
        classes = np.unique(np.asarray(y), return_inverse=True)[1][drawn]
        within = torch.from_numpy(classes[i] == classes[j])
        spread = spread[within] if bool(within.any()) else spread
    if not len(spread):
        return np.zeros(n, dtype=np.intp)
    # Where most samples are the same, the median is zero or what rounding leaves of it.
    rounding = 16 * torch.finfo(rows.dtype).eps * float(rows.square().sum(1).max())
    limit = max(near * float(spread.median()), rounding)
    first, second = [], []
    for start in range(0, n, ROWS):
        close = base_matrix(rows[start : start + ROWS], rows[start:], "gaussian") <= limit
        a, b = torch.nonzero(close, as_tuple=True)
        first.append(a + start)
        second.append(b + start)
    edges = torch.cat(first).numpy(), torch.cat(second).numpy()
    graph = coo_matrix((np.ones(len(edges[0]), dtype=bool), edges), shape=(n, n))
    codes: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return codes
