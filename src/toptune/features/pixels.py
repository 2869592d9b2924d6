"""Pixels that are at the network's size already -> features, past the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from toptune.features.backbones import Backbone
from toptune.features.engines import Engine


def in_range(
    x: NDArray[np.float32],  # (..., d)
    dtype: DTypeLike,
) -> NDArray[Any]:  # (..., d)
    """Return features in the type they are kept in; what is too large becomes its largest."""
    limit = float(np.finfo(np.dtype(dtype)).max)
    return np.clip(x, -limit, limit).astype(dtype)


def pixel_features(
    pixels: NDArray[np.uint8], backbone: Backbone, engine: Engine
) -> NDArray[Any]:  # (n, d)
    """Compute the features of pixels, such as images that were changed after they were decoded.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
        What `toptune.images.decode` returns for the network's geometry.
    backbone : Backbone
        Network.
    engine : Engine
        What runs it.

    Returns
    -------
    ndarray of shape (n, d), of the type of `Backbone.dtype`
        Those that `extract` gives for the images.
    """
    step = engine.batch_size
    batches = (pixels[first : first + step] for first in range(0, len(pixels), step))
    return in_range(np.concatenate(list(engine.run(batches))), backbone.dtype)
