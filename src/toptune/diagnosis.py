"""What `toptune doctor` reports: versions, the engine chosen, and its measured rate."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from toptune.features import cache_dir, load_backbone, make_engine
from toptune.versions import library_versions


def diagnose(
    backbone: str = "efficientnet_lite0", *, measure_seconds: float = 2.0
) -> dict[str, Any]:
    """Choose the engine as a fit would, and measure it on random images.

    Parameters
    ----------
    backbone
        Network, as for `toptune.features.load_backbone`.
    measure_seconds
        Time to measure for, after a warm-up.

    Returns
    -------
    dict
        versions, backbone, engine, device, precision, batch_size, threads, cache, cache_megabytes,
        seconds_to_start and images_per_second (network alone, without decoding).

    Raises
    ------
    BackboneError
        If the network cannot be had.
    """
    start = time.perf_counter()
    network = load_backbone(backbone)
    engine = make_engine(network, cache=cache_dir())
    size = network.preprocessing.geometry.size
    batch = np.random.default_rng(0).integers(
        0, 256, size=(engine.batch_size, *size, 3), dtype=np.uint8
    )
    list(engine.run([batch] * 4))
    seconds_to_start = time.perf_counter() - start

    def until(deadline: float) -> Any:
        while time.perf_counter() < deadline:
            yield batch

    start = time.perf_counter()
    done = sum(len(rows) for rows in engine.run(until(start + measure_seconds)))
    rate = done / (time.perf_counter() - start)
    folder = cache_dir()
    size_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return {
        "versions": library_versions(),
        "backbone": f"{network.name} ({network.n_features} features, {size[0]} x {size[1]} pixels)",
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "batch_size": engine.batch_size,
        "threads": os.cpu_count() or 1,
        "cache": str(folder),
        "cache_megabytes": round(size_bytes / 1e6, 1),
        "seconds_to_start": round(seconds_to_start, 2),
        "images_per_second": round(rate, 1),
    }
