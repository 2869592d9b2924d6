"""Metrics of predictions with several labels a sample. Letters: n samples, c labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class LabelMetrics:
    """Average precision, precision, recall and F1 of one label, and how many samples have it.

    The average precision is None for a label that no sample has.
    """

    average_precision: float | None
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class LabelEvaluation:
    """Metrics of a multilabel classifier on labelled samples.

    Attributes
    ----------
    mean_average_precision : float or None
        Mean over labels of the area under precision against recall; it does not depend on what is
        decided. None if no sample has a label.
    micro_f1, macro_f1 : float
        F1 of all decisions together; mean over labels.
    subset_accuracy : float
        Share of samples with every label right.
    hamming_loss : float
        Share of single decisions that are wrong.
    log_loss : float
        Mean negative log-probability of the truth over all single labels, nats.
    n : int
        Number of samples.
    labels : list
        Names, in the order of the columns.
    per_label : dict
        Name to `LabelMetrics`.

    Notes
    -----
    Means over labels are over those that occur.
    """

    mean_average_precision: float | None
    micro_f1: float
    macro_f1: float
    subset_accuracy: float
    hamming_loss: float
    log_loss: float
    n: int
    labels: list[Any]
    per_label: dict[Any, LabelMetrics]

    @property
    def score(self) -> float:
        """Share of samples with every label right, as scikit-learn's classifiers score."""
        return self.subset_accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return asdict(self)


def evaluate_labels(
    present: ArrayLike, proba: ArrayLike, decided: ArrayLike, labels: ArrayLike
) -> LabelEvaluation:
    """Compare probabilities of labels, and decisions, with the labels that are there.

    Parameters
    ----------
    present : array-like of shape (n, c)
        1 where the sample has the label, else 0.
    proba : array-like of shape (n, c)
        Probability of each label by itself.
    decided : array-like of shape (n, c)
        1 where the label was decided, else 0.
    labels : array-like of shape (c,)
        Names.

    Returns
    -------
    LabelEvaluation

    Raises
    ------
    ValueError
        If there are no samples, or shapes differ.

    Examples
    --------
    >>> P = [[0.9, 0.2], [0.6, 0.7]]
    >>> found = evaluate_labels([[1, 0], [0, 1]], P, [[1, 0], [1, 1]], ["dent", "scratch"])
    >>> found.subset_accuracy, found.hamming_loss, found.mean_average_precision
    (0.5, 0.25, 1.0)
    """
    from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

    names = np.asarray(labels).tolist()
    Y, D = np.asarray(present, dtype=np.intp), np.asarray(decided, dtype=np.intp)
    P = np.asarray(proba, dtype=np.float64)
    if len(Y) == 0:
        raise ValueError("there are no samples to evaluate")
    if not Y.shape == P.shape == D.shape == (len(Y), len(names)):
        raise ValueError(
            f"labels, probabilities and decisions must have shape {(len(Y), len(names))}, got "
            f"{Y.shape}, {P.shape} and {D.shape}"
        )
    precision, recall, f1, support = precision_recall_fscore_support(Y, D, zero_division=0.0)
    ranked = [
        float(average_precision_score(Y[:, k], P[:, k])) if support[k] else None
        for k in range(len(names))
    ]
    occurring = [value for value in ranked if value is not None]
    return LabelEvaluation(
        mean_average_precision=float(np.mean(occurring)) if occurring else None,
        micro_f1=float(f1_score(Y, D, average="micro", zero_division=0.0)),
        macro_f1=float(f1[support > 0].mean()) if occurring else 0.0,
        subset_accuracy=float((Y == D).all(axis=1).mean()),
        hamming_loss=float((Y != D).mean()),
        log_loss=_log_loss(Y, P),
        n=len(Y),
        labels=names,
        per_label={
            name: LabelMetrics(
                ranked[k], float(precision[k]), float(recall[k]), float(f1[k]), int(support[k])
            )
            for k, name in enumerate(names)
        },
    )


def _log_loss(Y: NDArray[np.intp], P: NDArray[np.float64]) -> float:
    p_true = np.clip(np.where(Y == 1, P, 1 - P), np.finfo(np.float64).tiny, 1.0)
    return float(-np.log(p_true).mean())
