"""What tests of features share beside fixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from toptune.features import Backbone
from toptune.images import decode


def save_tiny(path: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint of timm's smallest residual network, with its classifier."""
    torch.manual_seed(seed)
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def pixels_for(backbone: Backbone, images: list[np.ndarray]) -> np.ndarray:
    """What the network is given, uint8 (n, h, w, 3): each image and its mirror image."""
    both = [view for image in images for view in (image, image[:, ::-1])]
    geometry = backbone.preprocessing.geometry
    return np.stack([decode(np.ascontiguousarray(image), geometry) for image in both])
