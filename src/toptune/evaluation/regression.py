"""Metrics of predicted numbers. Letters: n samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NumberEvaluation:
    """Metrics of a regressor on labelled samples.

    Attributes
    ----------
    r2 : float or None
        1 less the part of the variance that is left; None where all true values are equal.
    mae, rmse : float
        Mean absolute error, and root of the mean squared error, in the unit of the labels.
    spearman : float or None
        Rank correlation of truth and prediction; None where one of them does not vary.
    n : int
        Number of samples.
    """

    r2: float | None
    mae: float
    rmse: float
    spearman: float | None
    n: int

    @property
    def score(self) -> float:
        """R^2, which is what `score` of a regressor is; NaN where there is none."""
        return math.nan if self.r2 is None else self.r2

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return asdict(self)


def evaluate_numbers(y_true: ArrayLike, predicted: ArrayLike) -> NumberEvaluation:
    """Compare predicted numbers with the true ones.

    Parameters
    ----------
    y_true, predicted : array-like of shape (n,)
        Numbers, finite.

    Returns
    -------
    NumberEvaluation

    Raises
    ------
    ValueError
        If there are no samples, or shapes differ.

    Examples
    --------
    >>> found = evaluate_numbers([0.0, 1.0, 2.0], [0.5, 1.0, 1.5])
    >>> found.r2, round(found.mae, 3), found.spearman
    (0.75, 0.333, 1.0)
    """
    from scipy.stats import spearmanr

    y, z = np.asarray(y_true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or y.shape != z.shape:
        raise ValueError(f"true and predicted numbers must be (n,), got {y.shape} and {z.shape}")
    if len(y) == 0:
        raise ValueError("there are no samples to evaluate")
    errors = z - y
    varies = bool(np.ptp(y) > 0)
    ranks = varies and bool(np.ptp(z) > 0)
    return NumberEvaluation(
        r2=1 - float((errors**2).sum() / ((y - y.mean()) ** 2).sum()) if varies else None,
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt((errors**2).mean())),
        spearman=float(spearmanr(y, z).statistic) if ranks else None,
        n=len(y),
    )
