"""Near-duplicates that should not be: of different labels, or on both sides of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.kernel import FeatureNormalizer
from toptune.kernel.duplicates import near_duplicate_groups


def near_duplicates(
    X: NDArray[Any],
    layers: Mapping[str, int],
    labels: ArrayLike | None,
    *,
    layer: str,
) -> NDArray[np.intp]:
    """Codes of the groups of near-duplicates, by one layer's features where they are there.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features as networks give them.
    layers : mapping of str to int
        Layers and the number of columns of each, in order.
    labels : array-like of shape (n,), optional
        Classes; see `toptune.kernel.duplicates.near_duplicate_groups`.
    layer : str
        The layer to compare; all of them where it is not among them.

    Returns
    -------
    ndarray of int, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> near_duplicates(X, {"last": 2}, None, layer="last").tolist()
    [0, 0, 1, 2]
    """
    ends = dict(zip(layers, np.cumsum(list(layers.values())).tolist(), strict=True))
    columns = slice(ends[layer] - layers[layer], ends[layer]) if layer in layers else slice(None)
    rows = FeatureNormalizer().fit_transform(X[:, columns].astype(np.float32))
    return near_duplicate_groups(rows, labels)


def mixed_groups(
    codes: NDArray[np.intp],  # (n,)
    values: ArrayLike,
) -> list[NDArray[np.intp]]:
    """Members of the groups that hold more than one value.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Group of each sample.
    values : array-like of shape (n,)
        Labels, to find copies labelled differently; or splits, to find what leaks between them.

    Returns
    -------
    list of ndarray of int
        Ascending positions; the largest group first.

    Examples
    --------
    >>> import numpy as np
    >>> mixed_groups(np.array([0, 1, 0, 1, 2]), ["a", "b", "c", "b", "a"])
    [array([0, 2])]
    """
    kinds = np.unique(np.asarray(values), return_inverse=True)[1]
    _, group = np.unique(codes, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1])
    mixed = [rows for rows in members if len(np.unique(kinds[rows])) > 1]
    return sorted(mixed, key=len, reverse=True)
