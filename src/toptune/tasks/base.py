"""What depends on the task: how labels are read, how a head answers, how answers are judged.

Letters: n samples, c classes (or labels, of which an image may have several).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs
from toptune.decisions.rule import DecisionRule
from toptune.errors import DataError
from toptune.features import Features
from toptune.images import ImageSet, Quarantined
from toptune.images.labels import as_text
from toptune.kernel import Rows

TaskName: TypeAlias = Literal["classification", "multilabel", "regression"]
"""One class per image, any number of labels per image, or a number per image."""

Head = TypeVar("Head")


class Answers(Protocol):
    """Predictions of a task: `Predictions`, `LabelPredictions` or `NumberPredictions`."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the images that were read."""

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Images that could not be read, with the reason."""

    def decide(
        self, *, costs: Costs | None = None, thresholds: Mapping[Any, float] | None = None
    ) -> NDArray[Any]:
        """Decide for each image by costs or thresholds."""

    def apply(self, rule: DecisionRule) -> NDArray[Any]:
        """Decide for each image by a rule."""


class TaskEvaluation(Protocol):
    """Evaluation of a task: `Evaluation`, `LabelEvaluation` or `NumberEvaluation`."""

    @property
    def n(self) -> int:
        """Number of images."""

    @property
    def score(self) -> float:
        """Accuracy, share of images with all labels right, or R^2."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels as a head takes them.

    Attributes
    ----------
    classes : ndarray of shape (c,)
        Names, sorted; empty where labels are numbers.
    y : ndarray of shape (n,) or (n, c)
        What the head is fitted to.
    codes : ndarray of shape (n,) or (n, c)
        What a model file holds: positions in `classes`, indicators of labels, or numbers.
    """

    classes: NDArray[Any]
    y: NDArray[Any]
    codes: NDArray[Any]


class Task(ABC, Generic[Head]):
    """One kind of labels, with what answers need beside a fitted head.

    Parameters
    ----------
    classes : ndarray of shape (c,)
        Names, sorted; empty where labels are numbers.
    """

    name: ClassVar[TaskName]

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes

    @classmethod
    @abstractmethod
    def read(cls, labelled: Features | ImageSet) -> Targets:
        """Read labels to train on.

        Raises
        ------
        DataError
            If there are none, or they are not what the task needs.
        """

    @abstractmethod
    def outputs(self, head: Head, rows: Rows) -> NDArray[np.float64]:
        """Compute probabilities (n, c), or numbers (n,)."""

    @abstractmethod
    def left_out(self, head: Head) -> NDArray[np.float64]:
        """Return outputs for every training sample by the model fitted without it."""

    @abstractmethod
    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> Answers:
        """Put outputs together with the names of the images."""

    @abstractmethod
    def codes_of(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return codes of labels to compare with, (n,) or (n, c).

        Raises
        ------
        DataError
            If the model does not know a label.
        """

    @abstractmethod
    def evaluate(
        self, codes: NDArray[Any], outputs: NDArray[np.float64], rule: DecisionRule
    ) -> TaskEvaluation:
        """Compare outputs, and what a rule decides by them, with the truth."""


def codes_among(
    labels: Iterable[object],  # (n,)
    classes: NDArray[Any],  # (c,)
) -> NDArray[np.intp]:  # (n,)
    """Return positions of labels among classes, both compared as text.

    Raises
    ------
    DataError
        Naming the labels that are not among them.
    """
    place = {str(label): k for k, label in enumerate(classes.tolist())}
    given = as_text(labels).tolist()
    unknown = sorted(set(given) - place.keys())
    if unknown:
        raise DataError(
            f"the data has classes that the model does not know: {', '.join(unknown)} "
            f"(it knows {', '.join(place)}); leave their images out, or train with them"
        )
    return np.array([place[label] for label in given], dtype=np.intp)


def labels_of(labelled: Features | ImageSet) -> NDArray[Any]:  # (n,)
    """Return the labels to train on.

    Raises
    ------
    DataError
        If there are none.
    """
    if labelled.labels is None:
        what = "features" if isinstance(labelled, Features) else "images"
        raise DataError(f"these {what} have no labels: training needs one label per image")
    return labelled.labels


def most_probable(
    P: NDArray[np.float64],  # (n, c)
    classes: NDArray[Any],  # (c,)
    k: int,
) -> list[list[dict[str, Any]]]:
    """Return the k most probable classes of each image: label and probability, best first."""
    order = np.argsort(-P, axis=1, kind="stable")[:, :k]
    names, values = classes.tolist(), P.tolist()
    return [
        [{"label": names[j], "probability": values[i][j]} for j in row]
        for i, row in enumerate(order.tolist())
    ]
