"""Near-duplicates by features: groups to leave out together, and copies where none should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.features import Features
from toptune.features.taps import LAST
from toptune.kernel import FeatureNormalizer
from toptune.kernel.duplicates import joined_groups, near_duplicate_groups

#: Value of `groups` for which groups of near-duplicates are found from the features.
NEAR_DUPLICATES = "near-duplicates"


def near_duplicates(features: Features) -> NDArray[np.intp]:
    """Find groups of near-duplicates; see `toptune.kernel.duplicates.near_duplicate_groups`.

    The network's own pooled output decides, or all features where it is not among them.

    Returns
    -------
    ndarray of int, shape (n,)
        Code of the group of each image.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> near_duplicates(Features(X, ("a", "b", "c", "d"), None, {"last": 2}, {})).tolist()
    [0, 0, 1, 2]
    """
    widths = list(features.layers.values())
    first = sum(widths[: list(features.layers).index(LAST)]) if LAST in features.layers else 0
    columns = slice(first, first + features.layers.get(LAST, sum(widths)))
    rows = FeatureNormalizer().fit_transform(features.X[:, columns].astype(np.float32))
    return near_duplicate_groups(rows, features.labels if features.label_kind == "class" else None)


def with_near_duplicates(features: Features) -> Features:
    """Return the features with groups of near-duplicates, joined with the groups there are."""
    codes = near_duplicates(features)
    if features.groups is not None:
        codes = joined_groups(codes, features.groups)
    # No group that somebody names later has such a name by accident.
    names = np.char.add("near-duplicates ", codes.astype(np.str_))
    return replace(features, groups=names)


def mixed_groups(
    codes: NDArray[np.intp],  # (n,)
    values: ArrayLike,
) -> list[NDArray[np.intp]]:
    """Return the members of each group that holds more than one value, the largest group first.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Group of each sample.
    values : array-like of shape (n,)
        Labels, to find copies labelled differently; or splits, to find what leaks between them.

    Returns
    -------
    list of ndarray of int
        Ascending positions.

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
