"""Random splits that keep the proportions of the classes, and groups of images together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toptune.errors import DataError
from toptune.images.grouped_split import grouped_split
from toptune.images.image_set import group_names

_Indices = npt.NDArray[np.intp]


def stratified_split(
    labels: Sequence[object] | npt.NDArray[Any] | None,
    *,
    test_size: float = 0.25,
    random_state: int = 0,
    groups: Sequence[object] | npt.NDArray[Any] | None = None,
) -> tuple[_Indices, _Indices]:
    """Split images into a training and a test part, class by class.

    Parameters
    ----------
    labels : array-like, shape (n,)
        Class of each image.
    test_size : float
        Part of the images to test on, in (0, 1). Classes with a single image, or a single group,
        go to the training part and do not count.
    random_state : int
        Seed; the same seed, labels and groups give the same split.
    groups : array-like, shape (n,), optional
        Group of each image, such as `ImageSet.groups`: no group is on both sides. An image whose
        group is missing (None, NaN or empty) is a group of its own. Of 20 random splits, improved
        by moving one group at a time, the one is taken whose test part comes nearest to
        `test_size` of every class; few or large groups allow no more than that.

    Returns
    -------
    train, test : ndarray of int, sorted
        Positions; together they are 0 to n - 1, each once. Every class is in the training part;
        of a class with few images the test part may have none.

    Raises
    ------
    DataError
        If there are no labels, `test_size` is out of range, or one of the parts would have fewer
        images than there are classes. With groups: if their number differs from that of the labels,
        there are fewer than two, or each of them is the only one of some class.

    Examples
    --------
    >>> train, test = stratified_split(["cat"] * 6 + ["dog"] * 2 + ["emu"], test_size=0.5)
    >>> len(train), len(test)
    (5, 4)
    >>> 8 in train  # the only emu
    True
    >>> train, test = stratified_split(["cat"] * 6, test_size=0.3, groups=[1, 1, 1, 2, 2, 3])
    >>> test.tolist()
    [3, 4]
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    if labels is None:
        raise DataError("images without labels cannot be split class by class")
    if not 0 < test_size < 1:
        raise DataError(f"test_size must be between 0 and 1, got {test_size!r}")
    names, codes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if groups is not None:
        texts = group_names(groups, [f"image {i}" for i in range(len(codes))])
        _, first, members = np.unique(texts, return_index=True, return_inverse=True)
        members = np.argsort(np.argsort(first))[members]  # by appearance: names decide nothing
        return grouped_split(codes, members, test_size=test_size, random_state=random_state)
    lone = counts[codes] == 1
    several = np.flatnonzero(~lone)
    if several.size == 0:
        raise DataError(
            f"cannot split {len(codes)} images of {len(names)} classes: "
            "no class has two images; add images, or give the splits by name"
        )
    splitter = StratifiedShuffleSplit(1, test_size=test_size, random_state=random_state)
    try:
        train, test = next(splitter.split(several, codes[several]))
    except ValueError as error:
        raise DataError(
            f"cannot split {several.size} images of {int((counts > 1).sum())} classes with "
            f"test_size={test_size:g}: each part needs as many images as there are classes; "
            "add images or choose another test_size"
        ) from error
    train, test = several[train], several[test]
    # Where test_size is over one half, rounding may have sent a whole small class to the test part.
    absent = np.setdiff1d(codes[test], codes[train])
    moved = np.array([test[codes[test] == code][0] for code in absent], dtype=np.intp)
    train = np.concatenate([train, moved, np.flatnonzero(lone)])
    return np.sort(train), np.setdiff1d(test, moved)
