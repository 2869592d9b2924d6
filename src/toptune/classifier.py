"""ImageClassifier: what every classifier of images does alike, once it can score images.

A subclass says how images become features (`_extract`) and features become probabilities
(`_proba`). Here are the ways to give images, unreadable ones, and the comparison with labels.
"""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from toptune.errors import DataError, DataWarning
from toptune.features import Features
from toptune.images import (
    Images,
    ImageSet,
    ImageSource,
    folder_of,
    labelled_images,
    splits_of,
    unlabelled_images,
)
from toptune.metrics import Evaluation, evaluate_probabilities
from toptune.predictions import Predictions


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
        """Class probabilities (n, c) of features."""

    def classify(self, images: Images, *, strict: bool = False) -> Predictions:
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

        Raises
        ------
        DataError
            If not one image can be read, or, with `strict`, if one cannot.
        """
        self._check_fitted()
        features = self._extract(unlabelled_images(images), strict=strict)
        proba = self._proba(features)
        return Predictions(features.ids, self.classes_, proba, features.quarantined)

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Class probabilities, one row per image.

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.

        Returns
        -------
        ndarray of shape (n, c), columns in the order of `classes_`.

        Raises
        ------
        DataError
            If an image cannot be read: rows must match the images. `classify` goes on instead.
        """
        self._check_fitted()
        return self._proba(self._extract(unlabelled_images(images), strict=True))

    def predict(self, images: Images) -> NDArray[Any]:
        """Most probable class of each image; arguments and errors as for `predict_proba`."""
        best = self.predict_proba(images).argmax(axis=1)  # also what tells that it is fitted
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def evaluate(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
    ) -> Evaluation:
        """Compare predictions with the labels of a data set.

        Parameters
        ----------
        data, labels
            As for `fit`.
        split : str, optional
            Split to evaluate; by default test where the data has one, else val, else everything.

        Returns
        -------
        Evaluation

        Raises
        ------
        DataError
            If the data has a class that the model does not know.
        """
        self._check_fitted()
        return self._compare(self._extract(images_to_compare(data, labels, split=split)))

    def score(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
    ) -> float:
        """Accuracy on a data set; arguments and errors as for `evaluate`."""
        return self.evaluate(data, labels, split=split).accuracy

    def _compare(self, features: Features) -> Evaluation:
        if features.labels is None:
            raise DataError("these images have no labels to compare with")
        known = {str(label): label for label in self.classes_.tolist()}
        unknown = sorted(set(features.labels.tolist()) - known.keys())
        if unknown:
            raise DataError(
                f"the data has classes that the model does not know: {', '.join(unknown)} "
                f"(it knows {', '.join(known)}); leave their images out, or train with them"
            )
        y = np.array([known[label] for label in features.labels.tolist()])
        return evaluate_probabilities(y, self._proba(features), self.classes_)

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
    image_set, _ = labelled_images(data, labels, split=split)
    return image_set


def given_images(
    data: Images | None,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    paths: Sequence[str | os.PathLike[str]] | None,
    images: Sequence[ImageSource] | NDArray[Any] | None,
    split: str | None,
    groups: Iterable[object] | None = None,
) -> tuple[ImageSet, dict[str, Any]]:
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


def located(features: Features, images: ImageSet) -> Features:
    """Note in the provenance of features the folder that their images are in, if there is one."""
    folder = folder_of(images)
    if folder is None:
        return features
    return replace(features, provenance={**features.provenance, "image_folders": [folder]})


def training_labels(labelled: Features | ImageSet, names: dict[str, Any]) -> NDArray[Any]:  # (n,)
    """Labels to train on, as they were given: `names` has them by their text.

    Raises
    ------
    DataError
        If there are no labels, or fewer than two classes.
    """
    if labelled.labels is None:
        what = "features" if isinstance(labelled, Features) else "images"
        raise DataError(f"these {what} have no labels: training needs one label per image")
    y = np.array([names.get(label, label) for label in labelled.labels.tolist()])
    classes = np.unique(y)
    if len(classes) < 2:
        raise DataError(
            f"training needs at least two classes, found only {str(classes[0])!r}: labels are the "
            "names of the folders that hold the images, or those of the manifest"
        )
    return y


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


def warn_of_lone_images(y: NDArray[Any], groups: NDArray[np.str_] | None) -> None:
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
            stacklevel=4,
        )
