"""Images -> pixels in memory, decoded once for all epochs."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError
from toptune.features.extract import in_order
from toptune.images import (
    Geometry,
    ImageSet,
    ImageSource,
    Quarantined,
    UnreadableImage,
    decode,
    read_source,
)
from toptune.images.quarantine import quarantine, strict_error, warn_of_quarantine
from toptune.runtime.progress import progress_bar

# Decoded pictures are this much larger than the network's input, so that crops of them are not
# enlarged more than necessary.
ROOM = 1.25

# Bytes of pixels from which on they are kept in a temporary file instead of in memory.
_FILE_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures in memory."""

    pixels: NDArray[np.uint8]  # (n, h, w, 3), upright and resized
    images: ImageSet  # their n ids and labels, and those that could not be read
    seconds: float  # that reading and decoding took


def training_geometry(geometry: Geometry) -> Geometry:
    """Geometry of the pictures that crops are taken from.

    It covers what evaluation sees of an image before it cuts the margin off: of the "center" kind
    the largest square, in the middle. So a crop shows nothing that a new image could not show.
    """
    size = (round(geometry.size[0] * ROOM), round(geometry.size[1] * ROOM))
    return replace(geometry, size=size, crop_pct=1.0)


def decode_images(
    images: ImageSet, geometry: Geometry, *, strict: bool = False, progress: bool | None = None
) -> Decoded:
    """Read and decode images in threads.

    Raises
    ------
    DataError
        If there are no images, none can be read, or, with `strict`, one cannot.

    Warns
    -----
    DataWarning
        If images cannot be read, or a class lost all of its images.
    """
    if len(images) == 0 and not images.quarantined:
        raise DataError("there are no images to train on")
    if strict and images.quarantined:
        raise strict_error(images.quarantined[0])
    start = time.perf_counter()
    pixels = _room((len(images), *geometry.size, 3))
    faults: dict[int, str] = {}

    def read(source: ImageSource) -> NDArray[np.uint8] | str:
        try:
            return decode(read_source(source), geometry)
        except UnreadableImage as error:
            return error.reason

    n_threads = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool,
        progress_bar("decoding", len(images), enabled=progress) as advance,
    ):
        for i, result in enumerate(in_order(pool, read, images.sources, ahead=4 * n_threads)):
            if isinstance(result, str):
                faults[i] = result
                if strict:
                    raise strict_error(Quarantined(images.ids[i], result))
            else:
                pixels[i - len(faults)] = result
            advance(1)
    kept = quarantine(images, faults)
    warn_of_quarantine(images, kept, stacklevel=4)
    return Decoded(pixels[: len(kept)], kept, time.perf_counter() - start)


def _room(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    if int(np.prod(shape, dtype=np.int64)) < _FILE_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(prefix="toptune-pixels-") as file:  # mapped beyond its closing
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
