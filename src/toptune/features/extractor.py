"""FeatureExtractor: images in, features of a frozen network out; a scikit-learn transformer.

The network is loaded when it is first needed, and again only if what decides it has changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from toptune.features.backbones import Backbone, View, load_backbone
from toptune.features.cache import cache_dir
from toptune.features.engines import Engine, make_engine
from toptune.features.extract import extract
from toptune.features.store import Features, check_provenance
from toptune.images import Images, unlabelled_images


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transformer from images to features of one frozen network; nothing is fitted.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        Network; see `toptune.features.load_backbone`.
    layers : "auto", "last" or sequence of str, default="auto"
        Pooled maps of the late layers; the pooled output of the network; or layers by name.
    view : {"whole", "center", "mirrored", "crops"}, default="whole"
        Part of an image that the network sees; see `toptune.TopTuner`.
    resolution : int, optional
        Height and width of the network's input, pixels; by default what belongs to its weights.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the network's arithmetic. "auto" is bfloat16 where the processor has it.
    cache : "auto", path or None, default="auto"
        Folder for features, which a second run reads back; see `toptune.features.extract`.
    strict : bool, default=False
        Whether `extract` raises an error for an image that cannot be read, instead of setting it
        aside. `transform` always does, because its rows must match the images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from toptune import FeatureExtractor, KernelClassifier
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.integers(0, 90, size=(8, 32, 32, 3), dtype=np.uint8)
    >>> images, labels = [*dark, *(dark + 140)], ["night"] * 8 + ["day"] * 8
    >>> extractor = FeatureExtractor(layers="last", cache=None)
    >>> model = make_pipeline(extractor, KernelClassifier()).fit(images, labels)
    >>> model.predict([dark[0] + 120]).tolist()
    ['day']
    """

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        layers: str | Sequence[str] = "auto",
        view: View = "whole",
        resolution: int | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        cache: str | os.PathLike[str] | None = "auto",
        strict: bool = False,
    ) -> None:
        self.backbone = backbone
        self.layers = layers
        self.view = view
        self.resolution = resolution
        self.precision = precision
        self.cache = cache
        self.strict = strict

    def fit(self, images: Images | None = None, y: object = None) -> FeatureExtractor:
        """Load the network; images and labels are not looked at.

        Raises
        ------
        BackboneError
            If the network or its weights cannot be had.
        """
        self.load()
        return self

    def transform(self, images: Images) -> NDArray[np.float32]:
        """Compute features of images, or read those that were computed before.

        Parameters
        ----------
        images : path, list of images or ImageSet
            A file, a folder (searched through), or images given directly.

        Returns
        -------
        ndarray of float32, shape (n, d)

        Raises
        ------
        DataError
            If an image cannot be read.
        """
        features = self.extract(unlabelled_images(images), strict=True)
        return np.asarray(features.X, dtype=np.float32)

    def extract(
        self, images: Images, *, strict: bool | None = None, progress: bool | None = None
    ) -> Features:
        """Compute features with the names, labels and groups of the images.

        Parameters
        ----------
        images : path, list of images or ImageSet
            As for `transform`; an ImageSet may have labels and groups.
        strict : bool, optional
            Instead of the parameter of the same name.
        progress : bool, optional
            Whether to show a progress bar; by default if somebody can see it.

        Returns
        -------
        Features
            Images that could not be read are in its `quarantined`.

        Raises
        ------
        DataError
            If there are no images, none can be read, or, with `strict`, one cannot.
        """
        backbone, engine = self.load()
        return extract(
            unlabelled_images(images),
            backbone,
            engine=engine,
            cache=self.cache,
            strict=self.strict if strict is None else strict,
            progress=progress,
        )

    def load(self) -> tuple[Backbone, Engine]:
        """Load the network and its engine, once for the same parameters."""
        layers = self.layers if isinstance(self.layers, str) else tuple(self.layers)
        wanted = (self.backbone, layers, self.view, self.resolution, self.precision, self.cache)
        loaded: tuple[Any, Backbone, Engine] | None = getattr(self, "_loaded", None)
        if loaded is None or loaded[0] != wanted:
            backbone = load_backbone(
                self.backbone, layers=layers, view=self.view, resolution=self.resolution
            )
            folder = cache_dir() if self.cache == "auto" else self.cache
            engine = make_engine(
                backbone, precision=self.precision, cache=None if folder is None else Path(folder)
            )
            loaded = self._loaded = (wanted, backbone, engine)
        return loaded[1], loaded[2]

    def check_provenance(self, provenance: Mapping[str, Any], what: str) -> None:
        """Raise if `what` was made by another network than this one.

        Raises
        ------
        ModelFileError
            Naming the first thing that differs.
        """
        check_provenance(self.load()[0], provenance, what)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:  # (d,)
        """Return names of the features: the layer and the number of its column."""
        layers = self.load()[0].layers.items()
        names = [f"{layer}_{k}" for layer, width in layers for k in range(width)]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_loaded"}
