"""What depends on the task: how labels are read, which head learns them, how answers are judged.

Letters: n samples, c classes (or labels, of which an image may have several).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs
from toptune.errors import DataError
from toptune.features import Features
from toptune.images import ImageSet, Quarantined
from toptune.images.labels import as_text
from toptune.kernel import Rows
from toptune.kernel.estimators import Kernel

TaskName: TypeAlias = Literal["classification", "multilabel", "regression"]
"""One class per image, any number of labels per image, or a number per image."""

Head = TypeVar("Head")


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
        What a model file keeps: positions in `classes`, indicators of labels, or numbers.
    """

    classes: NDArray[Any]
    y: NDArray[Any]
    codes: NDArray[Any]


class Task(ABC, Generic[Head]):
    """One kind of labels, with what the answers to it need beside a fitted head.

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

    @classmethod
    @abstractmethod
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
    ) -> Head:
        """Head that is not fitted yet."""

    @classmethod
    @abstractmethod
    def of_head(
        cls,
        head: Head,
        classes: NDArray[Any],
        codes: NDArray[Any],
        groups: NDArray[np.str_] | None,
    ) -> Task[Head]:
        """Task of a fitted head: what its leave-one-out says of its answers is kept."""

    @abstractmethod
    def outputs(self, head: Head, rows: Rows) -> NDArray[np.float64]:
        """Answers of a head in numbers: probabilities (n, c), or numbers (n,)."""

    @abstractmethod
    def left_out(self, head: Head) -> NDArray[np.float64]:
        """Return outputs for every training sample by the model fitted without it."""

    @abstractmethod
    def predictions(
        self,
        ids: tuple[str, ...],
        outputs: NDArray[np.float64],
        quarantined: tuple[Quarantined, ...],
    ) -> Any:
        """Answers for people, with the names of the images."""

    @abstractmethod
    def codes_of(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Codes of labels to compare with, (n,) or (n, c).

        Raises
        ------
        DataError
            If the model knows nothing of a label.
        """

    @abstractmethod
    def evaluate(
        self,
        codes: NDArray[Any],
        outputs: NDArray[np.float64],
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Any:
        """Compare outputs, and what is decided by them, with the truth."""

    def compare(
        self,
        labels: NDArray[Any] | None,
        outputs: NDArray[np.float64],
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Any:
        """Compare outputs with labels."""
        if labels is None:
            raise DataError("these images have no labels to compare with")
        return self.evaluate(self.codes_of(labels), outputs, costs=costs, thresholds=thresholds)

    def require(self, allowed: tuple[TaskName, ...], what: str) -> None:
        """Refuse what this kind of labels has no use for.

        Raises
        ------
        DataError
            Naming `what` and the task.
        """
        if self.name not in allowed:
            raise DataError(f"{what} for {' and '.join(allowed)}, and this model does {self.name}")


def codes_among(
    labels: Iterable[object],  # (n,)
    classes: NDArray[Any],  # (c,)
) -> NDArray[np.intp]:  # (n,)
    """Positions of labels among classes, both compared as text.

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
