"""ImageClassifier: what every classifier of images does alike, once it can score images.

A subclass says how images become features (`_extract`) and features become probabilities
(`_proba`), and, where labels may be other than classes, what the task is (`_labels_task`). Here are
the ways to give images, unreadable ones, and the comparison with labels.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from toptune.decisions.costs import Costs
from toptune.errors import DataError
from toptune.evaluation.classification import Evaluation
from toptune.features import Features
from toptune.images import (
    Images,
    ImageSet,
    ImageSource,
    labelled_images,
    splits_of,
    unlabelled_images,
)
from toptune.tasks import Classification, Task
from toptune.tasks.predictions import Predictions


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the classifiers that take images.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted; it exists once the classifier is fitted.
    """

    classes_: NDArray[Any]

    @abstractmethod
    def _extract(self, images: ImageSet, *, strict: bool | None = None) -> Features:
        """Features of images; `strict` None means the classifier's own parameter."""

    @abstractmethod
    def _proba(self, features: Features) -> NDArray[np.float64]:
        """Class probabilities (n, c) of features; whatever the task's outputs are."""

    def _labels_task(self) -> Task[Any]:
        """Return what labels are, and how answers are given and judged."""
        return Classification(self.classes_)

    # The results are those of classification unless the task is another one.

    def classify(self, images: Images, *, strict: bool = False) -> Predictions | Any:
        """Predict images of which some may be unreadable; those are listed, not predicted.

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.
        strict : bool, default=False
            Raise an error for an image that cannot be read.

        Returns
        -------
        Predictions
            For other tasks `toptune.tasks.LabelPredictions` or `NumberPredictions`.

        Raises
        ------
        DataError
            If not one image can be read, or, with `strict`, if one cannot.
        """
        self._check_fitted()
        features = self._extract(unlabelled_images(images), strict=strict)
        outputs = self._proba(features)
        return self._labels_task().predictions(features.ids, outputs, features.quarantined)

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Class probabilities, one row per image.

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.

        Returns
        -------
        ndarray of shape (n, c), columns in the order of `classes_`. Rows add up to 1, except where
        an image may have several labels.

        Raises
        ------
        DataError
            If an image cannot be read: rows must match the images. `classify` goes on instead. Also
            if labels are numbers, which have no probabilities.
        """
        self._check_fitted()
        self._labels_task().require(("classification", "multilabel"), "predict_proba is")
        return self._proba(self._extract(unlabelled_images(images), strict=True))

    def predict(
        self,
        images: Images,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> NDArray[Any]:
        """Decide for each image: by default for its most probable class.

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

        Returns
        -------
        ndarray of shape (n,)
            Labels, or numbers; with several labels per image their indicators, (n, c).

        Raises
        ------
        DataError
            If an image cannot be read, or costs or thresholds cannot be used.
        """
        self.check_decision(costs=costs, thresholds=thresholds)
        found = self.classify(images, strict=True)
        decided: NDArray[Any] = found.decide(costs=costs, thresholds=thresholds)
        return decided

    def evaluate(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Evaluation | Any:
        """Compare predictions with the labels of a data set.

        Parameters
        ----------
        data, labels
            As for `fit`.
        split : str, optional
            Split to evaluate; by default test where the data has one, else val, else everything.
        costs, thresholds
            As for `predict`: what is decided by them is compared. Costs add their mean.

        Returns
        -------
        Evaluation
            For other tasks `toptune.tasks.LabelEvaluation` or `NumberEvaluation`.

        Raises
        ------
        DataError
            If the data has a class that the model does not know, or costs or thresholds cannot be
            used.
        """
        self.check_decision(costs=costs, thresholds=thresholds)
        features = self._extract(images_to_compare(data, labels, split=split))
        return self._compare(features, costs=costs, thresholds=thresholds)

    def score(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
    ) -> float:
        """Accuracy on a data set; arguments and errors as for `evaluate`.

        With several labels per image the share of images with all of them right; for numbers R^2.
        """
        return float(self.evaluate(data, labels, split=split).score)

    def check_decision(
        self, *, costs: Costs | None = None, thresholds: Mapping[Any, float] | None = None
    ) -> None:
        """Refuse costs or thresholds that `predict` could not use, before any work is done.

        Raises
        ------
        DataError
            As `predict` does.
        """
        self._check_fitted()
        nothing = self._labels_task().predictions((), np.empty((0, len(self.classes_))), ())
        nothing.decide(costs=costs, thresholds=thresholds)

    def _compare(
        self,
        features: Features,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Evaluation | Any:
        task = self._labels_task()
        if features.labels is not None:
            task.codes_of(features.labels)  # an error in them is raised before the work
        outputs = self._proba(features)
        return task.compare(features.labels, outputs, costs=costs, thresholds=thresholds)

    def _check_for_classes(self, what: str) -> None:
        """Refuse what only fitted models of classes can do."""
        self._check_fitted()
        self._labels_task().require(("classification",), what)

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted yet: call fit or load first")


def images_to_compare(
    data: Images,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    split: str | None,
) -> ImageSet:
    """List images to compare predictions on: of the split test where there is one, else val."""
    if split is None and isinstance(data, str | os.PathLike):
        table = labels if isinstance(labels, str | os.PathLike) else None
        present = splits_of(data, labels=table)
        split = next((name for name in ("test", "val", "train") if name in present), None)
    return labelled_images(data, labels, split=split)


def given_images(
    data: Images | None,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    paths: Sequence[str | os.PathLike[str]] | None,
    images: Sequence[ImageSource] | NDArray[Any] | None,
    split: str | None,
    groups: Iterable[object] | None = None,
) -> ImageSet:
    """List what was given to a `fit` as data, paths or images; see `labelled_images`.

    Raises
    ------
    DataError
        If it was given in no way, or in several, or labels and images do not fit each other.
    """
    given = [item for item in (data, paths, images) if item is not None]
    if len(given) != 1:
        raise DataError("give the images in one way: data, paths= or images=")
    return labelled_images(given[0], labels, split=split, groups=groups)


def check_finite(features: Features) -> None:
    """Refuse features that hold NaN or infinity.

    Raises
    ------
    DataError
        Naming the first image.
    """
    step = 4096  # rows at a time: they may be in a file larger than memory
    blocks = (features.X[first : first + step] for first in range(0, len(features), step))
    bad = ~np.concatenate([np.isfinite(X).all(axis=1) for X in blocks] or [np.ones(0, bool)])
    if bad.any():
        raise DataError(
            f"the features of {bad.sum()} of {len(features)} images hold NaN or infinity, the "
            f"first is {features.ids[int(bad.argmax())]}: extract them again, or leave them out"
        )
