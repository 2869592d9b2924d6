"""Which network: an embedded one, any timm name, or a local checkpoint; with its preprocessing.

The preprocessing travels with the weights: it is timm's `pretrained_cfg`, never an option. The
network is used without its classifier; `taps` says which of its layers the features come from.
"""

from __future__ import annotations

import hashlib
import json
import math
import socket
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlparse

import huggingface_hub
import numpy as np
import timm
import torch
from safetensors import SafetensorError
from timm.data.config import resolve_data_config
from timm.models import load_state_dict
from torch import Tensor, nn

from toptune.errors import BackboneError
from toptune.features.embedded import AUTO_LAYERS, EMBEDDED, load_embedded
from toptune.features.taps import LAST, Tap, TappedNetwork, parse_layers
from toptune.images import Geometry
from toptune.runtime.deprecation import with_old_methods

DEFAULT = "efficientnet_lite0"

View = Literal["center", "whole", "mirrored", "crops"]
VIEWS: tuple[str, ...] = get_args(View)
#: Part of the height and width of an image that each of five crops shows.
CROP = 7 / 8

# Networks worth a try that are not installed with this package; any other timm name works as well.
_SUGGESTED = (
    "resnet18.a1_in1k",
    "resnet50.a1_in1k",
    "convnext_tiny.in12k_ft_in1k",
    "efficientnet_b0.ra_in1k",
)

# What timm and the readers of weights files raise where there is nothing usable.
_FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects: geometry, then (pixel / 255 - mean) / std per colour.

    Attributes
    ----------
    geometry : Geometry
        How an image is cut and resized.
    mean, std : tuple of float
        Red, green and blue, on the scale 0 to 1.
    view : str
        What of an image the network sees, as for `load_backbone`. For "crops" the geometry is that
        of the larger image which the crops are cut from.
    """

    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    view: str = "center"

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can hold them."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
@with_old_methods
class Backbone:
    """A frozen network.

    Attributes
    ----------
    name : str
        As it was asked for.
    architecture : str
        timm's name of the architecture, with whatever else shapes the computation.
    module : nn.Module
        Normalised images (b, 3, h, w) -> features (b, d); in evaluation mode, without gradients.
    layers : dict of str to int
        Layers tapped and the number of features of each, in the order of the columns.
    preprocessing : Preprocessing
        What belongs to the weights.
    weights_sha256 : str
        Over names, types, shapes and values of all tensors, in hexadecimal.
    """

    name: str
    architecture: str
    module: nn.Module
    layers: dict[str, int]
    preprocessing: Preprocessing
    weights_sha256: str

    @property
    def n_features(self) -> int:
        """Number of features d per image."""
        return sum(self.layers.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that features are kept in: float32, but float16 where there are several layers.

        Their many columns would take twice the space for digits that change no prediction.
        """
        return np.dtype(np.float32 if len(self.layers) == 1 else np.float16)

    def spec(self) -> dict[str, Any]:
        """Return what decides the features of an image, apart from the arithmetic's precision."""
        return {
            "architecture": self.architecture,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.to_dict(),
            "layers": [list(item) for item in self.layers.items()],  # the order counts
        }


@dataclass(frozen=True)
class BackboneInfo:
    """One line of `toptune backbones`.

    Attributes
    ----------
    name : str
        To be given as ``backbone``.
    available : bool
        Whether it can be used on this machine without any download.
    n_features : int
        Features per image.
    input_size : tuple of int
        Height and width, pixels.
    where : str
        Where its weights are, or come from.
    note : str
        Anything else.
    """

    name: str
    available: bool
    n_features: int
    input_size: tuple[int, int]
    where: str
    note: str = ""


def load_backbone(
    name: str = DEFAULT,
    *,
    layers: str | Sequence[str] = LAST,
    view: View = "center",
    resolution: int | None = None,
) -> Backbone:
    """Find a network and its weights.

    Parameters
    ----------
    name : str, default="efficientnet_lite0"
        One of: an embedded network (efficientnet_lite0, _lite1, _lite2); a timm name such as
        ``resnet50.a1_in1k``, whose weights are taken from the Hugging Face cache or, unless
        HF_HUB_OFFLINE is set, fetched; ``local-dir:FOLDER``, a folder with timm's config.json and
        weights; ``ARCH=FILE``, a timm name and a local .safetensors or .pth file for it.
    layers : "last", "auto" or sequence of str, default="last"
        What the features are: the pooled output of the network; that and pooled maps of its last
        stages; or layers by name, each ``LAYER`` or ``LAYER:POOLING`` with the poolings mean, std,
        max, 2x2, 3x3 and cov. Layers are "last" and any module of the network that gives a map,
        such as ``blocks.4``.
    view : {"center", "whole", "mirrored", "crops"}, default="center"
        What of an image the network sees: what belongs to its weights, usually the central part;
        all of it, whatever its aspect ratio; all of it and its mirror image, the features being
        the mean of both, at twice the cost; five crops of 7/8 of its height and width, at five
        times the cost.
    resolution : int, optional
        Height and width of the network's input, pixels; by default what belongs to its weights.

    Returns
    -------
    Backbone

    Raises
    ------
    BackboneError
        If the name is unknown, the weights are not there, damaged or of another architecture,
        there is no such layer, or the network cannot run at the resolution.
    ValueError
        For another view or a resolution below 32.

    Examples
    --------
    >>> backbone = load_backbone()
    >>> backbone.architecture, backbone.n_features, backbone.preprocessing.geometry.size
    ('tf_efficientnet_lite0', 1280, (224, 224))
    >>> load_backbone(layers=["last", "blocks.6:2x2"]).layers
    {'last': 1280, 'blocks.6:2x2': 1280}
    """
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    if resolution is not None and resolution < 32:
        raise ValueError(f"resolution must be at least 32 pixels, got {resolution!r}")
    return _frozen(name, *_found(name), layers, view, resolution)


def _found(name: str) -> tuple[str, nn.Module]:
    """Architecture and network, with its weights, of a name as `load_backbone` takes it."""
    if name in EMBEDDED:
        return EMBEDDED[name].architecture, load_embedded(name)
    if name.startswith("local-dir:"):
        return _from_folder(name, Path(name.removeprefix("local-dir:")))
    if "=" in name:
        architecture, _, file = name.partition("=")
        return _from_file(name, architecture, Path(file))
    return _from_hub(name)


def list_backbones() -> list[BackboneInfo]:
    """List the embedded networks, those in the Hugging Face cache, and a few suggestions.

    Returns
    -------
    list of BackboneInfo
        What can be used here without a download comes first.
    """
    rows = [
        BackboneInfo(
            name,
            known.path() is not None,
            known.n_features,
            (known.size, known.size),
            "installed package" if known.path() else "package to be installed",
            "default" if name == DEFAULT else "",
        )
        for name, known in EMBEDDED.items()
    ]
    cached = _cached_names()
    for name in sorted(set(cached) | set(_SUGGESTED)):
        config = timm.get_pretrained_cfg(name)
        if config is None:
            continue
        with torch.device("meta"):
            module = timm.create_model(name, num_classes=0)
        where = "Hugging Face cache" if name in cached else "to be fetched"
        _, height, width = config.input_size
        rows.append(BackboneInfo(name, name in cached, _width(module), (height, width), where))
    return sorted(rows, key=lambda row: not row.available)


# ------------------------------------------------------------------------------- where it is from


def _from_folder(name: str, folder: Path) -> tuple[str, nn.Module]:
    config = folder / "config.json"
    if not config.is_file():
        raise BackboneError(f"no config.json in {folder}: local-dir: wants a folder saved by timm")
    try:
        described = json.loads(config.read_text(encoding="utf-8"))
        shape = {key: described.get(key) for key in ("architecture", "model_args")}
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except (*_FAULTS, AttributeError) as error:  # the last where weights and description differ
        raise BackboneError(f"cannot load a network from {folder}: {_line(error)}") from error
    architecture = str(shape["architecture"])
    # Arguments count only if they make another network: timm also writes those that do not.
    with torch.device("meta"):
        plain = timm.create_model(architecture, num_classes=0)
    if repr(plain) != repr(module):
        architecture += f" {json.dumps(shape['model_args'], sort_keys=True)}"
    return architecture, module


def _from_file(name: str, architecture: str, file: Path) -> tuple[str, nn.Module]:
    if not timm.is_model(architecture):
        raise BackboneError(f"{architecture!r} in {name!r} is no timm architecture (ARCH=FILE)")
    if not file.is_file():
        raise BackboneError(f"no weights file at {file}")
    try:
        module = timm.create_model(architecture, num_classes=0)
        tensors = load_state_dict(str(file), device="cpu", weights_only=True)
    # torch and pickle raise whatever a damaged file leads them to.
    except Exception as error:
        raise BackboneError(f"cannot read weights from {file}: {_line(error)}") from error
    _fill(module, tensors, architecture, file)
    return architecture.partition(".")[0], module


def _fill(module: nn.Module, tensors: dict[str, Tensor], architecture: str, file: Path) -> None:
    """Load `tensors`, of which only a classifier may be left over."""
    expected = module.state_dict()
    classifier = _config(module).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    missing = sorted(expected.keys() - tensors.keys())
    left = sorted(
        key
        for key in tensors.keys() - expected.keys()
        if not any(key.startswith(f"{head}.") for head in heads)
    )
    other = sorted(
        key for key in expected.keys() & tensors.keys() if expected[key].shape != tensors[key].shape
    )
    for what, keys in (("lacks", missing), ("has unknown", left), ("has other shapes for", other)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise BackboneError(
                f"{file} does not fit {architecture}: it {what} tensors {keys[0]!r}{more}"
            )
    module.load_state_dict({key: tensors[key] for key in expected})


def _from_hub(name: str) -> tuple[str, nn.Module]:
    architecture = name.partition(".")[0].removeprefix("hf-hub:")
    if not name.startswith("hf-hub:"):
        if not timm.is_model(architecture):
            known = ", ".join(EMBEDDED)
            raise BackboneError(
                f"unknown network {name!r}: give {known}, a timm name, ARCH=FILE or "
                "local-dir:FOLDER"
            )
        config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
        if config is None:
            raise BackboneError(
                f"timm has no pretrained weights for {name!r}; it has: "
                + (", ".join(timm.list_pretrained(f"{architecture}.*")) or "none")
            )
        repository = config.hf_hub_id
    else:
        repository = name.removeprefix("hf-hub:")
    if repository and not _is_cached(repository):
        _check_hub(name)
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except _FAULTS as error:
        raise BackboneError(f"{_absent(name)}: {_line(error)}") from error
    return str(_config(module).get("architecture") or architecture), module


def _check_hub(name: str) -> None:
    """Fail at once where the hub cannot be reached; its client would retry for a minute."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise BackboneError(f"{_absent(name)}, and HF_HUB_OFFLINE is set")
    if urllib.request.getproxies():
        return  # a direct connection would prove nothing
    hub = urlparse(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError as error:
        raise BackboneError(f"{_absent(name)}, and {hub.hostname} cannot be reached") from error


def _absent(name: str) -> str:
    return (
        f"the weights of {name!r} are not on this machine (copy them into the Hugging Face cache "
        f"from one that has them, give a file as {name}=FILE, or use {DEFAULT})"
    )


def _is_cached(repository: str) -> bool:
    names = ("model.safetensors", "pytorch_model.bin")
    return any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in names
    )


def _cached_names() -> list[str]:
    """Names of the timm networks in the Hugging Face cache."""
    try:
        folder = huggingface_hub.constants.HF_HUB_CACHE
        repositories = huggingface_hub.scan_cache_dir(folder).repos
    except (huggingface_hub.CacheNotFound, OSError):
        return []
    names = (r.repo_id.removeprefix("timm/") for r in repositories if r.repo_id.startswith("timm/"))
    return [n for n in names if timm.is_model_pretrained(n) and _is_cached(f"timm/{n}")]


# ----------------------------------------------------------------------------------- common parts


def _frozen(
    name: str,
    architecture: str,
    module: nn.Module,
    layers: str | Sequence[str] = LAST,
    view: View = "center",
    resolution: int | None = None,
) -> Backbone:
    module.eval().requires_grad_(False)
    taps = parse_layers(layers, module, auto=AUTO_LAYERS if name in EMBEDDED else ())
    weights_sha256 = _hash_tensors(module.state_dict())
    preprocessing = _preprocessing(name, module, view, resolution)
    widths = {LAST: _width(module)}
    plain = taps == (Tap(LAST, ""),) and view in ("center", "whole") and resolution is None
    if not plain:
        size = _input_size(module, resolution)
        try:
            module = TappedNetwork(module, taps, size, view=view).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(f"{name} cannot run on {size} pixels: {_line(error)}") from error
        widths = module.layers
    return Backbone(
        name=name,
        architecture=architecture,
        module=module,
        layers=widths,
        preprocessing=preprocessing,
        weights_sha256=weights_sha256,
    )


def _config(module: nn.Module) -> dict[str, Any]:
    """Return timm's `pretrained_cfg` of a network."""
    config: dict[str, Any] = dict(module.pretrained_cfg)  # type: ignore[arg-type]
    return config


def _width(module: nn.Module) -> int:
    return int(getattr(module, "head_hidden_size", None) or module.num_features)  # type: ignore[arg-type]


def _preprocessing(
    name: str, module: nn.Module, view: View, resolution: int | None
) -> Preprocessing:
    config = resolve_data_config({}, model=module)  # type: ignore[no-untyped-call]
    channels, height, width = config["input_size"]
    if channels != 3:
        raise BackboneError(f"{name} wants {channels} channels; only colour networks are supported")
    mean, std = tuple(config["mean"]), tuple(config["std"])
    geometry = Geometry(
        size=(height, width),
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        interpolation=config["interpolation"],
        fill=(round(255 * mean[0]), round(255 * mean[1]), round(255 * mean[2])),
    )
    if view != "center":
        geometry = replace(geometry, crop_pct=1.0, crop_mode="squash")
    height, width = _input_size(module, resolution)
    if view == "crops":
        height, width = math.ceil(height / CROP), math.ceil(width / CROP)
    return Preprocessing(replace(geometry, size=(height, width)), mean, std, view)


def _input_size(module: nn.Module, resolution: int | None) -> tuple[int, int]:
    if resolution is not None:
        return resolution, resolution
    _, height, width = resolve_data_config({}, model=module)["input_size"]  # type: ignore[no-untyped-call]
    return int(height), int(width)


def _hash_tensors(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _line(error: BaseException) -> str:
    """First line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
