"""Features from many layers of one forward pass: which layers, and how their maps are pooled.

A tap is a layer and a pooling of its activation map, written ``LAYER`` or ``LAYER:POOLING``:

    last            what the network itself pools and hands to its classifier
    last:2x2        the final map before that, one mean for each cell of a 2 x 2 grid
    blocks.4        the same as blocks.4:mean
    blocks.4:std    standard deviation of each channel over the map
    blocks.4:cov    covariances of the channels over the map

Grids of cells are products of the map with a constant matrix, covariances one of the map with
itself, and everything is part of the network's own graph, so an exported network computes all taps
for the price of a few reductions. Grids are spatial pyramids (Lazebnik, Schmid and Ponce 2006,
Beyond Bags of Features); covariances are second-order pooling (Carreira et al. 2012, Semantic
Segmentation with Second-Order Pooling; Lin, RoyChowdhury and Maji 2015, Bilinear CNN Models). What
covariances of many channels would take is bounded by projecting the channels at random first.

Letters: b images, h x w positions of a map, k channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toptune.errors import BackboneError, DataWarning

#: The pooled output of the network, and with a pooling its final map.
LAST = "last"
#: Ways to pool a map; a grid gives one mean per cell.
POOLINGS = ("mean", "std", "max", "2x2", "3x3", "cov")
#: Channels up to which covariances are taken of the channels themselves, and how many random
#: combinations of them there are above: 6,328 and 2,080 covariances.
COVARIANCE_CHANNELS, PROJECTED_CHANNELS = 112, 64
#: `layers="auto"` takes these of so many of the last stages, beside `LAST`.
AUTO_STAGES = {"3x3": 3, "cov": 2}


@dataclass(frozen=True)
class Tap:
    """A layer and how its map is pooled; pooling "" is the network's own, of `LAST` only."""

    layer: str
    pooling: str

    def __str__(self) -> str:
        return f"{self.layer}:{self.pooling}" if self.pooling else self.layer


def parse_layers(
    layers: str | Sequence[str], network: nn.Module, *, auto: Sequence[str] = ()
) -> tuple[Tap, ...]:
    """Turn "last", "auto" or names of taps into taps.

    Parameters
    ----------
    layers
        "last", "auto", or a sequence of ``LAYER`` and ``LAYER:POOLING``.
    network
        A timm network; "auto" wants its ``feature_info``.
    auto
        Names that "auto" stands for; if there are none, poolings of the last stages.

    Raises
    ------
    BackboneError
        If a layer or a pooling does not exist, or a tap is named twice.
    """
    if layers == "auto":
        if not auto:
            return _automatic(network)
        layers = auto
    names = [layers] if isinstance(layers, str) else list(layers)
    taps = tuple(_parse(name, network) for name in names)
    if not taps:
        raise BackboneError('layers must be "last", "auto" or at least one name')
    twice = next((tap for k, tap in enumerate(taps) if tap in taps[:k]), None)
    if twice is not None:
        raise BackboneError(f"the layer {str(twice)!r} is named twice")
    return taps


def stage_names(network: nn.Module) -> list[str]:
    """Names of the modules that timm describes as stages, from early to late."""
    info: Any = getattr(network, "feature_info", None) or []
    return [str(stage["module"]) for stage in info if stage.get("module")]


def _automatic(network: nn.Module) -> tuple[Tap, ...]:
    stages = [name for name in stage_names(network) if _has(network, name)]
    if not stages:
        warnings.warn(
            f"timm describes no stages of {type(network).__name__}: its features are those of the "
            "last layer alone; name others with layers=",
            DataWarning,
            stacklevel=5,
        )
    return (
        Tap(LAST, ""),
        *(Tap(stage, how) for how, count in AUTO_STAGES.items() for stage in stages[-count:]),
    )


def _has(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return bool(name)


def _parse(name: str, network: nn.Module) -> Tap:
    layer, _, pooling = str(name).partition(":")
    if layer != LAST and not _has(network, layer):
        known = ", ".join([LAST, *stage_names(network)])
        raise BackboneError(
            f"the network has no layer {layer!r}; its stages are {known}, and any other module of "
            "it can be named as well"
        )
    if not pooling:
        return Tap(layer, "" if layer == LAST else "mean")
    if pooling not in POOLINGS:
        raise BackboneError(f"pooling of {name!r} must be one of {', '.join(POOLINGS)}")
    return Tap(layer, pooling)


class TappedNetwork(nn.Module):
    """A network that returns the features of all its taps, side by side.

    Parameters
    ----------
    network
        A timm network without classifier.
    taps
        What to return, in this order.
    size
        Height and width of the network's input, pixels.
    view
        "mirrored": the mean over an image and its mirror image. "crops": the mean over five crops
        of `size`, one in each corner and one in the middle, of larger images. Anything else: the
        image as it is.

    Attributes
    ----------
    layers
        Tap to number of features, in order.

    Raises
    ------
    BackboneError
        If the output of a tapped layer is no map of activations.
    """

    def __init__(
        self,
        network: nn.Module,
        taps: Sequence[Tap],
        size: tuple[int, int],
        *,
        view: str = "whole",
    ) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self.size = size
        self.view = view
        with torch.no_grad():
            example = torch.zeros(1, 3, *size, device=next(network.parameters()).device)
            parts = self._parts(example)
        self.layers = {str(tap): int(p.shape[1]) for tap, p in zip(taps, parts, strict=True)}

    def forward(
        self,
        x: Tensor,  # (b, 3, height, width)
    ) -> Tensor:  # (b, d)
        """Features of normalised images."""
        views = [torch.cat(self._parts(image), dim=1) for image in self._views(x)]
        return views[0] if len(views) == 1 else torch.stack(views).mean(0)

    def _views(self, x: Tensor) -> list[Tensor]:
        if self.view == "mirrored":
            return [x, x.flip(3)]
        if self.view != "crops":
            return [x]
        (h, w), (height, width) = self.size, x.shape[2:]
        down, right = height - h, width - w
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        return [x[:, :, i : i + h, j : j + w] for i, j in corners]

    def _parts(self, x: Tensor) -> list[Tensor]:  # each (b, width of the tap)
        parts: dict[Tap, Tensor] = {}

        def pool(name: str, output: Any) -> None:
            flat = self._flat(name, output)
            for tap in self.taps:
                if tap.layer == name and tap.pooling:
                    parts[tap] = self._pooled(*flat, tap.pooling)

        def pooling(name: str) -> Any:
            # Pooled at once: the layers that follow may write over the map.
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                pool(name, output[0] if isinstance(output, tuple | list) else output)

            return hook

        network: Any = self.network
        layers = dict.fromkeys(tap.layer for tap in self.taps if tap.layer != LAST)
        # Hooks only while this call runs: the network is left as it was.
        hooks = [network.get_submodule(n).register_forward_hook(pooling(n)) for n in layers]
        try:
            final = network.forward_features(x)
            if any(tap.layer == LAST and tap.pooling for tap in self.taps):
                pool(LAST, final)
            parts[Tap(LAST, "")] = network.forward_head(final, pre_logits=True)
        finally:
            for hook in hooks:
                hook.remove()
        for tap in self.taps:
            if tap not in parts:
                raise BackboneError(f"the layer {tap.layer!r} takes no part in the features")
        return [parts[tap] for tap in self.taps]

    def _pooled(
        self,
        x: Tensor,  # (b, k, h w)
        shape: tuple[int, int],
        pooling: str,
    ) -> Tensor:  # (b, k) or, for a grid, (b, k cells)
        if pooling == "max":
            return x.amax(2)
        mean = x.mean(2)
        if pooling == "mean":
            return mean
        # Centred first: the difference of two large means would not survive half precision.
        if pooling == "std":
            return (x - mean[:, :, None]).square().mean(2).sqrt()
        if pooling == "cov":
            return self._covariances(x - mean[:, :, None])
        grid = self._constant(
            f"grid_{shape[0]}x{shape[1]}_{pooling[0]}", partial(_grid, shape, int(pooling[0]))
        )
        return torch.matmul(x, grid.to(x)).flatten(1)

    def _covariances(
        self,
        x: Tensor,  # (b, k, h w), centred
    ) -> Tensor:  # (b, k (k + 1) / 2)
        channels = x.shape[1]
        if channels > COVARIANCE_CHANNELS:
            draw = partial(_projection, channels)
            x = torch.matmul(self._constant(f"projection_{channels}", draw).to(x), x)
            channels = PROJECTED_CHANNELS
        upper = self._constant(f"triangle_{channels}", partial(_triangle, channels))
        products = torch.matmul(x, x.transpose(1, 2)) / x.shape[2]
        return products.flatten(1)[:, upper]

    def _constant(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return a constant of the graph, made on the first use."""
        if not hasattr(self, name):
            self.register_buffer(name, make(), persistent=False)
        return self.get_buffer(name)

    def _flat(self, name: str, output: Any) -> tuple[Tensor, tuple[int, int]]:
        """Turn the output of a layer into (b, k, h w) and (h, w), whatever its layout."""
        network: Any = self.network
        if not isinstance(output, Tensor):
            raise BackboneError(f"the layer {name!r} gives no array")
        if output.ndim == 4:
            if getattr(network, "output_fmt", "NCHW") == "NHWC":
                output = output.permute(0, 3, 1, 2)
            h, w = output.shape[2:]
            return output.flatten(2), (int(h), int(w))
        if output.ndim == 3:  # tokens (b, positions, k), perhaps after some that have no place
            tokens = output[:, int(getattr(network, "num_prefix_tokens", 0) or 0) :]
            side = math.isqrt(int(tokens.shape[1]))
            if side * side == tokens.shape[1]:
                return tokens.transpose(1, 2), (side, side)
        raise BackboneError(
            f"the layer {name!r} gives an array of shape {tuple(output.shape)}, which is no map"
        )


def _projection(channels: int) -> Tensor:  # (PROJECTED_CHANNELS, channels)
    draw = np.random.RandomState(0).randn(PROJECTED_CHANNELS, channels)
    return torch.from_numpy(draw / math.sqrt(channels)).float()


def _triangle(channels: int) -> Tensor:  # (channels (channels + 1) / 2,)
    i, j = torch.triu_indices(channels, channels)
    places: Tensor = i * channels + j
    return places


def _grid(shape: tuple[int, int], cells: int) -> Tensor:  # (h w, cells^2)
    """Return the weights of the means over the cells of a grid."""
    return torch.kron(_cells(shape[0], cells), _cells(shape[1], cells)).T.contiguous()


def _cells(length: int, cells: int) -> Tensor:  # (cells, length)
    """Weights of the means over cells; cells overlap where the length is no multiple of them."""
    weights = torch.zeros(cells, length)
    for j in range(cells):
        start, end = j * length // cells, -(-(j + 1) * length // cells)
        weights[j, start:end] = 1.0 / (end - start)
    return weights
