"""How unlike the training images an image is: the unknown score, and its threshold.

Two quantities of `toptune.kernel.novelty` tell of it: what the training images leave open about the
image (posterior variance), and how far its nearest ones are. Each is taken as a logarithm and
measured against the leave-one-out values of the training images themselves, less their median, over
the distance from their median to their 84 % quantile, which is one standard deviation of a normal
distribution. The score is the mean of both: 0 is usual, 1 is what one training image in six
reaches. Samples of one group are left out together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.decisions.prediction_sets import check_rate, conformal_quantile
from toptune.errors import DataError
from toptune.kernel import KernelClassifier, Rows
from toptune.kernel.novelty import ReferencePoints, reference_points

#: Reference points at most, taken evenly from the centers: their kernel matrix is inverted.
MAX_POINTS = 2000
#: Which of the nearest reference points the distance is taken to.
NEIGHBOUR = 3
#: Rows compared with the reference points at a time.
_BLOCK_ROWS = 256
#: Spread below which left-out values count as equal, in units of the logarithm.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True, eq=False)
class UnknownScorer:
    """Unknown scores of new samples; make one with `unknown_scorer`.

    Attributes
    ----------
    points : ReferencePoints
        Training samples that new ones are compared with.
    median, spread : ndarray of shape (2,)
        Of the logarithms of left-out variances and distances.
    left_out : ndarray of shape (m,)
        Unknown scores of the reference points, each without itself, or without its group.
    weights : ndarray of shape (m,)
        How many training samples each one stands for.
    """

    points: ReferencePoints
    median: NDArray[np.float64]
    spread: NDArray[np.float64]
    left_out: NDArray[np.float64]
    weights: NDArray[np.float64]

    def scores(self, rows: Rows) -> NDArray[np.float64]:  # (n,)
        """Unknown scores of rows in the kernel's space, as `kernel_space` returns them."""
        found = [
            _logarithms(self.points.variances(X), self.points.distances(X, NEIGHBOUR))
            for X in _blocks(rows)
        ]
        values = np.concatenate(found) if found else np.zeros((0, 2))
        out: NDArray[np.float64] = ((values - self.median) / self.spread).mean(axis=1)
        return out

    def threshold(self, reject: float) -> float:
        """Score that a share `reject` of samples like the training samples exceeds, at most.

        Infinity where there are too few of them for that rate.

        Raises
        ------
        ValueError
            If `reject` is not between 0 and 1.
        """
        return conformal_quantile(
            self.left_out,
            1.0 - check_rate("reject", reject),
            groups=self.points.groups,
            weights=self.weights,
        )


def unknown_scorer(
    head: KernelClassifier,
    codes: NDArray[np.intp],
    groups: NDArray[np.str_] | None = None,
) -> UnknownScorer:
    """Compare the centers of a fitted head with each other.

    Parameters
    ----------
    head : KernelClassifier
        Fitted. Its centers are training samples: all of them up to 3,000.
    codes : ndarray of int, shape (n,)
        Classes of the training samples. Centers are drawn evenly from the classes, so that those
        of a frequent class stand for more samples.
    groups : ndarray of shape (n,), optional
        What belongs together.

    Returns
    -------
    UnknownScorer

    Raises
    ------
    DataError
        If all centers are of another model, or of samples that were forgotten.

    Examples
    --------
    >>> import numpy as np
    >>> from toptune.kernel import KernelClassifier
    >>> from toptune.decisions.novelty import unknown_scorer
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> head = KernelClassifier(random_state=0).fit(X, y)
    >>> scorer = unknown_scorer(head, y)
    >>> rows, _ = head.kernel_space([[0.0, 0.0, 0.0], [30.0, 30.0, 30.0]])
    >>> (scorer.scores(rows) > scorer.threshold(0.05)).tolist()
    [False, True]
    """
    _, Z = head.kernel_space(head.centers_)
    there = np.flatnonzero(head.center_indices_ >= 0)  # others are of no training sample
    if len(there) == 0:
        raise DataError(
            "no center is a training sample, to compare with: they are of another model, or their "
            "samples were forgotten; train a model without centers="
        )
    evenly = np.linspace(0, len(there) - 1, min(len(there), MAX_POINTS)).astype(np.intp)
    some = there[np.unique(evenly)]
    rows = head.center_indices_[some]
    of_group = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    points = reference_points(Z[some], head.kernel_, head.bandwidth_, head.penalty_, of_group)
    values = _logarithms(points.left_out_variances(), points.left_out_distances(NEIGHBOUR))
    median, high = np.quantile(values, [0.5, 0.84], axis=0)
    spread = np.maximum(high - median, LEAST_SPREAD)
    counts = np.bincount(codes)
    weights = counts[codes[rows]] / np.bincount(codes[rows], minlength=len(counts))[codes[rows]]
    left_out = ((values - median) / spread).mean(axis=1)
    return UnknownScorer(points, median, spread, left_out, weights)


def _logarithms(variances: Tensor, distances: Tensor) -> NDArray[np.float64]:  # (n, 2)
    """Logarithms of both; a distance of zero, that of a copy, counts as a very small one."""
    both = torch.stack([variances, distances], dim=1).cpu().numpy()
    out: NDArray[np.float64] = np.log(np.maximum(both, np.finfo(np.float64).tiny))
    return out


def _blocks(rows: Rows) -> Iterator[Tensor]:
    for first in range(0, len(rows), _BLOCK_ROWS):
        yield rows.read(slice(first, first + _BLOCK_ROWS))
