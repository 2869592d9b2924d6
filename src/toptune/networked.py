"""NetworkedClassifier: images to features, by a frozen network that is loaded once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from toptune.classifier import ImageClassifier
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
from toptune.features.provenance import check_provenance
from toptune.images import ImageSet


@dataclass(frozen=True)
class Network:
    """What decides the features of an image."""

    name: str
    layers: str | tuple[str, ...]
    view: View
    resolution: int | None
    precision: Literal["auto", "float32", "bfloat16"]


class NetworkedClassifier(ImageClassifier):
    """Base of `TopTuner`: its parameters that say what the network computes, and their use."""

    backbone: str
    layers: str | Sequence[str]
    view: View
    resolution: int | None
    precision: Literal["auto", "float32", "bfloat16"]
    cache: str | os.PathLike[str] | None
    strict: bool

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
