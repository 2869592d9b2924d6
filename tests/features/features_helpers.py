"""What tests of features share beside fixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from toptune.features import Backbone, Engine
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


def run(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    size = engine.batch_size
    batches = (pixels[i : i + size] for i in range(0, len(pixels), size))
    return np.concatenate(list(engine.run(batches)))


def some_pixels(n: int) -> np.ndarray:
    """Noise of the size that the tiny network takes, uint8 (n, 160, 160, 3)."""
    return np.random.default_rng(0).integers(0, 256, (n, 160, 160, 3), dtype=np.uint8)


def reference(backbone: Backbone, pixels: np.ndarray) -> np.ndarray:
    """The module itself on pixels normalised by the formula, in PyTorch, one image at a time."""
    mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
    x = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    rows = [backbone.module(torch.tensor(image).permute(2, 0, 1)[None].float())[0] for image in x]
    features: np.ndarray = torch.stack(rows).numpy()
    return features


def least_cosine(A: np.ndarray, B: np.ndarray) -> float:
    A, B = A.astype(np.float64), B.astype(np.float64)
    norms = np.linalg.norm(A, axis=1) * np.linalg.norm(B, axis=1)
    return float(((A * B).sum(axis=1) / norms).min())
