"""TopTuner: images and labels in, a trained classifier out.

    images -> extractor_ (frozen network) -> Features -> model_ -> labels, probabilities

A facade, without arithmetic: `FeatureExtractor` has the network, `FittedModel` what was fitted.
Top-tuning: Alfano, Pastore, Rosasco and Odone, arXiv 2209.07932.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.validation import check_is_fitted

from toptune.decisions.costs import Costs
from toptune.decisions.rule import DecisionRule
from toptune.decisions.thresholds import Objective
from toptune.errors import BackboneError, DataError, ModelFileError
from toptune.evaluation.near_duplicates import NEAR_DUPLICATES, with_near_duplicates
from toptune.features import Features
from toptune.features.backbones import View
from toptune.features.extractor import FeatureExtractor
from toptune.features.taps import LAST
from toptune.images import (
    Images,
    images_to_compare,
    labelled_images,
    unlabelled_images,
    with_folder,
)
from toptune.kernel.estimators import Kernel
from toptune.model import updates
from toptune.model.backbone_selection import BackboneScore, choose_backbone, compare_backbones
from toptune.model.explanation import Explanation, explain_image
from toptune.model.file import read_model, write_model
from toptune.model.fitted_model import NOT_FITTED, FittedAttribute, FittedModel
from toptune.model.fitting import HeadParameters, check_finite, fit_model
from toptune.runtime.deprecation import with_old_parameters
from toptune.tasks import Answers, TaskChoice, TaskEvaluation, TaskName

Labels: TypeAlias = ArrayLike | str | os.PathLike[str] | None
Thresholds: TypeAlias = Mapping[Any, float] | None
Rate: TypeAlias = float | None


class TopTuner(BaseEstimator):  # type: ignore[misc]
    """Image classifier: frozen network, features extracted once, fast kernel head.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        Network: an embedded one, a timm name, ``ARCH=FILE`` or ``local-dir:FOLDER``; see
        `toptune.features.load_backbone`. "auto" compares those that are on this machine.
    layers, view, resolution, precision, cache
        As for `toptune.FeatureExtractor`. The weights of several layers are chosen.
    kernel, bandwidth, penalty, n_centers, class_weight
        As for `toptune.KernelClassifier`; "auto" means chosen by leave-one-out.
    strict : bool, default=False
        Raise an error for an image that cannot be read while fitting or scoring, instead of
        setting it aside.
    random_state : int, default=0
        Seed of everything that is drawn.
    time_budget : float, optional
        With backbone="auto": seconds that the extraction may take, as measured on a few images.
    task : {"auto", "classification", "multilabel", "regression"}, default="auto"
        One class per image, any number of labels, or a number. "auto" goes by the labels: floats
        that are not all whole, in memory or in a manifest, are numbers; lists of names, and text
        with semicolons, are several labels; all else, as names of folders, is a class.

    Attributes
    ----------
    extractor_ : FeatureExtractor
        With the network of the fit.
    model_ : FittedModel
        What was fitted. The following are read from it, and are described there.
    task_, classes_, ids_, codes_, groups_, quarantined_, provenance_, seconds_, backbone_
        The task, labels, training images and the way to their features.
    head_, normalizer_, center_features_, layer_weights_, refresh_
        The fitted head, its input, and why it should be fitted anew, if so.
    loo_ : Evaluation
        Leave-one-out accuracy, log-loss, confusion matrix and per-class table: each training image
        was predicted by the model fitted without it, and without its group if there are groups.
        Computed when first asked for. `LabelEvaluation` or `NumberEvaluation` for other tasks.
    loo_proba_ : ndarray of shape (n, c)
        Leave-one-out probabilities of the training images; numbers (n,) for regression.
    backbones_ : list of BackboneScore
        With backbone="auto": how every network did on some of the images, the best first.

    Examples
    --------
    >>> import numpy as np
    >>> from toptune import TopTuner
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.integers(0, 90, size=(8, 32, 32, 3), dtype=np.uint8)
    >>> tuner = TopTuner(cache=None)
    >>> tuner = tuner.fit([*dark, *(dark + 140)], ["night"] * 8 + ["day"] * 8)
    >>> tuner.predict([dark[0] + 120]).tolist()
    ['day']
    """

    extractor_: FeatureExtractor
    model_: FittedModel
    backbones_: list[BackboneScore]
    task_ = FittedAttribute(lambda model: model.task_name)
    classes_ = FittedAttribute(lambda model: model.classes)
    loo_ = FittedAttribute(lambda model: model.loo)
    loo_proba_ = FittedAttribute(lambda model: model.left_out)
    ids_ = FittedAttribute(lambda model: model.ids)
    codes_ = FittedAttribute(lambda model: model.codes)
    groups_ = FittedAttribute(lambda model: model.groups)
    refresh_ = FittedAttribute(lambda model: model.refresh)
    head_ = FittedAttribute(lambda model: model.head)
    normalizer_ = FittedAttribute(lambda model: model.normalizer)
    center_features_ = FittedAttribute(lambda model: model.center_features)
    quarantined_ = FittedAttribute(lambda model: model.quarantined)
    seconds_ = FittedAttribute(lambda model: model.seconds)
    backbone_ = FittedAttribute(lambda model: model.backbone)
    layer_weights_ = FittedAttribute(lambda model: model.layer_weights)
    provenance_ = FittedAttribute(lambda model: model.provenance)

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        layers: str | Sequence[str] = "auto",
        view: View = "whole",
        resolution: int | None = None,
        kernel: Kernel = "auto",
        bandwidth: float | Literal["auto"] = "auto",
        penalty: float | Literal["auto"] = "auto",
        n_centers: int | Literal["auto"] = "auto",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        cache: str | os.PathLike[str] | None = "auto",
        strict: bool = False,
        random_state: int = 0,
        time_budget: float | None = None,
        task: TaskChoice = "auto",
    ) -> None:
        self.backbone = backbone
        self.layers = layers
        self.view = view
        self.resolution = resolution
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.penalty = penalty
        self.n_centers = n_centers
        self.class_weight = class_weight
        self.precision = precision
        self.cache = cache
        self.strict = strict
        self.random_state = random_state
        self.time_budget = time_budget
        self.task = task

    @with_old_parameters
    def fit(
        self,
        data: Images,
        labels: Labels = None,
        *,
        split: str | None = None,
        groups: Iterable[object] | None = None,
        centers: TopTuner | None = None,
    ) -> TopTuner:
        """Extract the features of labelled images and train the head on them.

        Parameters
        ----------
        data : path, list of images or ImageSet
            A folder with one folder per class, the same under train, val and test (train is used),
            or a .csv or .parquet manifest; or paths or images, with `labels`.
        labels : list of labels, or path
            One label per image of a list, or a list of names per image; or a manifest with the
            labels of the images in `data`.
        split : str, optional
            Split of the data to train on.
        groups : list, or "near-duplicates", optional
            What is left out together: images of one object, frames of one video; one name per image
            of a list. A manifest has a column ``group``. "near-duplicates" finds groups from the
            features, and joins them with those of the manifest.
        centers : TopTuner, optional
            A model whose centers, kernel, bandwidth and weights of layers are used instead of
            chosen, so that models trained on other images with the same one can be merged.

        Raises
        ------
        DataError
            If there are no usable images, fewer than two classes, labels that are not what the task
            needs, or, with `strict`, an image cannot be read.
        BackboneError
            If the network or its weights cannot be had.
        """
        found = isinstance(groups, str)
        if found and groups != NEAR_DUPLICATES:
            raise DataError(f'groups must be names or "{NEAR_DUPLICATES}", got {groups!r}')
        images = labelled_images(data, labels, split=split, groups=None if found else groups)
        backbone = (
            self.backbone if centers is None or self.backbone != "auto" else centers.backbone_
        )
        if backbone == "auto":
            self.backbones_ = compare_backbones(
                images,
                lambda name: self._extractor(name).load(),
                task=self.task,
                random_state=self.random_state,
            )
            backbone = choose_backbone(self.backbones_, self.time_budget)
        extractor = self._extractor(backbone)
        features = extractor.extract(images, strict=self.strict)
        if centers is None:  # models with the centers of another are made to be sent away
            features = replace(features, provenance=with_folder(features.provenance, images))
        if found:
            features = with_near_duplicates(features)
        return self._fit(features, extractor, centers)

    def fit_features(self, features: Features, *, centers: TopTuner | None = None) -> TopTuner:
        """Train the head on features that were extracted before, by this backbone; see `fit`."""
        if self.backbone == "auto":
            raise DataError('backbone="auto" needs images to compare networks on: name the network')
        extractor = self._extractor(self.backbone)
        extractor.check_provenance(features.provenance, "these features")
        check_finite(features)
        return self._fit(features, extractor, centers)

    @with_old_parameters
    def partial_fit(
        self,
        data: Images,
        labels: Labels = None,
        *,
        split: str | None = None,
        groups: Iterable[object] | None = None,
        reselect: bool = False,
    ) -> TopTuner:
        """Add labelled images, of known classes or of new ones; the first call is a `fit`.

        Arguments are those of `fit`, `reselect` and errors those of
        `toptune.model.updates.add_images`. A call that fails leaves the model as it was.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(data, labels, split=split, groups=groups)
        if isinstance(groups, str):
            raise DataError(
                f"groups={groups!r} needs all images at once: name the groups, or refit"
            )
        self.check_fitted("adding images is")
        images = labelled_images(data, labels, split=split, groups=groups)
        images = updates.images_to_add(self.model_, images)  # errors are raised before the work
        features = self.extract(images)
        if (self.head_.center_indices_ >= 0).any():  # else it may be sent away: see `fit`
            features = replace(features, provenance=with_folder(features.provenance, images))
        self.model_ = updates.add_images(self.model_, features, reselect=reselect)
        return self

    def partial_fit_features(self, features: Features, *, reselect: bool = False) -> TopTuner:
        """Add images whose features were extracted before, by this model's network."""
        model = self.model_for(features, "adding images is")
        self.model_ = updates.add_images(model, features, reselect=reselect)
        return self

    def forget(
        self, ids: str | Iterable[str], *, drop_centers: bool = False, reselect: bool = False
    ) -> TopTuner:
        """Take training images out, exactly; see `toptune.model.updates.remove_images`."""
        self.check_fitted("forgetting images is")
        self.model_ = updates.remove_images(
            self.model_, ids, drop_centers=drop_centers, reselect=reselect
        )
        return self

    def merge(
        self,
        models: TopTuner | Sequence[TopTuner],
        *,
        prefixes: Sequence[str] | None = None,
        reselect: bool = False,
    ) -> TopTuner:
        """Add the images of models with the same centers; see `toptune.model.updates.merge_models`.

        `models` were trained with ``centers=`` the same model as this one, or are that model;
        `prefixes` has one for this model and one for each other.
        """
        others = [models] if isinstance(models, TopTuner) else list(models)
        for tuner in (self, *others):
            tuner.check_fitted("merging models is")
            self.extractor_.check_provenance(tuner.provenance_, "the model to merge")
        everyone = [self.model_, *(tuner.model_ for tuner in others)]
        self.model_ = updates.merge_models(everyone, prefixes=prefixes, reselect=reselect)
        return self

    # ------------------------------------------------------------------------------ answering

    def prepare(self) -> TopTuner:
        """Load the network now, so that the first image need not wait for it."""
        if not self.__sklearn_is_fitted__():
            self.extractor_ = self._extractor(self.backbone)
        self.extractor_.load()[1].prepare()
        return self

    def extract(self, images: Images, *, strict: bool | None = None) -> Features:
        """Compute features, by the network of the fit, or by the one to fit with."""
        if not self.__sklearn_is_fitted__():
            self.extractor_ = self._extractor(self.backbone)
        self.extractor_.cache = self.cache
        return self.extractor_.extract(images, strict=self.strict if strict is None else strict)

    def classify(
        self, images: Images, *, strict: bool = False, coverage: Rate = None, reject: Rate = None
    ) -> Answers:
        """Predict images of which some may be unreadable; those are listed, not predicted.

        `coverage` and `reject`, as for `predict`, add prediction sets, and unknown scores with a
        mark. With `strict` an image that cannot be read is an error. Returns
        `toptune.tasks.Predictions`, or `LabelPredictions` or `NumberPredictions` for other tasks.
        """
        self.check_fitted()
        rule = DecisionRule(coverage=coverage, reject=reject)
        self.model_.check_rates(rule)  # before the work
        return self.model_.answers(self.extract(images, strict=strict), rule)

    def classify_features(
        self, features: Features, *, coverage: Rate = None, reject: Rate = None
    ) -> Answers:
        """Predict from features; see `classify`."""
        rule = DecisionRule(coverage=coverage, reject=reject)
        return self.model_for(features).answers(features, rule)

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Compute probabilities (n, c), columns in the order of `classes_`; errors as `predict`."""
        self.check_fitted("predict_proba is", "classification", "multilabel")
        return self.model_.outputs(self.extract(images, strict=True))

    def predict_proba_features(self, features: Features) -> NDArray[np.float64]:
        """Compute probabilities (n, c) from features."""
        model = self.model_for(features, "predict_proba is", "classification", "multilabel")
        return model.outputs(features)

    def predict(
        self,
        images: Images,
        *,
        costs: Costs | None = None,
        thresholds: Thresholds = None,
        coverage: Rate = None,
        reject: Rate = None,
    ) -> NDArray[Any]:
        """Decide for each image: its most probable class, a set of classes, or "unknown".

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.
        costs, thresholds, coverage, reject
            As for `toptune.decisions.DecisionRule`.

        Returns
        -------
        ndarray of shape (n,), or (n, c)
            Labels, or numbers; indicators (n, c) of several labels per image, or of the classes in
            prediction sets with `coverage`. With `reject` some labels are "unknown" (labels that
            are not text come in an array of objects), and sets of unknown images are empty.

        Raises
        ------
        DataError
            If an image cannot be read, because rows must match the images (`classify` goes on
            instead), or the training images are too few for a coverage or rate.
        """
        rule = DecisionRule(costs=costs, thresholds=thresholds, coverage=coverage, reject=reject)
        rule.check(self.classes_, self.task_)
        return self.classify(images, strict=True, coverage=coverage, reject=reject).apply(rule)

    def evaluate(
        self,
        data: Images,
        labels: Labels = None,
        *,
        split: str | None = None,
        costs: Costs | None = None,
        thresholds: Thresholds = None,
    ) -> TaskEvaluation:
        """Compare predictions with labels of the split test where there is one, else val, else all.

        Arguments are those of `fit` and `predict`; costs add their mean to the `Evaluation`
        (`LabelEvaluation` or `NumberEvaluation` for other tasks).
        """
        rule = DecisionRule(costs=costs, thresholds=thresholds)
        rule.check(self.classes_, self.task_)
        features = self.extract(images_to_compare(data, labels, split=split))
        return self.model_.evaluate(features, rule)

    def evaluate_features(
        self, features: Features, *, costs: Costs | None = None, thresholds: Thresholds = None
    ) -> TaskEvaluation:
        """Compare predictions with the labels of features; see `evaluate`."""
        rule = DecisionRule(costs=costs, thresholds=thresholds)
        return self.model_for(features).evaluate(features, rule)

    def score(self, data: Images, labels: Labels = None, *, split: str | None = None) -> float:
        """Compute the accuracy (all labels right, or R^2 of numbers); see `evaluate`."""
        return float(self.evaluate(data, labels, split=split).score)

    def unknown_score(self, images: Images) -> NDArray[np.float64]:
        """Compute how unlike the training images (centers) each image is, (n,).

        0 is usual, 1 is what one training image in six reaches; see `toptune.decisions.novelty`.
        """
        self.check_fitted("unknown_score is")
        return self.model_.unknown_scores(self.extract(images, strict=True))

    def unknown_score_features(self, features: Features) -> NDArray[np.float64]:
        """Compute how unlike the training images each image is, from features; (n,)."""
        return self.model_for(features, "unknown_score is").unknown_scores(features)

    def choose_thresholds(
        self,
        objective: Objective | None = None,
        *,
        recall: Thresholds = None,
        precision: Thresholds = None,
    ) -> dict[Any, float]:
        """Choose thresholds for `predict` by leave-one-out; see `toptune.decisions.thresholds`."""
        self.check_fitted("thresholds are", "classification", "multilabel")
        return self.model_.choose_thresholds(objective, recall=recall, precision=precision)

    def explain(
        self, image: Images, *, label: Any = None, n_images: int = 6, cells: int = 8
    ) -> Explanation:
        """Explain a score by training images and by parts of the image; see `explain_image`."""
        self.check_fitted("explain is")
        backbone, engine = self.extractor_.load()
        return explain_image(
            unlabelled_images(image),
            backbone=backbone,
            engine=engine,
            model=self.model_,
            label=label,
            n_images=n_images,
            cells=cells,
        )

    # -------------------------------------------------------------------------------- storing

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        keep: Literal["auto", "nothing", "sums", "rows"] = "auto",
    ) -> None:
        """Write the model to one file, usually named ``*.toptune``; replace one that exists.

        `keep` is what the file holds for changes, where not all images are centers: sums, for
        `partial_fit` and `merge`; or also m numbers of each image, for `forget` and leave-one-out
        afterwards. "auto" is "rows" for a model from a file that has them, else "sums".
        """
        self.check_fitted()
        model = replace(self.model_, parameters=self.get_params() | {"cache": "auto"})
        write_model(path, model, keep=model.kept if keep == "auto" else keep)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backbone: str | None = None) -> TopTuner:
        """Read a model that `save` wrote, and its network, which may have another name here.

        Raises
        ------
        ModelFileError
            If the file is damaged or of another format version, or the network on this machine has
            other weights than the one the model was trained with.
        BackboneError
            If the network is not on this machine.
        """
        model = read_model(path)
        if backbone is not None:
            model = replace(model, parameters=model.parameters | {"backbone": backbone})
        try:
            tuner = cls(**model.parameters)
        except TypeError as error:
            raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error
        tuner.model_ = model
        # By name: what "auto" stands for may be another thing for another name of the network.
        layers = tuple(name for name, _ in model.provenance["layers"])
        tuner.extractor_ = tuner._extractor(model.backbone).set_params(layers=layers)
        what = f"the model {os.fspath(path)}"
        try:
            tuner.extractor_.check_provenance(model.provenance, what)
        except BackboneError:  # a network without these layers is another one: that is said first
            tuner.extractor_.set_params(layers=LAST).check_provenance(model.provenance, what)
            raise
        return tuner

    # -------------------------------------------------------------------------------- details

    def check_fitted(self, what: str = "", *tasks: TaskName) -> None:
        """Raise if there is no model, or `what` is for other tasks (classification by default)."""
        check_is_fitted(self, msg=NOT_FITTED)
        if what:
            self.model_.require(what, *tasks)

    def check_decision(
        self,
        *,
        costs: Costs | None = None,
        thresholds: Thresholds = None,
        coverage: Rate = None,
        reject: Rate = None,
    ) -> None:
        """Raise, before any work is done, what `predict` would; arguments are its own."""
        rule = DecisionRule(costs=costs, thresholds=thresholds, coverage=coverage, reject=reject)
        rule.check(self.classes_, self.task_)

    def head_parameters(self) -> HeadParameters:
        """Return the parameters that are the head's."""
        return HeadParameters(**{f.name: getattr(self, f.name) for f in fields(HeadParameters)})

    def model_for(self, features: Features, what: str = "", *tasks: TaskName) -> FittedModel:
        """Return the model, if it fits features that were extracted before; raise if not."""
        self.check_fitted(what, *tasks)
        self.extractor_.check_provenance(features.provenance, "these features")
        check_finite(features)
        return self.model_

    def _extractor(self, backbone: str) -> FeatureExtractor:
        """Return the extractor of the parameters: that of before if it is equal."""
        names = ("layers", "view", "resolution", "precision", "cache")
        wanted = FeatureExtractor(
            backbone=backbone, **{name: getattr(self, name) for name in names}
        )
        known: FeatureExtractor | None = getattr(self, "extractor_", None)
        return wanted if known is None or known.get_params() != wanted.get_params() else known

    def _fit(
        self, features: Features, extractor: FeatureExtractor, centers: TopTuner | None
    ) -> TopTuner:
        if centers is not None:
            centers.check_fitted("centers= is")
            extractor.check_provenance(centers.provenance_, "the model of the centers")
        self.model_ = fit_model(
            features,
            task=self.task,
            head=self.head_parameters(),
            centers=None if centers is None else centers.model_,
            parameters=self.get_params(),
        )
        self.extractor_ = extractor
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor" if self.task == "regression" else "classifier"
        tags.classifier_tags = None if self.task == "regression" else ClassifierTags()
        tags.regressor_tags = RegressorTags() if self.task == "regression" else None
        tags.target_tags.required = True
        return tags
