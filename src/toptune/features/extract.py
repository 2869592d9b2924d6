"""Images -> Features: read, look up, decode, run, store.

Threads read the files and look their contents up in the cache; what is not there they decode, while
the network runs on what was decoded before. A fixed number of images is under way at any time, so
memory does not grow with their number. New features go to the cache every two seconds, and when
the run ends for whatever reason: a killed run goes on where it stopped.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from toptune.errors import DataError
from toptune.features.backbones import Backbone
from toptune.features.cache import FeatureCache, cache_dir
from toptune.features.engines import Engine, make_engine
from toptune.features.store import Features
from toptune.images import (
    Geometry,
    ImageSet,
    ImageSource,
    Quarantined,
    UnreadableImage,
    content_hash,
    decode,
    read_source,
)
from toptune.images.quarantine import quarantine, strict_error, warn_of_quarantine
from toptune.runtime.progress import progress_bar

# New features are stored when so many are waiting, or so many seconds have passed.
_STORE_ROWS = 512
_STORE_SECONDS = 2.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def extract(
    images: ImageSet,
    backbone: Backbone,
    *,
    engine: Engine | None = None,
    cache: str | os.PathLike[str] | None = "auto",
    strict: bool = False,
    progress: bool | None = None,
    n_workers: int | None = None,
) -> Features:
    """Compute the features of images, or read those that were computed before.

    Parameters
    ----------
    images : ImageSet
        From `toptune.images.open_images` or `from_arrays`.
    backbone : Backbone
        Network.
    engine : Engine, optional
        What runs it; by default what `make_engine` chooses.
    cache : "auto", path or None, default="auto"
        Folder of the cache; "auto" is `cache_dir()`, None neither reads nor keeps anything.
    strict : bool, default=False
        Raise an error for an image that cannot be read, instead of leaving it out.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal.
    n_workers : int, optional
        Threads that read and decode; by default one per processor.

    Returns
    -------
    Features
        In the order of `images`, with their labels and groups; those that could not be read are in
        its `quarantined`.

    Raises
    ------
    DataError
        If there are no images, none can be read, or, with `strict`, one cannot.
    StorageError
        If the cache cannot be used.

    Warns
    -----
    DataWarning
        If images cannot be read, or a class lost all of its images.
    """
    if len(images) == 0 and not images.quarantined:
        raise DataError("there are no images to extract features from")
    if strict and images.quarantined:
        raise strict_error(images.quarantined[0])
    start = time.perf_counter()
    folder = cache_dir() if cache == "auto" else None if cache is None else Path(cache)
    engine = engine or make_engine(backbone, cache=folder)
    spec = {**backbone.spec(), "precision": engine.precision, "device": engine.device}
    n_threads = n_workers or os.cpu_count() or 1
    stored = None
    if folder:
        d, dtype = backbone.n_features, backbone.dtype
        stored = FeatureCache(folder, spec=spec, n_features=d, dtype=dtype)
    run = _Run(images, backbone, engine, stored, strict)
    try:
        with progress_bar("extracting", len(images), enabled=progress) as advance:
            run.go(n_threads, advance)
    finally:
        if stored is not None:
            stored.close()
    seconds = time.perf_counter() - start
    kept, X = images, run.X
    if run.faults or not len(images):
        kept = quarantine(images, run.faults)
        X = X[[i for i in range(len(X)) if i not in run.faults]]
    if kept.quarantined:
        warn_of_quarantine(images, kept, stacklevel=2)
    return Features(
        X=X,
        ids=kept.ids,
        labels=kept.labels,
        layers=backbone.layers,
        provenance={"backbone": backbone.name, **spec, "engine": engine.name},
        quarantined=kept.quarantined,
        seconds=seconds,
        groups=kept.groups,
        label_kind=kept.label_kind,
    )


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


@dataclass(frozen=True)
class _Read:
    """One image after its thread: stored features, else pixels, else the reason of its failure."""

    digest: bytes = b""
    features: NDArray[Any] | None = None  # (d,)
    pixels: NDArray[np.uint8] | None = None  # (h, w, 3)
    fault: str = ""


def _read(source: ImageSource, geometry: Geometry, cache: FeatureCache | None) -> _Read:
    try:
        loaded = read_source(source)
        digest = content_hash(loaded)
        known = cache.get(digest) if cache is not None else None
        if known is not None:
            return _Read(digest, features=known)
        return _Read(digest, pixels=decode(loaded, geometry))
    except UnreadableImage as error:
        return _Read(fault=error.reason)


class _Run:
    """The state of one extraction."""

    def __init__(
        self,
        images: ImageSet,
        backbone: Backbone,
        engine: Engine,
        cache: FeatureCache | None,
        strict: bool,
    ) -> None:
        self.images = images
        self.geometry = backbone.preprocessing.geometry
        self.engine = engine
        self.cache = cache
        self.strict = strict
        self.X = np.empty((len(images), backbone.n_features), dtype=backbone.dtype)
        self.faults: dict[int, str] = {}
        self.first_with: dict[bytes, int] = {}  # digest -> first image that has it
        self.same_as: dict[int, int] = {}  # image -> earlier image with the same content
        self.batches: deque[list[tuple[int, bytes]]] = deque()  # handed to the engine, in order
        self.unsaved: list[tuple[bytes, int]] = []
        self.saved_at = time.monotonic()

    def go(self, n_threads: int, advance: Callable[[int], None]) -> None:
        """Fill `X`."""
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
        try:
            for rows in self.engine.run(self._pixel_batches(pool, n_threads, advance)):
                self._take(rows)
                advance(len(rows))
            for image, earlier in self.same_as.items():
                if earlier in self.faults:
                    self.faults[image] = self.faults[earlier]
                self.X[image] = self.X[earlier]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._save()

    def _pixel_batches(
        self, pool: ThreadPoolExecutor, n_threads: int, advance: Callable[[int], None]
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield what must be computed, in batches; settle everything else."""
        pixels: list[NDArray[np.uint8]] = []
        batch: list[tuple[int, bytes]] = []
        read_one = partial(_read, geometry=self.geometry, cache=self.cache)
        ahead = 2 * n_threads + 2 * self.engine.batch_size - 1
        sources = self.images.sources
        for image, read in enumerate(in_order(pool, read_one, sources, ahead=ahead)):
            if read.fault:
                self._reject(image, read.fault)
                advance(1)
            elif read.features is not None:
                self.X[image] = read.features
                advance(1)
            elif read.digest in self.first_with:
                self.same_as[image] = self.first_with[read.digest]
                advance(1)
            elif read.pixels is not None:
                self.first_with[read.digest] = image
                batch.append((image, read.digest))
                pixels.append(read.pixels)
            if len(batch) == self.engine.batch_size:
                self.batches.append(batch)
                yield np.stack(pixels)
                batch, pixels = [], []
        if batch:
            self.batches.append(batch)
            yield np.stack(pixels)

    def _take(self, rows: NDArray[np.float32]) -> None:
        for (image, digest), x in zip(self.batches.popleft(), rows, strict=True):
            if np.isfinite(x).all():
                self.X[image] = in_range(x, self.X.dtype)
                self.unsaved.append((digest, image))
            else:
                self._reject(image, "the network's features of it are not finite")
        waited = time.monotonic() - self.saved_at
        if len(self.unsaved) >= _STORE_ROWS or waited >= _STORE_SECONDS:
            self._save()

    def _save(self) -> None:
        if self.cache is not None:
            self.cache.put((digest, self.X[image]) for digest, image in self.unsaved)
        self.unsaved = []
        self.saved_at = time.monotonic()

    def _reject(self, image: int, reason: str) -> None:
        self.faults[image] = reason
        if self.strict:
            raise strict_error(Quarantined(self.images.ids[image], reason))


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    ahead: int,
) -> Iterator[_Result]:
    """Yield `function` of each item in the order of the items, with `ahead` of them under way."""
    under_way: deque[Future[_Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
