"""Random crops and mirror images of decoded pictures: what training sees instead of the pictures.

Everything random about an epoch is drawn before it, from one generator: the order, the crops and
the mirroring. Making a batch is then a pure function, which any thread may call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from toptune.features import Preprocessing
from toptune.images import Geometry

# Part of the picture's area that a crop has, at least, and its largest change of aspect.
AREA = 0.35
ASPECT = 4 / 3


@dataclass(frozen=True)
class EpochPlan:
    """The order of the pictures, and how each is cropped and mirrored."""

    order: NDArray[np.intp]  # (n,), a permutation
    boxes: NDArray[np.intp]  # (n, 4): upper, left, lower, right; pixels
    mirrored: NDArray[np.bool_]  # (n,), left to right

    def batches(self, batch_size: int) -> list[NDArray[np.intp]]:
        """Cut the order into batches of at most `batch_size` that differ by at most one picture.

        A last batch of one or two pictures would spoil the batch normalisation.
        """
        return np.array_split(self.order, -(-len(self.order) // batch_size))


def plan_epoch(
    n: int, size: tuple[int, int], *, flip: bool, generator: np.random.Generator
) -> EpochPlan:
    """Draw an epoch of `n` pictures of `size` (height, width) pixels.

    A crop has 35 to 100 % of the picture's area and an aspect between 3/4 and 4/3 of its own.

    Examples
    --------
    >>> plan = plan_epoch(5, (280, 280), flip=False, generator=np.random.default_rng(0))
    >>> [len(batch) for batch in plan.batches(4)], plan.boxes.shape, plan.mirrored.any()
    ([3, 2], (5, 4), np.False_)
    """
    order = generator.permutation(n)
    root = np.sqrt(generator.uniform(AREA, 1.0, n))
    aspect = np.exp(generator.uniform(-1.0, 1.0, n) * np.log(ASPECT) / 2)
    height = np.maximum(1, np.rint(np.minimum(root * aspect, 1.0) * size[0])).astype(np.intp)
    width = np.maximum(1, np.rint(np.minimum(root / aspect, 1.0) * size[1])).astype(np.intp)
    upper = generator.integers(0, size[0] - height + 1)
    left = generator.integers(0, size[1] - width + 1)
    mirrored = generator.random(n) < 0.5
    boxes = np.stack([upper, left, upper + height, left + width], axis=1)
    return EpochPlan(order, boxes, mirrored & flip)


def training_batch(
    pictures: NDArray[np.uint8],  # (n, H, W, 3)
    rows: NDArray[np.intp],  # (n,): pictures of the plan's numbers
    plan: EpochPlan,
    batch: NDArray[np.intp],  # (b,): numbers of the plan
    geometry: Geometry,
) -> NDArray[np.uint8]:  # (b, h, w, 3)
    """Cut, resize and mirror some pictures as planned.

    Pillow resizes, as it does for evaluation. PyTorch's own resize is faster alone, but it wakes
    every thread for every picture, and was 20 times slower on a busy machine.
    """
    size = (geometry.size[1], geometry.size[0])
    resample = Image.Resampling[geometry.interpolation.upper()]
    pixels = np.empty((len(batch), *geometry.size, 3), dtype=np.uint8)
    for k, i in enumerate(batch.tolist()):
        upper, left, lower, right = plan.boxes[i].tolist()
        picture = Image.fromarray(pictures[rows[i]])
        view = np.asarray(picture.resize(size, resample, box=(left, upper, right, lower)))
        pixels[k] = view[:, ::-1] if plan.mirrored[i] else view
    return pixels


def normalised(
    pixels: NDArray[np.uint8],  # (b, h, w, 3)
    preprocessing: Preprocessing,
    device: str,
) -> Tensor:  # (b, 3, h, w), float32, channels last
    """Normalise as the network wants it: (pixel / 255 - mean) / std per colour."""
    mean, std = (
        255.0 * torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)  # channels last in memory
    return ((x.float() - mean) / std).contiguous(memory_format=torch.channels_last)
