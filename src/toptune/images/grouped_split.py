"""Random splits that tear no group apart: draws of scikit-learn, improved by moving single groups.

With T_gc the number of images of class c in group g, n_c their sum over the groups, and e_c the
images of class c in the test part less the t n_c that are wanted there, a split is as good as

    sum_c e_c^2 / n_c

is small: classes weigh by their size, and an exact split has zero. Moving group g into the test
part changes it by sum_c (T_gc^2 + 2 e_c T_gc) / n_c, moving it out by sum_c (T_gc^2 - 2 e_c T_gc) /
n_c, so that the best single move is one sparse product. Without the moves many classes defeat the
draws, and StratifiedGroupKFold knows only parts of 1/k: a test compares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from toptune.errors import DataError

_DRAWS = 20

# Groups looked at in all moves together; draws are improved while this lasts, the best first.
_EFFORT = 100_000_000

_Codes = npt.NDArray[np.intp]
_Mask = npt.NDArray[np.bool_]


def grouped_split(
    classes: _Codes,  # (n,)
    groups: _Codes,  # (n,)
    *,
    test_size: float,
    random_state: int,
) -> tuple[_Codes, _Codes]:
    """Split images so that no group is on both sides and every class is in the training part.

    Parameters
    ----------
    classes, groups : ndarray of int, shape (n,)
        Class and group of each image, each numbered from 0 without a gap.
    test_size : float
        Part to test on of the images of those classes that several groups have.
    random_state : int
        Seed.

    Returns
    -------
    train, test : ndarray of int, sorted

    Raises
    ------
    DataError
        If there are fewer than two groups, or each group is the only one of some class.
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
    found = []
    for draw in draws:
        effort -= counts.improve(draw, most=effort)
        found.append(draw)
        if effort <= 0:
            break
    test = min(found, key=counts.error)[groups]
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

    def __init__(self, classes: _Codes, groups: _Codes, test_size: float) -> None:
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
        self.free: _Codes = np.flatnonzero(self.has @ ~several == 0)

    def draws(self, random_state: int) -> list[_Mask]:
        """Draw test parts from the free groups, every class left to the training part."""
        from sklearn.model_selection import GroupShuffleSplit

        free, n_images = self.free, self.T.sum(axis=1)
        if free.size == 1:
            parts: list[_Codes] = [np.zeros(1, dtype=np.intp)]
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
