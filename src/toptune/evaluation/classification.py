"""Metrics of class probabilities against true labels. Letters: n samples, c classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.runtime.plain import plain_fields


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, and how many samples have it (`support`)."""

    precision: float
    recall: float
    f1: float
    support: int


#: Bins of the top probability that a reliability table has.
RELIABILITY_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers whose top probability lies in (low, high].

    Attributes
    ----------
    low, high : float
        Bounds of the top probability.
    count : int
        Number of answers.
    confidence, accuracy : float or None
        Mean top probability of these answers, and the share of them that is right; None where
        there are no answers.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a classifier on labelled samples.

    Attributes
    ----------
    accuracy, balanced_accuracy : float
        Share of right answers; mean of the recalls of the classes that occur.
    log_loss : float
        Mean negative log-probability of the true class, nats.
    ece : float
        Expected calibration error; see `expected_calibration_error`.
    n : int
        Number of samples.
    classes : list
        Labels, in the order of the confusion matrix.
    confusion_matrix : ndarray of shape (c, c)
        Counts; rows are true classes, columns predicted ones.
    per_class : dict
        Label to `ClassMetrics`.
    mean_cost : float or None
        Mean cost of the decisions; None where no costs were given.
    reliability : tuple of ReliabilityBin
        Accuracy by top probability; see `reliability_table`.
    """

    accuracy: float
    balanced_accuracy: float
    log_loss: float
    ece: float
    n: int
    classes: list[Any]
    confusion_matrix: NDArray[np.intp]
    per_class: dict[Any, ClassMetrics]
    reliability: tuple[ReliabilityBin, ...]
    mean_cost: float | None = None

    @property
    def score(self) -> float:
        """Accuracy, which is what `score` of a classifier is."""
        return self.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON; mean_cost with costs only."""
        found = plain_fields(self)
        cost = found.pop("mean_cost")
        return found if cost is None else {"mean_cost": cost} | found


def evaluate_probabilities(
    y_true: ArrayLike,
    proba: ArrayLike,
    classes: ArrayLike,
    *,
    decided: NDArray[np.intp] | None = None,
    costs: NDArray[np.float64] | None = None,
) -> Evaluation:
    """Compare class probabilities, and what was decided by them, with the true labels.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels, each one of `classes`.
    proba : array-like of shape (n, c)
        Probabilities, columns in the order of `classes`.
    classes : array-like of shape (c,)
        Labels.
    decided : ndarray of int, shape (n,), optional
        Positions in `classes` of the decisions; by default the most probable classes. Everything
        but the log-loss counts them.
    costs : ndarray of shape (c, c), optional
        Cost of every decision (column) for every true class (row).

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If there are no samples, shapes differ, or a label is not among `classes`.

    Examples
    --------
    >>> from toptune.evaluation.classification import evaluate_probabilities
    >>> found = evaluate_probabilities(["a", "b"], [[0.9, 0.1], [0.6, 0.4]], ["a", "b"])
    >>> found.accuracy, found.confusion_matrix.tolist()
    (0.5, [[1, 0], [1, 0]])
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels = np.asarray(classes)
    P = np.asarray(proba, dtype=np.float64)
    y = np.asarray(y_true)
    if len(y) == 0:
        raise ValueError("there are no samples to evaluate")
    if P.shape != (len(y), len(labels)):
        raise ValueError(f"proba must have shape {(len(y), len(labels))}, got {P.shape}")
    position = {label: code for code, label in enumerate(labels.tolist())}
    unknown = sorted({label for label in y.tolist() if label not in position}, key=str)
    if unknown:
        raise ValueError(f"labels not among the classes: {', '.join(map(repr, unknown))}")
    true = np.array([position[label] for label in y.tolist()])
    predicted = P.argmax(axis=1) if decided is None else np.asarray(decided)
    codes = np.arange(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=codes, zero_division=0.0
    )
    bins = reliability_table(true, P)
    p_true = np.clip(P[np.arange(len(y)), true], np.finfo(np.float64).tiny, 1.0)
    return Evaluation(
        accuracy=float((true == predicted).mean()),
        balanced_accuracy=float(recall[support > 0].mean()),
        log_loss=float(-np.log(p_true).mean()),
        ece=_calibration_gap(bins),
        n=len(y),
        classes=labels.tolist(),
        confusion_matrix=confusion_matrix(true, predicted, labels=codes),
        per_class={
            label: ClassMetrics(
                float(precision[k]), float(recall[k]), float(f1[k]), int(support[k])
            )
            for k, label in enumerate(labels.tolist())
        },
        reliability=bins,
        mean_cost=None if costs is None else float(costs[true, predicted].mean()),
    )


def reliability_table(
    y_true: ArrayLike, proba: ArrayLike, *, n_bins: int = RELIABILITY_BINS
) -> tuple[ReliabilityBin, ...]:
    """Compute the accuracy of the answers by their top probability, in bins of equal width.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True classes, as positions of columns of `proba`.
    proba : array-like of shape (n, c)
        Probabilities.
    n_bins : int, default=15
        Number of bins between 0 and 1.

    Returns
    -------
    tuple of ReliabilityBin
        One each bin, empty ones too.

    Raises
    ------
    ValueError
        If there are no samples, shapes differ, or `n_bins` < 1.

    Examples
    --------
    >>> from toptune.evaluation.classification import reliability_table
    >>> reliability_table([0, 1], [[0.9, 0.1], [0.75, 0.25]], n_bins=2)[1]
    ReliabilityBin(low=0.5, high=1.0, count=2, confidence=0.825, accuracy=0.5)
    """
    P, y = np.asarray(proba, dtype=np.float64), np.asarray(y_true)
    if P.ndim != 2 or y.shape != (len(P),) or P.size == 0:
        raise ValueError(
            f"y_true and proba must have shapes (n,) and (n, c), n > 0, got {y.shape} and {P.shape}"
        )
    if n_bins < 1:
        raise ValueError(f"n_bins must be >= 1, got {n_bins}")
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    top = P.max(axis=1)
    right = P.argmax(axis=1) == y
    # Rounding may take the top probability just above 1: it belongs to the last bin all the same.
    place = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, n_bins - 1)
    out = []
    for k, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        here = place == k
        means = (float(top[here].mean()), float(right[here].mean())) if here.any() else (None, None)
        out.append(ReliabilityBin(low, high, int(here.sum()), *means))
    return tuple(out)


def expected_calibration_error(
    y_true: ArrayLike, proba: ArrayLike, *, n_bins: int = RELIABILITY_BINS
) -> float:
    """Compute the mean distance of top probabilities from the share of right answers.

    Parameters
    ----------
    y_true, proba, n_bins
        As for `reliability_table`.

    Returns
    -------
    float
        Mean over samples of abs(accuracy - confidence) of the bin they are in, between 0 and 1.

    Notes
    -----
    Naeini, Cooper and Hauskrecht 2015, Obtaining Well Calibrated Probabilities Using Bayesian
    Binning; with 15 bins as in Guo et al. 2017, arXiv 1706.04599. It is biased upwards for few
    samples: each bin counts the distance that chance alone makes.

    Examples
    --------
    >>> from toptune.evaluation.classification import expected_calibration_error
    >>> round(expected_calibration_error([0, 1], [[0.9, 0.1], [0.9, 0.1]]), 2)
    0.4
    """
    return _calibration_gap(reliability_table(y_true, proba, n_bins=n_bins))


def _calibration_gap(bins: Sequence[ReliabilityBin]) -> float:
    filled = [(b.count, b.confidence, b.accuracy) for b in bins if b.count]
    total = sum(count for count, _, _ in filled)
    gaps = (
        count * abs(accuracy - confidence)
        for count, confidence, accuracy in filled
        if confidence is not None and accuracy is not None
    )
    return sum(gaps) / total
