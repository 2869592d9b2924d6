"""Several labels per image: each is there or not, and one factorisation serves all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from toptune.decisions.costs import Costs
from toptune.decisions.rule import DecisionRule
from toptune.errors import DataError, DataWarning
from toptune.evaluation.multilabel import LabelEvaluation, evaluate_labels
from toptune.features import Features
from toptune.images import ImageSet, Quarantined
from toptune.images.labels import as_text, set_of
from toptune.kernel import KernelClassifier, Rows
from toptune.tasks.base import Targets, Task, codes_among, labels_of, most_probable


@dataclass(frozen=True)
class LabelPredictions:
    """Probabilities of labels for the images that could be read, and the images that could not.

    Attributes
    ----------
    ids : tuple of str
        Names of the n images that were read.
    classes : ndarray of shape (c,)
        Names of the labels.
    probabilities : ndarray of shape (n, c)
        Of each label by itself; rows do not add up to 1.
    quarantined : tuple of Quarantined
        Images set aside, with the reason.
    """

    ids: tuple[str, ...]
    classes: NDArray[Any]
    probabilities: NDArray[np.float64]
    quarantined: tuple[Quarantined, ...]

    @property
    def labels(self) -> list[list[Any]]:
        """Labels of each image whose probability is at least 0.5."""
        return self.names(self.decide())

    def decide(
        self, *, costs: Costs | None = None, thresholds: Mapping[Any, float] | None = None
    ) -> NDArray[np.intp]:
        """Return indicators of the labels decided for each image, (n, c).

        Parameters
        ----------
        costs : None
            There are none for several labels; a threshold has the same effect.
        thresholds : mapping, optional
            Label to the probability from which on it is decided, instead of 0.5.

        Raises
        ------
        DataError
            If costs are given, or thresholds cannot be used.
        """
        return self.apply(DecisionRule(costs=costs, thresholds=thresholds))

    def apply(self, rule: DecisionRule) -> NDArray[np.intp]:
        """Decide by a rule, which may have thresholds: indicators of labels, (n, c)."""
        rule.check(self.classes, "multilabel")
        return rule.indicators(self.probabilities, self.classes)

    def names(self, decided: NDArray[np.intp]) -> list[list[Any]]:
        """Return the names of labels decided for each image."""
        return [self.classes[row > 0].tolist() for row in decided]

    def top(self, k: int) -> list[list[dict[str, Any]]]:
        """Return the k most probable labels of each image: label and probability, best first."""
        return most_probable(self.probabilities, self.classes, k)


class Multilabel(Task[KernelClassifier]):
    """Any number of labels per image; outputs are probabilities, one for each label.

    Parameters
    ----------
    classes : ndarray of shape (c,)
        Names of the labels.
    slopes, intercepts : ndarray of shape (c,)
        Of Platt's logistic curve, from scores to probabilities.
    """

    name = "multilabel"

    def __init__(
        self, classes: NDArray[Any], slopes: NDArray[np.float64], intercepts: NDArray[np.float64]
    ) -> None:
        super().__init__(classes)
        self.slopes, self.intercepts = slopes, intercepts

    @classmethod
    def read(cls, labelled: Features | ImageSet) -> Targets:
        """Read sets of names."""
        sets = [set_of(text) for text in as_text(labels_of(labelled)).tolist()]
        classes = np.array(sorted(set().union(*sets)), dtype=np.str_)
        if len(classes) < 2:
            found = f"only {str(classes[0])!r}" if len(classes) else "none"
            raise DataError(
                f"several labels per image need two different ones, found {found}; for one that is "
                "there or not, name both cases and train with task='classification'"
            )
        codes = _indicators(sets, classes)
        counts = codes.sum(axis=0)
        lone = classes[(counts == 1) | (counts == len(codes))].tolist()
        if lone:
            warnings.warn(
                f"labels that a single image has, or all of them: {', '.join(lone)}; nothing can "
                "be learned of them from leave-one-out",
                DataWarning,
                stacklevel=5,
            )
        return Targets(classes, codes, codes)

    @classmethod
    def calibrated(
        cls,
        classes: NDArray[Any],  # (c,)
        scores: NDArray[Any],  # (n, c), by leave-one-out
        codes: NDArray[Any],  # (n, c)
    ) -> Multilabel:
        """Fit the curve of each label to leave-one-out scores."""
        curves = [logistic_curve(s, present) for s, present in zip(scores.T, codes.T, strict=True)]
        slopes, intercepts = np.array(curves).T
        return cls(classes, slopes, intercepts)

    def outputs(self, head: KernelClassifier, rows: Rows) -> NDArray[np.float64]:
        """Compute probabilities of the labels, (n, c)."""
        return self._probabilities(head.decision_function(rows))

    def left_out(self, head: KernelClassifier) -> NDArray[np.float64]:
        """Return probabilities of every training sample by the model fitted without it, (n, c)."""
        return self._probabilities(head.loo_decision_function_)

    def _probabilities(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        P: NDArray[np.float64] = expit(self.slopes * scores.astype(np.float64) + self.intercepts)
        return P

    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> LabelPredictions:
        """Put probabilities together with the names of the images."""
        return LabelPredictions(ids, self.classes, outputs, quarantined)

    def codes_of(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Return indicators of the labels, (n, c)."""
        sets = [set_of(text) for text in as_text(labels).tolist()]
        codes_among(sorted(set().union(*sets)), self.classes)  # an unknown label is an error
        return _indicators(sets, self.classes)

    def evaluate(
        self, codes: NDArray[Any], outputs: NDArray[np.float64], rule: DecisionRule
    ) -> LabelEvaluation:
        """Compare probabilities, and what a rule decides by them, with the true labels."""
        rule.check(self.classes, "multilabel")
        return evaluate_labels(codes, outputs, rule.indicators(outputs, self.classes), self.classes)


def logistic_curve(
    scores: NDArray[Any],  # (n,)
    present: NDArray[Any],  # (n,), 0 or 1
) -> tuple[float, float]:
    """Fit slope a and intercept b of the probability 1 / (1 + exp(-a s - b)) of a label.

    Platt 1999, Probabilistic Outputs for Support Vector Machines: the likelihood is greatest for
    targets moved a little towards each other, as if one more sample of either kind had been seen,
    so that separated scores do not make the curve a step. A curve that falls says only that the
    scores are worth nothing: it is replaced by a level one.

    Examples
    --------
    >>> a, b = logistic_curve(np.array([-1.0, -0.5, 0.2, 0.9]), np.array([0, 0, 1, 1]))
    >>> a > 0, -0.3 < -b / a < 0.3
    (True, True)
    """
    from sklearn.linear_model import LogisticRegression

    n, have = len(present), int(np.sum(present))
    high, low = (have + 1) / (have + 2), 1 / (n - have + 2)
    weight = np.where(np.asarray(present) > 0, high, low)
    s = np.asarray(scores, dtype=np.float64)
    curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    curve.fit(
        np.tile(s, 2)[:, None],
        np.repeat([1, 0], n),
        sample_weight=np.concatenate([weight, 1 - weight]),
    )
    slope, intercept = float(curve.coef_[0, 0]), float(curve.intercept_[0])
    if slope > 0:
        return slope, intercept
    mean = weight.mean()
    return 0.0, float(np.log(mean / (1 - mean)))


def _indicators(
    sets: Sequence[frozenset[str]], classes: NDArray[Any]
) -> NDArray[np.intp]:  # (n, c)
    place = {str(name): k for k, name in enumerate(classes.tolist())}
    codes = np.zeros((len(sets), len(classes)), dtype=np.intp)
    for i, names in enumerate(sets):
        codes[i, [place[name] for name in names]] = 1
    return codes
