"""Random splits that keep the proportions of the classes, and groups of images together.

With groups, draws of scikit-learn are improved by moving single groups. With T_gc the number of
images of class c in group g, n_c their sum over the groups, and e_c the images of class c in the
test part less the t n_c that are wanted there, a split is as good as

    sum_c e_c^2 / n_c

is small: classes weigh by their size, and an exact split has zero. Moving group g into the test
part changes it by sum_c (T_gc^2 + 2 e_c T_gc) / n_c, moving it out by sum_c (T_gc^2 - 2 e_c T_gc) /
n_c, so that the best single move is one sparse product. Without the moves many classes defeat the
draws, and StratifiedGroupKFold knows only parts of 1/k: a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toptune.errors import DataError
from toptune.images.image_set import group_names

_Indices = npt.NDArray[np.intp]
_Mask = npt.NDArray[np.bool_]

_DRAWS = 20

# Groups looked at in all moves together; draws are improved while this lasts, the best first.
_EFFORT = 100_000_000


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
        return _grouped_split(codes, members, test_size=test_size, random_state=random_state)
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


def _grouped_split(
    classes: _Indices,  # (n,)
    groups: _Indices,  # (n,)
    *,
    test_size: float,
    random_state: int,
) -> tuple[_Indices, _Indices]:
    """Split images so that no group is on both sides and every class is in the training part.

    Classes and groups are numbered from 0 without a gap; `test_size` is the part of the images of
    those classes that several groups have.
    """
    n_groups = int(groups.max(initial=-1)) + 1
    if n_groups < 2:
        raise DataError(
            f"cannot split {len(groups)} images of {n_groups} "
            f"{'group' if n_groups == 1 else 'groups'}: at least two groups are needed, because "
            "none may be on both sides"
        )
    counts = _Counts(classes, groups, test_size)
    if counts.free.size == 0:
        raise DataError(
            f"cannot split {len(groups)} images of {n_groups} groups: each group is the only one "
            "of some class, which could not be trained on without it; add groups, or split "
            "without them"
        )
    draws = sorted(counts.draws(random_state), key=counts.error)
    effort = _EFFORT // n_groups
    improved = []
    for draw in draws:
        effort -= counts.improve(draw, most=effort)
        improved.append(draw)
        if effort <= 0:
            break
    test = min(improved, key=counts.error)[groups]
    return np.flatnonzero(~test), np.flatnonzero(test)


class _Counts:
    """Images by group and class, and what follows for groups that are tested on.

    Attributes
    ----------
    T, has : sparse (G, c)
        Images of each class in each group, and whether there are any.
    weight : (c,)
        1 / n_c; 0 for a class that a single group has.
    free : (f,)
        Groups that may be in the test part: no class is theirs alone.
    """

    def __init__(self, classes: _Indices, groups: _Indices, test_size: float) -> None:
        from scipy.sparse import csr_array

        ones = np.ones(len(groups))
        self.T = csr_array((ones, (groups, classes)))
        self.T.sum_duplicates()
        self.has = self.T.copy()
        self.has.data[:] = 1
        n = self.T.sum(axis=0)
        several = self.has.sum(axis=0) > 1
        self.weight = np.where(several, 1 / n, 0.0)
        self.wanted = test_size * n * several
        self.free: _Indices = np.flatnonzero(self.has @ ~several == 0)

    def draws(self, random_state: int) -> list[_Mask]:
        """Draw test parts from the free groups, every class left to the training part."""
        from sklearn.model_selection import GroupShuffleSplit

        free, n_images = self.free, self.T.sum(axis=1)
        if free.size == 1:
            parts: list[_Indices] = [np.zeros(1, dtype=np.intp)]
        else:
            share = self.wanted.sum() / n_images[free].sum()
            size = int(np.clip(round(share * free.size), 1, free.size - 1))
            splitter = GroupShuffleSplit(_DRAWS, test_size=size, random_state=random_state)
            parts = [part for _, part in splitter.split(free, groups=free)]
        masks = []
        for part in parts:
            test: _Mask = np.zeros(self.T.shape[0], dtype=np.bool_)
            test[free[part]] = True
            # A class that is missing on the training side gets its smallest group back. This never
            # takes the last one: the others of its classes would be in the training part by then.
            while (missing := self.has.T @ ~test == 0).any():
                owners = np.flatnonzero(test & (self.has[:, [np.argmax(missing)]].sum(axis=1) > 0))
                test[owners[np.argmin(n_images[owners])]] = False
            masks.append(test)
        return masks

    def error(self, test: _Mask) -> float:
        """Return how far the test part is from the proportions wanted."""
        return float(((self.T.T @ test - self.wanted) ** 2) @ self.weight)

    def improve(self, test: _Mask, *, most: int) -> int:
        """Move the best group in or out while that helps, in place; return the number of moves."""
        own = self.T.power(2) @ self.weight
        for move in range(most):
            excess = (self.T.T @ test - self.wanted) * self.weight
            change = own + np.where(test, -2, 2) * (self.T @ excess)
            # The only group of a class in the training part stays there.
            change[~test & (self.has @ (self.has.T @ ~test == 1) > 0)] = np.inf
            if test.sum() == 1:
                change[test] = np.inf
            best = np.argmin(change)
            if change[best] >= -1e-9:
                return move
            test[best] = ~test[best]
        return most
