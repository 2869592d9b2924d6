"""DecisionRule: how probabilities become decisions, checked once and passed as one value.

Letters: n samples, c classes, P (n, c) probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs, cost_matrix, least_cost
from toptune.decisions.prediction_sets import check_rate
from toptune.decisions.thresholds import apply_thresholds, threshold_vector
from toptune.errors import DataError

#: Label of an image that is unlike the training images.
UNKNOWN = "unknown"
#: With several labels per image: probability from which on a label is decided.
LABEL_THRESHOLD = 0.5


@dataclass(frozen=True)
class DecisionRule:
    """What to decide, given probabilities; by default for the most probable class.

    Parameters
    ----------
    costs : mapping of mappings, or array-like of shape (c, c), optional
        Cost of every decision for every true class; see `toptune.decisions.cost_matrix`. The
        decision is the one of least expected cost.
    thresholds : mapping, optional
        Class to the probability from which on it is decided; see
        `toptune.decisions.apply_thresholds`.
    coverage : float, optional
        Probability with which a prediction set holds the true class.
    reject : float, optional
        Share of images like the training images that may be called unknown.

    Examples
    --------
    >>> P = np.array([[0.2, 0.8], [0.6, 0.4]])
    >>> DecisionRule().codes(P, ["defect", "ok"]).tolist()
    [1, 0]
    >>> DecisionRule(thresholds={"defect": 0.1}).codes(P, ["defect", "ok"]).tolist()
    [0, 0]
    """

    costs: Costs | None = None
    thresholds: Mapping[Any, float] | None = None
    coverage: float | None = None
    reject: float | None = None

    def check(self, classes: NDArray[Any], task: str = "classification") -> None:
        """Raise if this rule cannot decide for one of these classes, or for this task.

        Raises
        ------
        DataError
            If costs or thresholds cannot be used, are both given, or are given with a coverage; or
            if a class has the name of unknown images and there are no sets to tell them apart.
        ValueError
            If `coverage` or `reject` is not between 0 and 1.
        """
        self.check_rates(task)
        if task == "regression":
            for name in ("costs", "thresholds"):
                if getattr(self, name) is not None:
                    raise DataError(f"{name} are for classes, and this model predicts numbers")
        elif task == "multilabel" and self.costs is not None:
            raise DataError(
                "costs are for classification: with several labels per image give a threshold of "
                "each; it is c / (c + m) where deciding wrongly costs c and missing costs m"
            )
        if self.costs is not None and self.thresholds is not None:
            raise DataError("give costs or thresholds, not both: each says what to decide")
        if self.costs is not None:
            cost_matrix(self.costs, classes)
        if self.thresholds is not None:
            threshold_vector(self.thresholds, classes)
        if self.coverage is not None and not (self.costs is None and self.thresholds is None):
            raise DataError("costs and thresholds decide for one class, a coverage asks for a set")
        if self.reject is not None and self.coverage is None and UNKNOWN in classes.tolist():
            raise DataError(
                f"a class is called {UNKNOWN!r}, as images unlike the training images would be: "
                "ask for a coverage too, or use classify(images, reject=...).unknown"
            )

    def check_rates(self, task: str = "classification") -> None:
        """Raise if `coverage` or `reject` is given for another task, or is no rate."""
        for name, value in (("coverage", self.coverage), ("reject", self.reject)):
            if value is None:
                continue
            if task != "classification":
                raise DataError(f"{name}= is for classification, and this model does {task}")
            check_rate(name, value)

    def codes(
        self,
        P: NDArray[np.float64],  # (n, c)
        classes: Any,  # (c,)
    ) -> NDArray[np.intp]:  # (n,)
        """Decide for one class each: positions among `classes`."""
        if self.costs is not None:
            return least_cost(P, cost_matrix(self.costs, classes))
        if self.thresholds is not None:
            return apply_thresholds(P, threshold_vector(self.thresholds, classes))
        best: NDArray[np.intp] = P.argmax(axis=1)
        return best

    def indicators(
        self,
        P: NDArray[np.float64],  # (n, c)
        classes: Any,  # (c,)
    ) -> NDArray[np.intp]:  # (n, c)
        """Decide for each label by itself: from its threshold on, 0.5 where none is given."""
        t = np.full(P.shape[1], LABEL_THRESHOLD)
        if self.thresholds is not None:
            given = threshold_vector(self.thresholds, classes)
            t = np.where(np.isnan(given), t, given)
        return (t <= P).astype(np.intp)
