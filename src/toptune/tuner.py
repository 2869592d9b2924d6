"""TopTuner: images and labels in, a trained classifier out.

    images -> features of a frozen network -> normalisation -> kernel head -> labels, probabilities

It holds no arithmetic: `features` extracts, `kernel` learns, `metrics` counts, `model_file` stores.
Top-tuning: Alfano, Pastore, Rosasco and Odone, arXiv 2209.07932.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.decisions.costs import Costs
from toptune.decisions.thresholds import Objective
from toptune.errors import BackboneError, DataError, ModelFileError
from toptune.evaluation.classification import Evaluation
from toptune.evaluation.near_duplicates import NEAR_DUPLICATES, with_near_duplicates
from toptune.features import (
    Features,
)
from toptune.features.backbones import View
from toptune.features.taps import LAST
from toptune.images import Images, ImageSource, unlabelled_images, with_folder
from toptune.kernel import FeatureNormalizer, Rows
from toptune.kernel.estimators import Kernel
from toptune.model.cautious import CautiousClassifier
from toptune.model.explanation import Explanation, explain_image
from toptune.model.extracting import ExtractingClassifier, Network
from toptune.model.file import Model, read_model, write_model
from toptune.model.image_classifier import check_finite, given_images
from toptune.model.updates import UpdatableClassifier
from toptune.runtime.versions import library_versions
from toptune.tasks import Targets, Task, TaskChoice, chosen_task
from toptune.tasks.choosing import chosen_thresholds


class TopTuner(ExtractingClassifier, UpdatableClassifier, CautiousClassifier):
    """Image classifier: frozen network, features extracted once, fast kernel head.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        Network: an embedded one, a timm name, ``ARCH=FILE`` or ``local-dir:FOLDER``; see
        `toptune.features.load_backbone`. "auto" compares those that are on this machine.
    layers : "auto", "last" or sequence of str, default="auto"
        What the features are: pooled maps of the late layers, their weights chosen by
        leave-one-out; the pooled output of the network; or layers by name.
    view : {"whole", "center", "mirrored", "crops"}, default="whole"
        What of an image the network sees: all of it, whatever its aspect ratio; the central part
        that belongs to the network's weights; all of it and its mirror image, at twice the cost;
        five crops, at five times the cost.
    resolution : int, optional
        Height and width of the network's input, pixels; by default what belongs to its weights.
    kernel, bandwidth, penalty, n_centers, class_weight
        Passed to `toptune.kernel.KernelClassifier`; "auto" means chosen by leave-one-out.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the network's arithmetic. "auto" is bfloat16 where the processor has it.
    cache : "auto", path or None, default="auto"
        Folder for extracted features, which a second run reads back. "auto" is TOPTUNE_CACHE or
        the platform's cache folder; None keeps nothing.
    strict : bool, default=False
        Raise an error for an image that cannot be read while fitting or scoring, instead of
        setting it aside.
    random_state : int, default=0
        Seed of everything that is drawn.
    time_budget : float, optional
        With backbone="auto": seconds that the extraction may take, as measured on a few images;
        networks that would take longer are not chosen. None leaves the time out of account.
    task : {"auto", "classification", "multilabel", "regression"}, default="auto"
        What labels are: one class per image, any number of them, or a number. "auto" goes by the
        labels: floats that are not all whole, in memory or in a manifest, are numbers; lists of
        names, and text with semicolons, are several labels; everything else is a class, and names
        of folders always are.

    Attributes
    ----------
    task_ : str
        The task: "classification", "multilabel" or "regression".
    classes_ : ndarray of shape (c,)
        Labels, sorted; none for regression.
    loo_ : Evaluation
        Leave-one-out accuracy, log-loss, confusion matrix and per-class table of the training
        images: each was predicted by the model fitted without it, and without its group if there
        are groups. After a change it is computed when it is first asked for.
        `toptune.tasks.LabelEvaluation` or `NumberEvaluation` for the other tasks.
    ids_ : tuple of str
        Names of the training images.
    groups_ : ndarray of str, shape (n,), or None
        Group of each training image, where whole groups were left out.
    refresh_ : str or None
        After changes: why centers and hyperparameters should be chosen anew.
    head_ : KernelClassifier
        The fitted head; a KernelRegressor for regression.
    quarantined_ : tuple of Quarantined
        Training images set aside, with the reason.
    seconds_ : dict
        Time of the stages decode_extract, select and fit.
    backbone_ : str
        Network used.
    layer_weights_ : dict
        Part that each layer has in the mean squared distance of two training images (of two
        centers, where not all images are centers).
    backbones_ : list of BackboneScore
        With backbone="auto": how every network did on some of the images, the best first.
    provenance_ : dict
        Backbone, weights hash, preprocessing, precision, versions of libraries, and
        ``image_folders``, where the training images were if they were files (not with
        ``centers=``).

    Examples
    --------
    >>> import numpy as np
    >>> from toptune import TopTuner
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.integers(0, 90, size=(8, 32, 32, 3), dtype=np.uint8)
    >>> tuner = TopTuner(cache=None)
    >>> tuner = tuner.fit(images=[*dark, *(dark + 140)], labels=["night"] * 8 + ["day"] * 8)
    >>> tuner.predict([dark[0] + 120]).tolist()
    ['day']
    """

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

    # ------------------------------------------------------------------------------- learning

    def fit(
        self,
        data: Images | None = None,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        paths: Sequence[str | os.PathLike[str]] | None = None,
        images: Sequence[ImageSource] | NDArray[Any] | None = None,
        split: str | None = None,
        groups: Iterable[object] | None = None,
        centers: TopTuner | None = None,
    ) -> TopTuner:
        """Extract the features of labelled images and train the head on them.

        Parameters
        ----------
        data : path, list of images or ImageSet
            A folder with one folder per class, the same under train, val and test (train is used),
            or a .csv or .parquet manifest; or images given directly, with `labels`.
        labels : list of labels, or path
            One label per image of a list, or a list of names per image; or a manifest with the
            labels of the images in `data`.
        paths, images : list
            Other ways to name a list of images.
        split : str, optional
            Split of the data to train on.
        groups : list, or "near-duplicates", optional
            What belongs together, one name per image of a list: images of one object, frames of
            one video. Leave-one-out then leaves out whole groups. A manifest has them in its column
            ``group``. "near-duplicates" finds groups from the features, and joins them with those
            of the manifest.
        centers : TopTuner, optional
            A model whose centers, kernel, bandwidth and weights of layers are used instead of
            chosen, so that models trained on other images with the same one can be merged; see
            `merge`.

        Returns
        -------
        self

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
        image_set = given_images(
            data,
            labels,
            paths=paths,
            images=images,
            split=split,
            groups=None if found else groups,
        )
        network = self._chosen(image_set, centers)
        features = self._extract(image_set, network=network)
        if centers is None:  # models with the centers of another are made to be sent away
            features = replace(features, provenance=with_folder(features.provenance, image_set))
        if found:
            features = with_near_duplicates(features)
        return self._fit_features(features, network, centers)

    def fit_features(self, features: Features, *, centers: TopTuner | None = None) -> TopTuner:
        """Train the head on features that were extracted before, by this backbone.

        Parameters
        ----------
        features : Features
            With labels; where they have `groups`, whole groups are left out.
        centers : TopTuner, optional
            As for `fit`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the features have no labels, or are not finite.
        ModelFileError
            If they come from another network than this tuner's.
        """
        if self.backbone == "auto":
            raise DataError('backbone="auto" needs images to compare networks on: name the network')
        network = self._asked(self.backbone)
        self._check_provenance(features.provenance, "these features", network=network)
        check_finite(features)
        return self._fit_features(features, network, centers)

    def _fit_features(
        self,
        features: Features,
        network: Network,
        centers: TopTuner | None,
    ) -> TopTuner:
        task = chosen_task(self.task, features.label_kind)
        targets = task.read(features)
        groups = features.groups
        if groups is not None and len(set(groups.tolist())) < 2:
            raise DataError(
                "all images belong to one group: leave-one-out of whole groups would leave none"
            )
        start = time.perf_counter()
        if centers is None:
            self._fit_head(features, task, targets)
        else:
            self._fit_head_like(centers, features, task, targets, network)
        total = time.perf_counter() - start
        selecting = self.head_.selection_seconds_
        self.seconds_ = {
            "decode_extract": features.seconds,
            "select": selecting,
            "fit": total - selecting,
        }
        self._set_task(task.of_head(self.head_, targets.classes, targets.codes, groups))
        self._set_samples(features.ids, targets.codes, groups)
        self.quarantined_ = features.quarantined
        self.provenance_ = {**features.provenance, "versions": library_versions()}
        self._fitted_network, self.backbone_ = network, network.name
        self._keep = "sums"
        return self

    def _fit_head(self, features: Features, task: type[Task[Any]], targets: Targets) -> None:
        widths = list(features.layers.values())
        head = task.new_head(
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            penalty=self.penalty,
            n_centers=self.n_centers,
            class_weight=self.class_weight,
            feature_groups=widths,
            random_state=self.random_state,
        )
        normalizer = FeatureNormalizer(groups=widths).fit(features.X[:1])
        rows = Rows(features.X, transform=normalizer.transform)
        head.fit(rows, targets.y, groups=features.groups)
        self.head_, self.normalizer_ = head, normalizer
        self.center_features_ = features.X[head.center_indices_]

    def _fit_head_like(
        self,
        model: TopTuner,
        features: Features,
        task: type[Task[Any]],
        targets: Targets,
        network: Network,
    ) -> None:
        """Train a head with the centers of another model."""
        model._check_for_classes("centers= is")
        if task.name != "classification":
            raise DataError(f"centers= is for classification, and these labels are for {task.name}")
        self._check_provenance(model.provenance_, "the model of the centers", network=network)
        self.normalizer_ = model.normalizer_
        self.head_ = model.head_.fit_with_centers(
            self._rows(features),
            targets.y,
            groups=features.groups,
            class_weight=self.class_weight,
            penalty=None if isinstance(self.penalty, str) else self.penalty,
        )
        self.center_features_ = model.center_features_

    @property
    def layer_weights_(self) -> dict[str, float]:
        """Part that each layer has in the mean squared distance of two of the centers."""
        layers = dict(self.provenance_["layers"])
        ends = np.cumsum(list(layers.values()))
        parts = np.split(self.head_.feature_shares(), ends[:-1])
        return {name: float(part.sum()) for name, part in zip(layers, parts, strict=True)}

    # ------------------------------------------------------------------------------ answering

    def evaluate_features(
        self,
        features: Features,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Evaluation | Any:
        """Compare predictions with the labels of features extracted before; see `evaluate`."""
        self._check_fitted()
        self._check_provenance(features.provenance, "these features")
        check_finite(features)
        return self._compare(features, costs=costs, thresholds=thresholds)

    def choose_thresholds(
        self,
        objective: Objective | None = None,
        *,
        recall: Mapping[Any, float] | None = None,
        precision: Mapping[Any, float] | None = None,
    ) -> dict[Any, float]:
        """Choose thresholds for `predict` and `evaluate` from the leave-one-out probabilities.

        Parameters
        ----------
        objective : {"macro-f1", "balanced-accuracy"}, optional
            What the thresholds of all classes together make greatest.
        recall, precision : mapping, optional
            Class to the part of it that is to be found, or to the part of what is found that is to
            be right.

        Returns
        -------
        dict
            Class to threshold. What was wanted holds on the training images, each left out.

        Raises
        ------
        DataError
            If labels are numbers, nothing or too much is asked for, or it cannot be had: where an
            image has one class, wishes for several classes may exclude each other.
        """
        self._check_fitted()
        self._task.require(("classification", "multilabel"), "thresholds are")
        P = self._task.left_out(self.head_)
        return chosen_thresholds(
            self._task, self.codes_, P, objective=objective, recall=recall, precision=precision
        )

    def explain(
        self, image: Images, *, label: Any = None, n_images: int = 6, cells: int = 8
    ) -> Explanation:
        """Say which training images, and which parts of an image, its score comes from.

        Parameters
        ----------
        image : path, or list of one image
            The image.
        label : optional
            Class whose score is explained; by default the most probable one.
        n_images : int, default=6
            Training images to name for the class, and against it.
        cells : int, default=8
            Cells along each side of the grid that is covered cell by cell, at most 32.

        Returns
        -------
        Explanation

        Raises
        ------
        DataError
            If there is not exactly one image, it cannot be read, the model does not know the
            label, or `n_images` or `cells` is out of its range.
        """
        self._check_for_classes("explain is")
        backbone, engine = self._network()
        return explain_image(
            unlabelled_images(image),
            backbone=backbone,
            engine=engine,
            normalize=self.normalizer_.transform,
            head=self.head_,
            ids=self.ids_,
            codes=self.codes_,
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
        """Write the model to one file, replacing it if it exists.

        Parameters
        ----------
        path : path
            Usually named ``*.toptune``.
        keep : {"auto", "nothing", "sums", "rows"}, default="auto"
            What the file holds for changes of the model, where not all images are centers: sums,
            for `partial_fit` and `merge`; or also m numbers of each image, for `forget` and
            leave-one-out afterwards. "auto" is "rows" for a model from a file that has them,
            else "sums".

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        self._check_fitted()
        write_model(
            path,
            Model(
                parameters=self.get_params() | {"cache": "auto"},
                head=self.head_,
                normalizer=self.normalizer_,
                center_features=self.center_features_,
                codes=self.codes_,
                ids=self.ids_,
                provenance=self.provenance_,
                quarantined=self.quarantined_,
                seconds=self.seconds_,
                task=type(self._task),
                classes=self.classes_,
                groups=self.groups_,
            ),
            keep=self._keep if keep == "auto" else keep,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backbone: str | None = None) -> TopTuner:
        """Read a model that `save` wrote, and the network it needs.

        Parameters
        ----------
        path : path
            A ``.toptune`` file.
        backbone : str, optional
            Where the network is on this machine, if it has another name here; the weights must be
            the same.

        Returns
        -------
        TopTuner
            Fitted.

        Raises
        ------
        ModelFileError
            If the file is damaged or of another format version, or the network on this machine has
            other weights than the one the model was trained with.
        BackboneError
            If the network is not on this machine.
        """
        model = read_model(path)
        try:
            tuner = cls(**model.parameters)
        except TypeError as error:
            raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error
        tuner.head_, tuner.normalizer_ = model.head, model.normalizer
        tuner.center_features_, tuner.quarantined_ = model.center_features, model.quarantined
        tuner.provenance_, tuner.seconds_ = model.provenance, model.seconds
        task = model.task.of_head(model.head, model.classes, model.codes, model.groups)
        tuner._set_task(task)
        tuner._set_samples(model.ids, model.codes, model.groups)
        tuner._keep = model.kept
        if backbone is not None:
            tuner.backbone = backbone
        compared = tuner.backbone == "auto"
        tuner.backbone_ = tuner.provenance_["backbone"] if compared else tuner.backbone
        # By name: what "auto" stands for may be another thing for another name of the network.
        layers = tuple(name for name, _ in tuner.provenance_["layers"])
        tuner._fitted_network = replace(tuner._asked(tuner.backbone_), layers=layers)
        what = f"the model {os.fspath(path)}"
        try:
            tuner._check_provenance(tuner.provenance_, what)
        except BackboneError:  # a network without these layers is another one: that is said first
            last = replace(tuner._fitted_network, layers=LAST)
            tuner._check_provenance(tuner.provenance_, what, network=last)
            raise
        return tuner

    # -------------------------------------------------------------------------------- details

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.task == "regression":  # so that splitters do not look for classes
            tags.estimator_type = "regressor"
        return tags

    def _rows(self, features: Features) -> Rows:
        """Features as the head takes them, normalised a block at a time."""
        return Rows(features.X, transform=self.normalizer_.transform)

    def _proba(self, features: Features) -> NDArray[np.float64]:
        return self._task.outputs(self.head_, self._rows(features))
