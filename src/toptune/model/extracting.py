"""ExtractingClassifier: the frozen network of a classifier, and features of images by it.

The network is loaded when it is first needed, and again only if what decides it has changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toptune.errors import DataError
from toptune.features import (
    Backbone,
    Engine,
    Features,
    cache_dir,
    extract,
    load_backbone,
    make_engine,
)
from toptune.features.backbones import View
from toptune.features.store import check_provenance
from toptune.images import ImageSet
from toptune.model.backbone_selection import BackboneScore, choose_backbone, compare_backbones
from toptune.model.image_classifier import ImageClassifier
from toptune.tasks import TaskChoice, chosen_task


@dataclass(frozen=True)
class Network:
    """What decides the features of an image."""

    name: str
    layers: str | tuple[str, ...]
    view: View
    resolution: int | None
    precision: Literal["auto", "float32", "bfloat16"]


class ExtractingClassifier(ImageClassifier):
    """Base of classifiers whose features come from one frozen network."""

    backbone: str
    layers: str | Sequence[str]
    view: View
    resolution: int | None
    precision: Literal["auto", "float32", "bfloat16"]
    cache: str | os.PathLike[str] | None
    strict: bool
    random_state: int
    time_budget: float | None
    task: TaskChoice
    backbone_: str
    backbones_: list[BackboneScore]

    def _extract(
        self, images: ImageSet, *, strict: bool | None = None, network: Network | None = None
    ) -> Features:
        """Features of images by this tuner's network, through its cache."""
        backbone, engine = self._network(network)
        return extract(
            images,
            backbone,
            engine=engine,
            cache=self.cache,
            strict=self.strict if strict is None else strict,
        )

    def _asked(self, name: str) -> Network:
        """Return what the parameters ask for, with a network of this name."""
        layers = self.layers if isinstance(self.layers, str) else tuple(self.layers)
        return Network(name, layers, self.view, self.resolution, self.precision)

    def _chosen(self, images: ImageSet, centers: ExtractingClassifier | None) -> Network:
        """Return what the parameters ask for, after a comparison where the network is "auto"."""
        if self.backbone != "auto":
            return self._asked(self.backbone)
        if centers is not None:
            return self._asked(centers.backbone_)
        task = chosen_task(self.task, images.label_kind).name
        if task != "classification":
            raise DataError(f'backbone="auto" is for classification, not {task}: name the network')
        self.backbones_ = compare_backbones(
            replace(images, label_kind="class"),
            lambda name: self._load(self._asked(name)),
            random_state=self.random_state,
        )
        return self._asked(choose_backbone(self.backbones_, self.time_budget))

    def _network(self, network: Network | None = None) -> tuple[Backbone, Engine]:
        """Load a network on its first use; that of the fit if none is given."""
        wanted = network or getattr(self, "_fitted_network", None) or self._asked(self.backbone)
        loaded: tuple[Any, Backbone, Engine] | None = getattr(self, "_loaded", None)
        if loaded is None or loaded[0] != (wanted, self.cache):
            loaded = self._loaded = ((wanted, self.cache), *self._load(wanted))
        return loaded[1], loaded[2]

    def _load(self, network: Network) -> tuple[Backbone, Engine]:
        backbone = load_backbone(
            network.name, layers=network.layers, view=network.view, resolution=network.resolution
        )
        folder = cache_dir() if self.cache == "auto" else self.cache
        engine = make_engine(
            backbone, precision=network.precision, cache=None if folder is None else Path(folder)
        )
        return backbone, engine

    def _check_provenance(
        self, provenance: dict[str, Any], what: str, *, network: Network | None = None
    ) -> None:
        """Refuse what was made by another network than the one this tuner has here."""
        backbone, _ = self._network(network)
        check_provenance(backbone, provenance, what)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_loaded"}
