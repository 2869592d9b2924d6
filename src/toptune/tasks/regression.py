"""Regression: every image has a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs
from toptune.decisions.prediction_sets import conformal_quantile
from toptune.decisions.rule import DecisionRule
from toptune.errors import DataError
from toptune.evaluation.regression import NumberEvaluation, evaluate_numbers
from toptune.features import Features
from toptune.images import ImageSet, Quarantined
from toptune.images.labels import as_text
from toptune.kernel import KernelRegressor, Rows
from toptune.tasks.base import Targets, Task, labels_of

#: Of the intervals that are shown.
COVERAGE = 0.9


@dataclass(frozen=True)
class NumberPredictions:
    """Numbers for the images that could be read, and the images that could not.

    Attributes
    ----------
    ids : tuple of str
        Names of the n images that were read.
    values : ndarray of shape (n,)
        Predictions, in the unit of the labels.
    errors : ndarray of shape (N,)
        Absolute leave-one-out errors of the N training images.
    groups : ndarray of str, shape (N,), or None
        Groups of the training images.
    quarantined : tuple of Quarantined
        Images set aside, with the reason.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    groups: NDArray[np.str_] | None
    quarantined: tuple[Quarantined, ...]

    def decide(
        self, *, costs: Costs | None = None, thresholds: Mapping[Any, float] | None = None
    ) -> NDArray[np.float64]:
        """Return the values: for numbers there are neither costs nor thresholds.

        Raises
        ------
        DataError
            If some are given.
        """
        return self.apply(DecisionRule(costs=costs, thresholds=thresholds))

    def apply(self, rule: DecisionRule) -> NDArray[np.float64]:
        """Return the values; the rule must be empty."""
        rule.check(np.empty(0), "regression")
        return self.values

    def intervals(self, coverage: float = COVERAGE) -> NDArray[np.float64]:
        """Intervals around the values that hold the true number in about so many cases.

        Parameters
        ----------
        coverage : float, default=0.9
            In (0, 1).

        Returns
        -------
        ndarray of shape (n, 2)
            Lower and upper ends, all of one width: the conformal quantile of the leave-one-out
            errors, on either side. Infinite where training images, or groups of them, are too few
            for the coverage.

        Raises
        ------
        ValueError
            If `coverage` is not in (0, 1).
        """
        reach = conformal_quantile(self.errors, coverage, groups=self.groups)
        return np.stack([self.values - reach, self.values + reach], axis=1)


class Regression(Task[KernelRegressor]):
    """A number per image; outputs are numbers.

    Parameters
    ----------
    errors : ndarray of shape (N,)
        Absolute leave-one-out errors of the training images.
    groups : ndarray of str, shape (N,), or None
        Groups of the training images, which were left out whole.
    """

    name = "regression"

    def __init__(self, errors: NDArray[np.float64], groups: NDArray[np.str_] | None) -> None:
        super().__init__(np.empty(0))
        self.errors, self.groups = errors, groups

    @classmethod
    def read(cls, labelled: Features | ImageSet) -> Targets:
        """Read numbers."""
        y = _numbers(labels_of(labelled), labelled.ids)
        if np.ptp(y) == 0:
            raise DataError(
                f"regression needs at least two different numbers, but all labels are {y[0]:g}"
            )
        return Targets(np.empty(0), y, y)

    def outputs(self, head: KernelRegressor, rows: Rows) -> NDArray[np.float64]:
        """Predict, (n,)."""
        return head.predict(rows)

    def left_out(self, head: KernelRegressor) -> NDArray[np.float64]:
        """Return the prediction of every training sample by the model fitted without it, (n,)."""
        return head.loo_predictions_

    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> NumberPredictions:
        """Put numbers together with the names of the images."""
        return NumberPredictions(ids, outputs, self.errors, self.groups, quarantined)

    def codes_of(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Return numbers, (n,)."""
        return _numbers(labels, ())

    def evaluate(
        self, codes: NDArray[Any], outputs: NDArray[np.float64], rule: DecisionRule
    ) -> NumberEvaluation:
        """Compare predictions with the true numbers."""
        rule.check(self.classes, "regression")
        return evaluate_numbers(codes, outputs)


def _numbers(labels: NDArray[Any], ids: Sequence[str]) -> NDArray[np.float64]:  # (n,)
    """Read numbers from labels; the first that is none is named, with its image if known."""
    out = np.empty(len(labels))
    for i, text in enumerate(as_text(labels).tolist()):
        try:
            out[i] = float(text)
        except ValueError:
            out[i] = math.nan
        if not math.isfinite(out[i]):
            of = f" of image {ids[i]}" if len(ids) else ""
            raise DataError(
                f"regression needs a finite number for every image, but label {i + 1} of "
                f"{len(labels)}{of} is {text!r}"
            )
    return out
