"""How good predictions are: pure functions of true labels and class probabilities.

Letters: n samples, c classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, and how many samples have it (`support`)."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_probabilities` found.

    Attributes
    ----------
    accuracy, balanced_accuracy : float
        Share of right answers; mean of the recalls of the classes that occur.
    log_loss : float
        Mean negative log-probability of the true class, nats.
    n : int
        Number of samples.
    classes : list
        Labels, in the order of the confusion matrix.
    confusion_matrix : ndarray of shape (c, c)
        Counts; rows are true classes, columns predicted ones.
    per_class : dict
        Label to `ClassMetrics`.
    """

    accuracy: float
    balanced_accuracy: float
    log_loss: float
    n: int
    classes: list[Any]
    confusion_matrix: NDArray[np.intp]
    per_class: dict[Any, ClassMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "log_loss": self.log_loss,
            "n": self.n,
            "classes": self.classes,
            "confusion_matrix": self.confusion_matrix.tolist(),
            "per_class": {str(label): asdict(row) for label, row in self.per_class.items()},
        }


def evaluate_probabilities(y_true: ArrayLike, proba: ArrayLike, classes: ArrayLike) -> Evaluation:
    """Compare class probabilities with the true labels.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels, each one of `classes`.
    proba : array-like of shape (n, c)
        Probabilities, columns in the order of `classes`.
    classes : array-like of shape (c,)
        Labels.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If there are no samples, shapes differ, or a label is not among `classes`.

    Examples
    --------
    >>> from toptune.metrics import evaluate_probabilities
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
    predicted = P.argmax(axis=1)
    codes = np.arange(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=codes, zero_division=0.0
    )
    p_true = np.clip(P[np.arange(len(y)), true], np.finfo(np.float64).tiny, 1.0)
    return Evaluation(
        accuracy=float((true == predicted).mean()),
        balanced_accuracy=float(recall[support > 0].mean()),
        log_loss=float(-np.log(p_true).mean()),
        n=len(y),
        classes=labels.tolist(),
        confusion_matrix=confusion_matrix(true, predicted, labels=codes),
        per_class={
            label: ClassMetrics(
                float(precision[k]), float(recall[k]), float(f1[k]), int(support[k])
            )
            for k, label in enumerate(labels.tolist())
        },
    )


@dataclass(frozen=True)
class PredictionDifference:
    """What `compare_predictions` found.

    Attributes
    ----------
    difference : float
        Accuracy of the first predictions minus that of the second.
    interval : tuple of float
        Bootstrap interval of the difference over the samples.
    p_value : float
        McNemar's exact two-sided test.
    only_a, only_b : int
        Samples that only the first, or only the second, has right.
    n : int
        Number of samples.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    only_a: int
    only_b: int
    n: int


def compare_predictions(
    y_true: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    random_state: int = 0,
) -> PredictionDifference:
    """Compare the accuracies of two sets of predictions of the same samples.

    Parameters
    ----------
    y_true, predicted_a, predicted_b : array-like of shape (n,)
        True labels, and the two predictions of each.
    level : float
        Coverage that the interval aims at.
    n_resamples, random_state : int
        Resamples of the percentile bootstrap over samples, and the seed they are drawn with.

    Returns
    -------
    PredictionDifference

    Raises
    ------
    ValueError
        If there are no samples, or the lengths differ.

    Examples
    --------
    >>> from toptune.metrics import compare_predictions
    >>> found = compare_predictions([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 0])
    >>> found.difference, found.only_a, found.only_b, found.p_value
    (0.5, 2, 0, 0.5)
    """
    from scipy.stats import binomtest

    y, a, b = (np.asarray(labels) for labels in (y_true, predicted_a, predicted_b))
    if y.ndim != 1 or not y.shape == a.shape == b.shape:
        raise ValueError(f"shapes must be equal and (n,), got {y.shape}, {a.shape} and {b.shape}")
    n = len(y)
    if n == 0:
        raise ValueError("there are no samples to compare predictions of")
    right_a, right_b = a == y, b == y
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    # A resample of samples is a draw of how many of each of the three kinds it holds.
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    draws = np.random.default_rng(random_state).multinomial(n, shares, size=n_resamples)
    low, high = np.quantile(
        (draws[:, 0] - draws[:, 1]) / n, [(1 - level) / 2, (1 + level) / 2]
    ).tolist()
    split = only_a + only_b
    return PredictionDifference(
        difference=(only_a - only_b) / n,
        interval=(low, high),
        p_value=float(binomtest(only_a, split).pvalue) if split else 1.0,
        only_a=only_a,
        only_b=only_b,
        n=n,
    )
