"""FineTuner: images and labels in, a network trained on them out; what TopTuner is compared with.

    images -> pixels, once -> random crops, epoch by epoch -> all weights -> labels, probabilities

It holds no arithmetic: `training` trains, `features` runs the trained network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from toptune.classifier import ImageClassifier, given_images, training_labels
from toptune.features import Backbone, Features, extract, load_backbone, make_engine
from toptune.images import Images, ImageSet, ImageSource
from toptune.training.fitting import Fitting
from toptune.training.recipe import Machine, Mode, Recipe
from toptune.training.pixels import decode_images, training_geometry
from toptune.versions import library_versions


class FineTuner(ImageClassifier):
    """Image classifier: a pretrained network, all of its weights trained."""

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

    def fit(
        self,
        data: Images | None = None,
        labels: ArrayLike | str | os.PathLike[str] | None = None,
        *,
        paths: Sequence[str | os.PathLike[str]] | None = None,
        images: Sequence[ImageSource] | NDArray[Any] | None = None,
        split: str | None = None,
    ) -> FineTuner:
        """Train."""
        image_set, names = given_images(data, labels, paths=paths, images=images, split=split)
        recipe = self._recipe()
        training_labels(image_set, names)  # what is wrong with them is said before the work
        backbone = load_backbone(self.backbone)
        engine = make_engine(backbone, precision=self.precision)
        geometry = training_geometry(backbone.preprocessing.geometry)
        decoded = decode_images(image_set, geometry, strict=self.strict)
        y = training_labels(decoded.images, names)
        classes, codes = np.unique(y, return_inverse=True)
        fitting = Fitting(
            backbone,
            decoded,
            codes,
            recipe=recipe,
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
        self.quarantined_ = decoded.quarantined
        self.provenance_ = {
            "backbone": backbone.name,
            **backbone.spec(),
            "precision": engine.precision,
            "device": engine.device,
            "versions": library_versions(),
        }
        self.classes_ = classes
        self._set_trained(backbone)
        return self

    def _recipe(self) -> Recipe:
        return Recipe(
            mode=self.mode,
            epochs=self.epochs,
            batch_size=self.batch_size,
            layer_decay=self.layer_decay,
            flip=self.flip,
            ema=self.ema,
        )

    def _set_trained(self, backbone: Backbone) -> None:
        self._trained = replace(
            backbone, module=self.network_, groups={"logits": len(self.classes_)}
        )
        self._engine = make_engine(self._trained, precision=self.precision)

    def _extract(self, images: ImageSet, *, strict: bool | None = None) -> Features:
        """Logits of images by the trained network."""
        return extract(
            images,
            self._trained,
            engine=self._engine,
            cache=None,
            strict=self.strict if strict is None else strict,
        )

    def _proba(self, features: Features) -> NDArray[np.float64]:
        proba: NDArray[np.float64] = softmax(features.X.astype(np.float64), axis=1)
        return proba
