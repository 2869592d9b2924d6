"""Classification: every image has one of two or more classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs, cost_matrix, decide
from toptune.errors import DataError, DataWarning
from toptune.evaluation.classification import Evaluation, evaluate_probabilities
from toptune.features import Features
from toptune.images import ImageSet, LabelKind, Quarantined
from toptune.images.labels import as_text
from toptune.kernel import KernelClassifier, Rows
from toptune.kernel.estimators import Kernel
from toptune.tasks.base import Targets, Task, codes_among, labels_of
from toptune.tasks.predictions import Predictions

_OTHER: dict[LabelKind, str] = {"number": "numbers", "set": "sets of labels"}


class Classification(Task[KernelClassifier]):
    """One class per image; outputs are class probabilities."""

    name = "classification"

    @classmethod
    def read(cls, labelled: Features | ImageSet) -> Targets:
        """Read classes; numbers that are not whole become classes by their text."""
        y = _classes_of(labelled)
        groups = labelled.groups
        warn_of_lone_images(y, groups, stacklevel=5)
        classes, codes = np.unique(y, return_inverse=True)
        return Targets(classes, y, codes.astype(np.intp))

    @classmethod
    def new_head(
        cls,
        *,
        kernel: Kernel,
        bandwidth: float | Literal["auto"],
        penalty: float | Literal["auto"],
        n_centers: int | Literal["auto"],
        class_weight: dict[Any, float] | Literal["balanced"] | None,
        feature_groups: Sequence[int],
        random_state: int,
    ) -> KernelClassifier:
        """Classifier that is not fitted yet."""
        return KernelClassifier(
            kernel=kernel,
            bandwidth=bandwidth,
            penalty=penalty,
            n_centers=n_centers,
            class_weight=class_weight,
            feature_groups=feature_groups,
            random_state=random_state,
        )

    @classmethod
    def of_head(
        cls,
        head: KernelClassifier,
        classes: NDArray[Any],
        codes: NDArray[Any],
        groups: NDArray[np.str_] | None,
    ) -> Classification:
        """Task of a fitted head, which has its temperature."""
        return cls(classes)

    def outputs(self, head: KernelClassifier, rows: Rows) -> NDArray[np.float64]:
        """Class probabilities, (n, c)."""
        return head.predict_proba(rows)

    def left_out(self, head: KernelClassifier) -> NDArray[np.float64]:
        """Class probabilities of every training sample by the model fitted without it, (n, c)."""
        return head.probabilities(head.loo_decision_function_)

    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> Predictions:
        """Probabilities with the names of the images."""
        return Predictions(ids, self.classes, outputs, quarantined)

    def codes_of(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Positions among the classes, (n,)."""
        return codes_among(labels, self.classes)

    def evaluate(
        self,
        codes: NDArray[Any],
        outputs: NDArray[np.float64],
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Evaluation:
        """Compare probabilities, and what is decided by them, with the true classes."""
        return evaluate_probabilities(
            self.classes[codes],
            outputs,
            self.classes,
            decided=decide(outputs, self.classes, costs=costs, thresholds=thresholds),
            costs=None if costs is None else cost_matrix(costs, self.classes),
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
    """Refuse labels that are numbers or sets.

    Raises
    ------
    DataError
        Saying what they are.
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
    y: NDArray[Any], groups: NDArray[np.str_] | None, *, stacklevel: int = 4
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
