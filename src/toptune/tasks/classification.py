"""Classification: every image has one of two or more classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs, cost_matrix
from toptune.decisions.rule import UNKNOWN, DecisionRule
from toptune.errors import DataError, DataWarning
from toptune.evaluation.classification import Evaluation, evaluate_probabilities
from toptune.features import Features
from toptune.images import ImageSet, LabelKind, Quarantined
from toptune.images.labels import as_text
from toptune.kernel import KernelClassifier, Rows
from toptune.tasks.base import Targets, Task, codes_among, labels_of, most_probable

_OTHER: dict[LabelKind, str] = {"number": "numbers", "set": "sets of labels"}


@dataclass(frozen=True)
class Predictions:
    """Probabilities for the images that could be read, and the images that could not.

    Attributes
    ----------
    ids : tuple of str
        Names of the n images that were read.
    classes : ndarray of shape (c,)
        The model's `classes_`.
    probabilities : ndarray of shape (n, c)
        Columns in the order of `classes`.
    quarantined : tuple of Quarantined
        Images set aside, with the reason.
    sets : ndarray of bool, shape (n, c), or None
        Prediction sets, where a coverage was asked for: which classes are in. An image for which no
        class is plausible enough at that coverage has an empty one.
    unknown_score : ndarray of shape (n,), or None
        How unlike the training images each one is, where a false-reject rate was asked for; see
        `toptune.decisions.novelty`.
    unknown : ndarray of bool, shape (n,), or None
        Which images are more unlike them than that rate allows.
    """

    ids: tuple[str, ...]
    classes: NDArray[Any]
    probabilities: NDArray[np.float64]
    quarantined: tuple[Quarantined, ...]
    sets: NDArray[np.bool_] | None = None
    unknown_score: NDArray[np.float64] | None = None
    unknown: NDArray[np.bool_] | None = None

    @property
    def labels(self) -> NDArray[Any]:
        """Most probable class of each image, (n,)."""
        chosen: NDArray[Any] = self.classes[self.probabilities.argmax(axis=1)]
        return chosen

    def decide(
        self, *, costs: Costs | None = None, thresholds: Mapping[Any, float] | None = None
    ) -> NDArray[Any]:
        """Return the label decided for each image, (n,), "unknown" or not.

        Parameters
        ----------
        costs, thresholds
            As for `toptune.decisions.DecisionRule`.

        Raises
        ------
        DataError
            If both are given, or one of them cannot be used.
        """
        return self.apply(DecisionRule(costs=costs, thresholds=thresholds))

    def apply(self, rule: DecisionRule) -> NDArray[Any]:
        """Decide by a rule: labels (n,), or sets (n, c) where it has a coverage.

        With `reject` in the rule the labels of unknown images are "unknown", and their sets empty.

        Raises
        ------
        DataError
            If the rule cannot be used.
        ValueError
            If the predictions were made without the coverage or the rate that the rule has.
        """
        rule.check(self.classes)
        unknown = np.zeros(len(self.ids), dtype=bool)
        if rule.reject is not None:
            if self.unknown is None:
                raise ValueError("no image was called unknown: ask for it with reject=")
            unknown = self.unknown
        if rule.coverage is not None:
            sets: NDArray[Any] = self._checked_sets() & ~unknown[:, None]
            return sets
        labels: NDArray[Any] = self.classes[rule.codes(self.probabilities, self.classes)]
        if rule.reject is None:
            return labels
        labels = labels if labels.dtype.kind == "U" else labels.astype(object)
        return np.where(unknown, UNKNOWN, labels)

    def top(self, k: int) -> list[list[dict[str, Any]]]:
        """Return the k most probable classes of each image: label and probability, best first."""
        return most_probable(self.probabilities, self.classes, k)

    def set_labels(self) -> list[list[Any]]:
        """Return the classes of each prediction set, the most probable first.

        Raises
        ------
        ValueError
            If no coverage was asked for.
        """
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        names = self.classes.tolist()
        return [
            [names[k] for k in row if held[k]]
            for row, held in zip(order.tolist(), self._checked_sets().tolist(), strict=True)
        ]

    def _checked_sets(self) -> NDArray[np.bool_]:
        if self.sets is None:
            raise ValueError("there are no prediction sets: ask for them with coverage=")
        return self.sets


class Classification(Task[KernelClassifier]):
    """One class per image; outputs are class probabilities."""

    name = "classification"

    @classmethod
    def read(cls, labelled: Features | ImageSet) -> Targets:
        """Read classes; numbers that are not whole become classes by their text."""
        y = _classes_of(labelled)
        warn_of_lone_images(y, labelled.groups, stacklevel=7)
        classes, codes = np.unique(y, return_inverse=True)
        return Targets(classes, y, codes.astype(np.intp))

    def outputs(self, head: KernelClassifier, rows: Rows) -> NDArray[np.float64]:
        """Compute class probabilities, (n, c)."""
        return head.predict_proba(rows)

    def left_out(self, head: KernelClassifier) -> NDArray[np.float64]:
        """Return probabilities of every training sample by the model fitted without it, (n, c)."""
        return head.loo_proba_

    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> Predictions:
        """Put probabilities together with the names of the images."""
        return Predictions(ids, self.classes, outputs, quarantined)

    def codes_of(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Return positions among the classes, (n,)."""
        return codes_among(labels, self.classes)

    def evaluate(
        self, codes: NDArray[Any], outputs: NDArray[np.float64], rule: DecisionRule
    ) -> Evaluation:
        """Compare probabilities, and what a rule decides by them, with the true classes."""
        rule.check(self.classes)
        return evaluate_probabilities(
            self.classes[codes],
            outputs,
            self.classes,
            decided=rule.codes(outputs, self.classes),
            costs=None if rule.costs is None else cost_matrix(rule.costs, self.classes),
        )


def training_labels(labelled: Features | ImageSet) -> NDArray[Any]:
    """Return the classes to train on.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    DataError
        If there are no labels, they are numbers or sets, or there are fewer than two classes.
    """
    check_classes(labelled)
    return _classes_of(labelled)


def check_classes(labelled: Features | ImageSet) -> None:
    """Raise if labels are numbers or sets.

    Raises
    ------
    DataError
        Naming what they are.
    """
    if labelled.labels is not None and labelled.label_kind != "class":
        raise DataError(
            f"this is for classification, and the labels are {_OTHER[labelled.label_kind]}: give "
            "every image one class, by a name that is no decimal number and has no semicolon"
        )


def _classes_of(labelled: Features | ImageSet) -> NDArray[Any]:
    labels = labels_of(labelled)
    if labelled.label_kind == "number":
        labels = as_text(labels)
    y = np.array(list(labels))  # text of no more characters than the longest label has
    classes = np.unique(y)
    if len(classes) < 2:
        raise DataError(
            f"training needs at least two classes, found only {str(classes[0])!r}: labels are the "
            "names of the folders that hold the images, or those of the manifest"
        )
    return y


def warn_of_lone_images(
    y: NDArray[Any], groups: NDArray[np.str_] | None, *, stacklevel: int = 5
) -> None:
    """Warn of classes that leave-one-out leaves nothing of: those of one image, or of one group."""
    what = "image" if groups is None else "group"
    members = np.arange(len(y)) if groups is None else groups
    lone = [str(c) for c in np.unique(y).tolist() if len(set(members[y == c].tolist())) == 1]
    if lone:
        warnings.warn(
            f"classes with a single {what}: {', '.join(lone)}; leave-one-out counts it as wrong, "
            "because nothing else shows what the class looks like, and that also makes "
            "probabilities more cautious",
            DataWarning,
            stacklevel=stacklevel,
        )
