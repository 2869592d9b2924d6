"""Changes of a trained image classifier: images added, images forgotten, models merged.

Each change is exact: the model becomes, to rounding, the one trained on the changed images with the
same centers, kernel, bandwidth, weights of layers and penalty. `kernel.changing` and
`kernel.sharing` have the changes of the head, `kernel.updating` their arithmetic; here are images,
names and what they mean.
"""

from __future__ import annotations

import os
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError, DataWarning
from toptune.evaluation.classification import Evaluation
from toptune.features import Features
from toptune.images import Images, ImageSet, ImageSource, Quarantined, with_folder
from toptune.images.labels import as_text
from toptune.images.names import (
    are_numbered,
    check_distinct,
    check_several_groups,
    joined_groups,
    names_among,
    next_number,
)
from toptune.kernel import FeatureNormalizer, KernelClassifier, Rows
from toptune.kernel.kept import Keep
from toptune.model.image_classifier import ImageClassifier, check_finite, given_images
from toptune.tasks import (
    Classification,
    Task,
    TaskChoice,
    TaskName,
    check_classes,
    warn_of_lone_images,
)

_U = TypeVar("_U", bound="UpdatableClassifier")


class UpdatableClassifier(ImageClassifier):
    """Base of `TopTuner`: what changes a trained model.

    A call that fails leaves the model as it was.
    """

    head_: KernelClassifier
    normalizer_: FeatureNormalizer
    center_features_: NDArray[Any]
    ids_: tuple[str, ...]
    codes_: NDArray[np.intp]
    groups_: NDArray[np.str_] | None
    quarantined_: tuple[Quarantined, ...]
    seconds_: dict[str, float]
    provenance_: dict[str, Any]
    task: TaskChoice
    task_: TaskName
    _task: Task[Any]
    _keep: Keep

    @abstractmethod
    def fit(
        self: _U,
        data: Images | None = None,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        paths: Sequence[str | os.PathLike[str]] | None = None,
        images: Sequence[ImageSource] | NDArray[Any] | None = None,
        split: str | None = None,
        groups: Iterable[object] | None = None,
    ) -> _U:
        """Train on labelled images."""

    @abstractmethod
    def _check_provenance(self, provenance: dict[str, Any], what: str) -> None:
        """Refuse what was made by another network than the one this classifier has here."""

    # --------------------------------------------------------------------------------- adding

    def partial_fit(
        self: _U,
        data: Images | None = None,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        paths: Sequence[str | os.PathLike[str]] | None = None,
        images: Sequence[ImageSource] | NDArray[Any] | None = None,
        split: str | None = None,
        groups: Iterable[object] | None = None,
        reselect: bool = False,
    ) -> _U:
        """Add labelled images, of classes that the model knows or of new ones.

        Parameters
        ----------
        data, labels, paths, images, split
            As for `fit`, which is what the first call of an untrained model is.
        groups : list, optional
            As for `fit`; images of a group that the model knows belong to it.
        reselect : bool, default=False
            Choose the penalty again by leave-one-out.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If an image has the name of one that the model was trained on, labels are numbers or
            sets and the model was not trained with ``task="classification"``, or the data cannot
            be used.
        NotKeptError
            If the model does not hold the sums that it takes.
        """
        given = {"paths": paths, "images": images, "split": split, "groups": groups}
        if not hasattr(self, "classes_"):
            return self.fit(data, labels, **given)  # type: ignore[arg-type]
        if isinstance(groups, str):
            raise DataError(
                f"groups={groups!r} needs all images at once: name the groups of those to add, or "
                "train anew"
            )
        self._check_for_classes("adding images is")
        image_set = given_images(data, labels, **given)  # type: ignore[arg-type]
        self._class_labels(image_set)  # an error in them is raised before the work
        image_set = self._numbered(image_set)
        features = self._extract(image_set)
        if (self.head_.center_indices_ >= 0).any():  # else it may be sent away: see `fit`
            features = replace(features, provenance=with_folder(features.provenance, image_set))
        return self._add(features, reselect)

    def partial_fit_features(self: _U, features: Features, *, reselect: bool = False) -> _U:
        """Add images whose features were extracted before, by this model's network.

        Parameters
        ----------
        features : Features
            With labels.
        reselect : bool, default=False
            As for `partial_fit`.

        Returns
        -------
        self

        Raises
        ------
        DataError, NotKeptError
            As for `partial_fit`.
        ModelFileError
            If the features come from another network, other layers or another preprocessing.
        """
        self._check_for_classes("adding images is")
        self._check_provenance(features.provenance, "these features")
        return self._add(features, reselect)

    def _add(self: _U, features: Features, reselect: bool) -> _U:
        labels = self._class_labels(features)
        check_finite(features)
        check_distinct((*self.ids_, *features.ids), "are in the model already, or twice here")
        start = time.perf_counter()
        texts = as_text(labels)
        if features.label_kind == "number":  # classes by their text, as in a fit
            labels = texts
        known = dict(zip(map(str, self.classes_.tolist()), self.classes_, strict=True))
        y = np.array([known.get(text, c) for text, c in zip(texts, labels, strict=True)])
        groups = joined_groups((self.groups_, features.groups), (self.ids_, features.ids))
        head = self.head_.add_samples(
            Rows(features.X, transform=self.normalizer_.transform),
            y,
            groups=groups,
            centers=self._center_rows(),
        )
        exact = len(head.centers_) > len(self.center_features_)
        self._become(
            head.reselect_penalty() if reselect else head,
            ids=(*self.ids_, *features.ids),
            groups=groups,
            centers=np.concatenate([self.center_features_, features.X]) if exact else None,
            quarantined=features.quarantined,
            folders=features.provenance.get("image_folders", ()),
            start=start,
            extraction=features.seconds,
        )
        return self

    def _class_labels(self, labelled: Features | ImageSet) -> NDArray[Any]:
        """Labels to add, refused where `fit` would not have taken them for classes."""
        if labelled.labels is None:
            raise DataError("the images to add have no labels: training needs one label per image")
        if self.task != "classification":
            check_classes(labelled)
        return labelled.labels

    # ------------------------------------------------------------------------------ forgetting

    def forget(
        self: _U, ids: str | Iterable[str], *, drop_centers: bool = False, reselect: bool = False
    ) -> _U:
        """Take training images out of the model, exactly.

        Parameters
        ----------
        ids : str or list of str
            Names as in ``ids_``; with ``drop_centers`` there may be none.
        drop_centers : bool, default=False
            Where not all images are centers: also take those of them that are centers from the
            centers, and those forgotten before, so that nothing of them stays. It takes longer,
            about as a refit.
        reselect : bool, default=False
            Choose the penalty again by leave-one-out.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the model has no image of such a name, or a class would lose its last image.
        NotKeptError
            If the model does not hold what each image contributed.

        Warns
        -----
        DataWarning
            If some of them stay centers: their features stay in the model.
        """
        self._check_for_classes("forgetting images is")
        start = time.perf_counter()
        names = names_among(ids, self.ids_)
        gone = np.array([name in names for name in self.ids_], dtype=bool)
        groups = None if self.groups_ is None else self.groups_[~gone]
        check_several_groups(groups)
        head = self.head_.remove_samples(
            gone, drop_centers=drop_centers, centers=self._center_rows()
        )
        places = self.head_.center_indices_
        there = self.head_.staying_centers(~gone)
        dropped = len(head.centers_) < len(there)
        number = next_number(self.ids_, self.provenance_.get("next_number", 0))
        lost = np.count_nonzero(~there & (places >= 0))
        if not dropped and lost:
            warnings.warn(
                f"{lost} of the forgotten images are centers: nothing of their "
                "labels is left, but their features stay in the model; drop_centers=True takes "
                "them out too",
                DataWarning,
                stacklevel=2,
            )
        self._become(
            head.reselect_penalty() if reselect else head,
            ids=tuple(name for name in self.ids_ if name not in names),
            groups=groups,
            centers=self.center_features_[there] if dropped else None,
            start=start,
        )
        if number:  # a name is not given again
            self.provenance_ = {**self.provenance_, "next_number": number}
        return self

    # --------------------------------------------------------------------------------- merging

    def merge(
        self: _U,
        models: _U | Sequence[_U],
        *,
        prefixes: Sequence[str] | None = None,
        reselect: bool = False,
    ) -> _U:
        """Add the images of other models with the same centers, which are not needed for it.

        Parameters
        ----------
        models : TopTuner or list of TopTuner
            Trained with ``centers=`` the same model as this one, or that model itself.
        prefixes : list of str, optional
            One for this model and one for each other, put before the names of their images and
            groups: sites often give the same names. Without them equal names of groups are one
            group, and equal names of images an error. A name with a prefix is no longer that of a
            file, by which pages find thumbnails.
        reselect : bool, default=False
            Choose the penalty again by leave-one-out; needs the rows of all models. The penalty is
            that of this model otherwise.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If models differ in centers, kernel, classes or class weights, or share names of images.
        ModelFileError
            If they have other networks, layers or preprocessing.
        NotKeptError
            If one of them does not hold the sums that it takes.
        """
        self._check_for_classes("merging models is")
        start = time.perf_counter()
        others: list[_U] = [models] if isinstance(models, UpdatableClassifier) else list(models)
        everyone: list[_U] = [self, *others]
        for model in others:
            model._check_for_classes("merging models is")
            self._check_provenance(model.provenance_, "the model to merge")
        if prefixes is not None and len(prefixes) != len(everyone):
            raise DataError(f"{len(everyone)} models need as many prefixes, got {len(prefixes)}")
        marks = prefixes or [""] * len(everyone)
        ids = [tuple(p + i for i in m.ids_) for p, m in zip(marks, everyone, strict=True)]
        check_distinct(
            tuple(name for names in ids for name in names),
            "are in several of the models: give prefixes that tell them apart",
        )
        head = self.head_
        named = [model.groups_ for model in everyone]
        for k, model in enumerate(others, start=2):
            groups = joined_groups(named[:k], ids[:k], marks[:k])
            head = head.merge(model.head_, groups=groups)
        self._become(
            head.reselect_penalty() if reselect else head,
            ids=tuple(name for names in ids for name in names),
            groups=joined_groups(named, ids, marks),
            quarantined=tuple(item for model in others for item in model.quarantined_),
            folders=[f for m in others for f in m.provenance_.get("image_folders", ())],
            start=start,
        )
        return self

    # --------------------------------------------------------------------------------- details

    @cached_property
    def loo_(self) -> Evaluation | Any:
        """Leave-one-out evaluation of the training images."""
        self._check_fitted()
        return self._task.evaluate(self.codes_, self._task.left_out(self.head_))

    @property
    def refresh_(self) -> str | None:
        """Why centers and hyperparameters should be chosen anew; None: no reason."""
        self._check_fitted()
        return self.head_.refresh_reason() if self.task_ == "classification" else None

    def _labels_task(self) -> Task[Any]:
        return self._task

    def _set_task(self, task: Task[Any]) -> None:
        self._task, self.task_, self.classes_ = task, task.name, task.classes

    def _center_rows(self) -> Rows:
        return Rows(self.center_features_, transform=self.normalizer_.transform)

    def _set_samples(
        self, ids: tuple[str, ...], codes: NDArray[np.intp], groups: NDArray[np.str_] | None
    ) -> None:
        self.ids_, self.codes_, self.groups_ = ids, codes, groups
        self.__dict__.pop("loo_", None)

    def _become(
        self,
        head: KernelClassifier,
        *,
        ids: tuple[str, ...],
        groups: NDArray[np.str_] | None,
        centers: NDArray[Any] | None = None,
        quarantined: tuple[Quarantined, ...] = (),
        folders: Sequence[str] = (),
        start: float,
        extraction: float = 0.0,
    ) -> None:
        """Take over a changed head, and what belongs to it."""
        warn_of_lone_images(head.classes_[head.sample_codes_], groups)
        self.head_ = head
        self._set_task(Classification(head.classes_))
        self._set_samples(ids, head.sample_codes_, groups)
        if centers is not None:
            self.center_features_ = centers
        selecting = head.selection_seconds_
        self.seconds_ = {
            "decode_extract": extraction,
            "select": selecting,
            "fit": time.perf_counter() - start - selecting,
        }
        self.quarantined_ = (*self.quarantined_, *quarantined)
        known = self.provenance_.get("image_folders", [])
        if new := [folder for folder in folders if folder not in known]:
            self.provenance_ = {**self.provenance_, "image_folders": [*known, *new]}

    def _numbered(self, images: ImageSet) -> ImageSet:
        """Give images in memory, which are numbered, the numbers after those of the model."""
        if not are_numbered(images.ids):
            return images
        first = next_number(self.ids_, self.provenance_.get("next_number", 0))
        return replace(images, ids=tuple(f"image-{first + k:06d}" for k in range(len(images))))
