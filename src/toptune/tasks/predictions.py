"""What a model says about images of which some may be unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs, decide
from toptune.images import Quarantined


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
        """Label decided for each image, (n,).

        Parameters
        ----------
        costs : mapping of mappings, or array-like of shape (c, c), optional
            Cost of every decision for every true class; see `toptune.decisions.cost_matrix`. The
            decision is the one of least expected cost.
        thresholds : mapping, optional
            Class to the probability from which on it is decided; see
            `toptune.decisions.apply_thresholds`.

        Raises
        ------
        DataError
            If both are given, or one of them cannot be used.
        """
        codes = decide(self.probabilities, self.classes, costs=costs, thresholds=thresholds)
        decided: NDArray[Any] = self.classes[codes]
        return decided

    def top(self, k: int) -> list[list[dict[str, Any]]]:
        """Return the k most probable classes of each image: label and probability, best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        names, P = self.classes.tolist(), self.probabilities.tolist()
        return [
            [{"label": names[j], "probability": P[i][j]} for j in row]
            for i, row in enumerate(order.tolist())
        ]

    def set_labels(self) -> list[list[Any]]:
        """Return the classes of each prediction set, the most probable first.

        Raises
        ------
        ValueError
            If no coverage was asked for.
        """
        if self.sets is None:
            raise ValueError("there are no prediction sets: ask for them with coverage=")
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        names = self.classes.tolist()
        return [
            [names[k] for k in row if held[k]]
            for row, held in zip(order.tolist(), self.sets.tolist(), strict=True)
        ]
