"""FineTuner: images and labels in, a network trained on them out; what TopTuner is compared with.

    images -> pixels, once -> random crops, epoch by epoch -> all weights -> labels, probabilities

It holds no arithmetic: `training` trains, `features` runs the trained network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from toptune.decisions.costs import Costs
from toptune.decisions.rule import DecisionRule
from toptune.errors import DataError, ModelFileError
from toptune.evaluation.classification import Evaluation
from toptune.features import Backbone, Engine, Features, extract, load_backbone, make_engine
from toptune.finetuning.training.fitting import Fitting
from toptune.finetuning.training.pixels import decode_images, training_geometry
from toptune.finetuning.training.recipe import MODES, Machine, Mode, Recipe
from toptune.finetuning.training.trained_file import (
    TrainedModel,
    preprocessing_from,
    read_trained,
    write_trained,
)
from toptune.images import Images, images_to_compare, labelled_images, unlabelled_images
from toptune.model.fitted_model import NOT_FITTED
from toptune.runtime.deprecation import with_old_parameters
from toptune.runtime.versions import library_versions
from toptune.tasks import Classification, Predictions, training_labels

# What a model file keeps of a fit beside the network.
_FACTS = ("learning_rate_", "selection_", "history_", "seconds_")


class FineTuner(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Image classifier: a pretrained network whose weights are trained on the images.

    The baseline for `TopTuner`, with the same methods: AdamW, one cycle of the learning rate with
    a linear rise and a cosine fall, rates that fall from layer to layer towards the input, weight
    decay 0.05 (none on biases and normalisations), label smoothing 0.1, gradients clipped to norm
    1, random crops of 35 to 100 % of the area and mirror images. The classifier is new and starts
    from zero. On processors that have bfloat16, and on CUDA, it computes in that.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        Network and its pretrained weights; see `toptune.features.load_backbone`.
    mode : {"full", "last-block", "head-only", "lp-ft"}, default="full"
        What is trained: everything; the last block and what follows it; the classifier alone; or
        first the classifier alone, for a quarter of `epochs` with ten times the rate, then
        everything.
    learning_rate : float or "auto", default="auto"
        Of the last layer, at its highest. "auto" tries three on 80 % of the training images,
        takes the one that is right most often on the rest, and trains anew on all of them. The
        rest shares no group with the 80 %, where images have groups (`ImageSet.groups`).
    layer_decay : float, default=0.8
        Factor of the learning rate from one layer to the one below, in (0, 1].
    epochs : int, default=15
        How often every image is seen.
    batch_size : int, default=16
        Images per step, at most.
    flip : bool, default=True
        Whether the mirror image of an image shows the same thing. Not so for letters and digits.
    ema : bool, default=False
        Predict with an exponential moving average of the weights, of decay 0.99 per step.
    patience : int, optional
        Stop after so many epochs in which the log-loss on 20 % of the training images (whole
        groups, if there are any), which are then not trained on, was not the lowest so far; and
        take the weights of the lowest.
    checkpoint : path, optional
        File that the state is written to after every epoch. If `fit` is killed, the same call goes
        on from there and ends with the same model; the file is removed at the end.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the network's arithmetic. "auto" is bfloat16 where the processor has it.
    strict : bool, default=False
        Raise an error for an image that cannot be read while fitting or scoring, instead of
        setting it aside.
    random_state : int, default=0
        Seed of everything that is drawn.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted.
    network_ : torch.nn.Module
        The trained network, in evaluation mode on the CPU.
    learning_rate_ : float
        That it was trained with.
    selection_ : list of dict
        learning_rate, accuracy and log_loss of each rate that was tried.
    history_ : list of dict
        Of each epoch: phase, epoch, loss and seconds; with `patience` also val_loss.
    ids_ : tuple of str
        Names of the training images.
    quarantined_ : tuple of Quarantined
        Training images set aside, with the reason.
    seconds_ : dict
        Time of the stages decode, select and fit.
    provenance_ : dict
        Backbone, hash of its pretrained weights, preprocessing, precision, and versions of
        libraries.

    Notes
    -----
    Probabilities are the softmax of the outputs and are not calibrated.

    Every draw is seeded by `random_state`, the run and the epoch, so that the same images,
    parameters, machine and number of threads give the same model.

    Examples
    --------
    >>> import numpy as np
    >>> from toptune import FineTuner
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.integers(0, 90, size=(8, 32, 32, 3), dtype=np.uint8)
    >>> tuner = FineTuner(mode="head-only", learning_rate=0.02, epochs=2)
    >>> tuner = tuner.fit([*dark, *(dark + 140)], ["night"] * 8 + ["day"] * 8)
    >>> tuner.predict([dark[0] + 120]).tolist()
    ['day']
    """

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        mode: Mode = "full",
        learning_rate: float | Literal["auto"] = "auto",
        layer_decay: float = 0.8,
        epochs: int = 15,
        batch_size: int = 16,
        flip: bool = True,
        ema: bool = False,
        patience: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        strict: bool = False,
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.mode = mode
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.flip = flip
        self.ema = ema
        self.patience = patience
        self.checkpoint = checkpoint
        self.precision = precision
        self.strict = strict
        self.random_state = random_state

    # ------------------------------------------------------------------------------- learning

    @with_old_parameters
    def fit(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
    ) -> FineTuner:
        """Train the network on labelled images; arguments are those of `TopTuner.fit`.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or the learning rate is so high that the loss is no
            longer a number.
        DataError
            If there are no usable images, fewer than two classes, too few images for `patience`,
            or, with `strict`, an image cannot be read.
        BackboneError
            If the network or its weights cannot be had.
        ModelFileError
            If the checkpoint is damaged, or of another fit.
        StorageError
            If the checkpoint cannot be written.

        Warns
        -----
        DataWarning
            If images were set aside, or are too few to choose the learning rate.
        """
        self._check_parameters()
        image_set = labelled_images(data, labels, split=split)
        training_labels(image_set)  # an error in them is raised before the work
        backbone = load_backbone(self.backbone)
        engine = make_engine(backbone, precision=self.precision)
        geometry = training_geometry(backbone.preprocessing.geometry)
        decoded = decode_images(image_set, geometry, strict=self.strict)
        y = training_labels(decoded.images)
        classes, codes = np.unique(y, return_inverse=True)
        fitting = Fitting(
            backbone,
            decoded,
            codes,
            recipe=self.recipe,
            learning_rate=None if self.learning_rate == "auto" else self.learning_rate,
            patience=self.patience,
            machine=Machine(engine.device, engine.precision),
            random_state=self.random_state,
            checkpoint=self.checkpoint,
        )
        fitting.go()
        self.network_ = fitting.network
        self.learning_rate_ = fitting.learning_rate
        self.selection_ = fitting.selection
        self.history_ = fitting.history
        self.seconds_ = {"decode": decoded.seconds, **fitting.seconds}
        self.ids_ = decoded.images.ids
        self.quarantined_ = decoded.images.quarantined
        self.provenance_ = {
            "backbone": backbone.name,
            **backbone.spec(),
            "precision": engine.precision,
            "device": engine.device,
            "versions": library_versions(),
        }
        self.classes_ = classes
        return self

    def _check_parameters(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if isinstance(self.learning_rate, str):
            if self.learning_rate != "auto":
                raise ValueError(f"learning_rate must be auto or > 0, got {self.learning_rate!r}")
        elif not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be auto or > 0, got {self.learning_rate!r}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay!r}")
        least = {"epochs": 1, "batch_size": 2, "random_state": 0, "patience": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is None and name == "patience":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < bound:
                raise ValueError(f"{name} must be a whole number >= {bound}, got {value!r}")

    @property
    def recipe(self) -> Recipe:
        """Training recipe of the parameters."""
        return Recipe(
            mode=self.mode,
            epochs=self.epochs,
            batch_size=self.batch_size,
            layer_decay=self.layer_decay,
            flip=self.flip,
            ema=self.ema,
        )

    # ------------------------------------------------------------------------------ answering

    def extract(self, images: Images, *, strict: bool | None = None) -> Features:
        """Compute the outputs of the trained network, before the softmax, as features."""
        check_is_fitted(self, msg=NOT_FITTED)
        trained, engine = self._engine()
        strict = self.strict if strict is None else strict
        return extract(unlabelled_images(images), trained, engine=engine, cache=None, strict=strict)

    def classify(self, images: Images, *, strict: bool = False) -> Predictions:
        """Predict images of which some may be unreadable; see `TopTuner.classify`."""
        features = self.extract(images, strict=strict)
        return Predictions(features.ids, self.classes_, _softmax(features), features.quarantined)

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Compute probabilities (n, c), columns in the order of `classes_`."""
        return _softmax(self.extract(images, strict=True))

    def predict(
        self,
        images: Images,
        *,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> NDArray[Any]:
        """Decide for each image, (n,): by default its most probable class; see `TopTuner`."""
        rule = self._rule(costs, thresholds)
        return self.classify(images, strict=True).apply(rule)

    def evaluate(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
        costs: Costs | None = None,
        thresholds: Mapping[Any, float] | None = None,
    ) -> Evaluation:
        """Compare predictions with the labels of a data set; see `TopTuner.evaluate`."""
        rule, task = self._rule(costs, thresholds), Classification(self.classes_)
        features = self.extract(images_to_compare(data, labels, split=split))
        if features.labels is None:
            raise DataError("these images have no labels to compare with")
        return task.evaluate(task.codes_of(features.labels), _softmax(features), rule)

    def score(
        self,
        data: Images,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
    ) -> float:
        """Compute the accuracy on a data set; arguments and errors as for `evaluate`."""
        return float(self.evaluate(data, labels, split=split).score)

    def _rule(self, costs: Costs | None, thresholds: Mapping[Any, float] | None) -> DecisionRule:
        check_is_fitted(self, msg=NOT_FITTED)
        rule = DecisionRule(costs=costs, thresholds=thresholds)
        rule.check(self.classes_)
        return rule

    # -------------------------------------------------------------------------------- storing

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, with all weights of the network, to one file, ``*.finetuned``.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        check_is_fitted(self, msg=NOT_FITTED)
        parameters = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
        }
        write_trained(
            path,
            TrainedModel(
                parameters=parameters | {"checkpoint": None},
                network=self.network_,
                classes=self.classes_,
                ids=self.ids_,
                quarantined=self.quarantined_,
                provenance=self.provenance_,
                facts={name: getattr(self, name) for name in _FACTS},
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FineTuner:
        """Read a model that `save` wrote; the file is all it needs.

        Raises
        ------
        ModelFileError
            If the file is damaged, of another kind or of another format version.
        """
        model = read_trained(path)
        try:
            tuner = cls(**model.parameters)
            for name in _FACTS:
                setattr(tuner, name, model.facts[name])
        except (TypeError, KeyError) as error:
            raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error
        tuner.network_ = model.network
        tuner.ids_, tuner.quarantined_ = model.ids, model.quarantined
        tuner.provenance_ = model.provenance
        tuner.classes_ = model.classes
        return tuner

    # -------------------------------------------------------------------------------- details

    def _engine(self) -> tuple[Backbone, Engine]:
        """Prepare the trained network on the first use, and again when it is another."""
        built: tuple[str, Backbone, Engine] | None = getattr(self, "_built", None)
        if built is None or built[0] != self.precision or built[1].module is not self.network_:
            about = self.provenance_
            trained = Backbone(
                name=str(about["backbone"]),
                architecture=str(about["architecture"]),
                module=self.network_,
                layers={"logits": len(self.classes_)},
                preprocessing=preprocessing_from(about["preprocessing"]),
                weights_sha256="",  # nothing of a trained network is kept in a cache
            )
            engine = make_engine(trained, precision=self.precision)
            built = self._built = (self.precision, trained, engine)
        return built[1], built[2]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_built"}


def _softmax(features: Features) -> NDArray[np.float64]:  # (n, c)
    proba: NDArray[np.float64] = softmax(features.X.astype(np.float64), axis=1)
    return proba
