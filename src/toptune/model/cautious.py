"""CautiousClassifier: what a classifier can say besides a label, once it has left-out scores.

Prediction sets and "unknown" follow from how the training images did when they were left out;
`toptune.trust` has the arithmetic.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import Costs
from toptune.decisions.novelty import UnknownScorer, unknown_scorer
from toptune.decisions.prediction_sets import check_rate, set_threshold
from toptune.errors import DataError
from toptune.features import Features
from toptune.images import Images, unlabelled_images
from toptune.kernel import KernelClassifier, Rows
from toptune.model.image_classifier import ImageClassifier
from toptune.tasks.predictions import Predictions

#: What stands for the label of an image that is unlike the training images.
UNKNOWN = "unknown"


class CautiousClassifier(ImageClassifier):
    """Base of classifiers that know when not to answer.

    Attributes
    ----------
    head_ : KernelClassifier
        Fitted.
    codes_ : ndarray of int, shape (n,)
        Classes of the training images, as positions in `classes_`.
    groups_ : ndarray of str, shape (n,), or None
        Group of each training image, where there are groups.
    """

    head_: KernelClassifier
    codes_: NDArray[np.intp]
    groups_: NDArray[np.str_] | None

    @abstractmethod
    def _rows(self, features: Features) -> Rows:
        """Features as the head takes them."""

    def classify(
        self,
        images: Images,
        *,
        strict: bool = False,
        coverage: float | None = None,
        reject: float | None = None,
    ) -> Predictions | Any:
        """Predict images of which some may be unreadable; those are listed, not predicted.

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.
        strict : bool, default=False
            Raise an error for an image that cannot be read.
        coverage : float, optional
            Also give prediction sets that hold the true class with this probability.
        reject : float, optional
            Also give unknown scores, and mark images whose score at most this share of images like
            the training images would exceed.

        Returns
        -------
        Predictions
            For other tasks `toptune.tasks.LabelPredictions` or `NumberPredictions`.

        Raises
        ------
        DataError
            If not one image can be read, or, with `strict`, if one cannot; if there are too few
            training images for that coverage or rate; or the task is not classification.
        ValueError
            If `coverage` or `reject` is not between 0 and 1.
        """
        self._check_fitted()
        for name, wanted in (("coverage", coverage), ("reject", reject)):
            if wanted is not None:
                self._check_for_classes(f"{name}= is")
        # Before any work: what was asked for may be impossible.
        lowest = None if coverage is None else self._set_threshold(coverage)
        highest = None if reject is None else self._unknown_threshold(reject)
        features = self._extract(unlabelled_images(images), strict=strict)
        proba = self._proba(features)
        found = self._labels_task().predictions(features.ids, proba, features.quarantined)
        if lowest is not None:
            found = replace(found, sets=proba >= lowest)
        if highest is not None:
            scores = self._unknown_scores(features)
            found = replace(found, unknown_score=scores, unknown=scores > highest)
        return found

    def predict(
        self,
        images: Images,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
        coverage: float | None = None,
        reject: float | None = None,
    ) -> NDArray[Any]:
        """Decide for each image: its most probable class, a set of classes, or "unknown".

        Parameters
        ----------
        images : path, list of images or ImageSet
            As for `predict_proba`.
        costs : mapping of mappings, or array-like of shape (c, c), optional
            Cost of every decision (column) for every true class (row), by class or in the order of
            `classes_`. The decision is the one of least expected cost.
        thresholds : mapping, optional
            Class to the probability from which on it is decided; see
            `toptune.decisions.apply_thresholds`. With several labels per image 0.5 is the default.
        coverage : float, optional
            Return prediction sets that hold the true class with this probability: conformal sets
            on leave-one-out probabilities, of whole groups where the model has groups.
        reject : float, optional
            Rate between 0 and 1: return "unknown" for images unlike the training images. At most
            this share of images that are like them is turned away by mistake.

        Returns
        -------
        ndarray of shape (n,), or of bool and shape (n, c)
            Labels, or numbers; with several labels per image their indicators, (n, c). With
            `reject` some are "unknown", and labels that are not text come in an array of objects.
            With `coverage` an indicator matrix, columns in the order of `classes_`;
            with both the sets of unknown images are empty.

        Raises
        ------
        DataError
            If an image cannot be read: rows must match the images. `classify` goes on instead.
            If costs or thresholds cannot be used, or are given with a coverage. If there are too
            few training images for that coverage or rate. If a class is itself
            called "unknown": `classify` tells them apart.
        ValueError
            If `coverage` or `reject` is not between 0 and 1.
        """
        if coverage is None and reject is None:
            return super().predict(images, costs=costs, thresholds=thresholds)
        self.check_decision(costs=costs, thresholds=thresholds, coverage=coverage, reject=reject)
        found = self.classify(images, strict=True, coverage=coverage, reject=reject)
        unknown = np.zeros(len(found.ids), dtype=bool) if found.unknown is None else found.unknown
        if found.sets is not None:
            sets: NDArray[Any] = found.sets & ~unknown[:, None]
            return sets
        labels = found.decide(costs=costs, thresholds=thresholds)
        labels = labels if labels.dtype.kind == "U" else labels.astype(object)
        answers: NDArray[Any] = np.where(unknown, UNKNOWN, labels)
        return answers

    def check_decision(
        self,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
        coverage: float | None = None,
        reject: float | None = None,
    ) -> None:
        """Refuse what `predict` could not decide by, before any work is done.

        Raises
        ------
        DataError
            As `predict` does.
        """
        super().check_decision(costs=costs, thresholds=thresholds)
        if coverage is not None and not (costs is None and thresholds is None):
            raise DataError("costs and thresholds decide for one class, a coverage asks for a set")
        if reject is not None and coverage is None and UNKNOWN in self.classes_.tolist():
            raise DataError(
                f"a class is called {UNKNOWN!r}, as images unlike the training images would be: "
                "ask for a coverage too, or use classify(images, reject=...).unknown"
            )

    def unknown_score(self, images: Images) -> NDArray[np.float64]:
        """How unlike the training images each image is.

        Parameters
        ----------
        images : path, list of images or ImageSet
            As for `predict_proba`.

        Returns
        -------
        ndarray of shape (n,)
            0 for what is usual among the training images, 1 for what one in six of them reaches;
            larger is less alike. See `toptune.decisions.novelty`. Images are compared with those
            that are centers of the head, which are all images of a fit up to 3,000; images that
            were added to the model later are not.

        Raises
        ------
        DataError
            If an image cannot be read.
        """
        self._check_for_classes("unknown_score is")
        return self._unknown_scores(self._extract(unlabelled_images(images), strict=True))

    # -------------------------------------------------------------------------------- details

    def _set_threshold(self, coverage: float) -> float:
        proba = self.head_.probabilities(self.head_.loo_decision_function_)
        lowest = set_threshold(proba, self.codes_, coverage, groups=self.groups_)
        return self._reachable(lowest, "coverage", coverage, coverage)

    def _unknown_threshold(self, reject: float) -> float:
        check_rate("reject", reject)
        return self._reachable(self._scorer().threshold(reject), "reject", reject, 1.0 - reject)

    def _reachable(self, threshold: float, name: str, value: float, coverage: float) -> float:
        """Refuse a rate that the training images are too few to tell of."""
        if np.isfinite(threshold):
            return threshold
        what, n = "images", len(self.codes_)
        if self.groups_ is not None:
            what, n = "groups of images", len(set(self.groups_.tolist()))
        least = int(np.ceil(coverage / (1.0 - coverage) - 1e-9))
        raise DataError(
            f"{name}={value:g} needs at least {least} training {what}, and there are {n}: ask for "
            "less, or train with more"
        )

    def _unknown_scores(self, features: Features) -> NDArray[np.float64]:
        rows, _ = self.head_.kernel_space(self._rows(features))
        return self._scorer().scores(rows)

    def _scorer(self) -> UnknownScorer:
        """Scorer of the head as it is now: made anew when its coefficients were."""
        known: tuple[Any, UnknownScorer] | None = getattr(self, "_unknown", None)
        if known is None or known[0] is not self.head_.dual_coef_:
            scorer = unknown_scorer(self.head_, self.codes_, self.groups_)
            known = self._unknown = (self.head_.dual_coef_, scorer)
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_unknown"}
