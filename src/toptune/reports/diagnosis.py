"""What `toptune doctor` reports: versions, the engine and its measured rate; plans for the head."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from toptune.errors import DataError
from toptune.features import cache_dir, load_backbone, make_engine
from toptune.runtime.versions import library_versions


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


def plan_head(
    sizes: str, *, memory_gigabytes: float | None = None, n_centers: int | None = None
) -> dict[str, Any]:
    """Plan the fit of a kernel head on float32 features with everything else on "auto".

    Parameters
    ----------
    sizes
        Numbers of samples, features and classes as "N,D,C".
    memory_gigabytes
        Memory budget in gigabytes (1e9 bytes); half of what is free if None.
    n_centers
        Number of centers; None chooses it.

    Returns
    -------
    dict
        solver, centers, kept_in_memory, block_rows, peak_gigabytes, budget_gigabytes, device and
        seconds, an estimate from the measured speed of this machine.

    Raises
    ------
    DataError
        If the sizes are not three whole numbers > 0, or the fit does not go into the budget.
    """
    import torch

    from toptune.kernel.selection.planning import (
        MemoryBudgetError,
        available_memory,
        make_plan,
        measure_rates,
        predicted_seconds,
    )

    parts = sizes.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise DataError(f"a plan needs N,D,C, three whole numbers > 0, got {sizes!r}")
    n, d, c = (int(part) for part in parts)
    if (n_centers is not None and n_centers < 1) or (
        memory_gigabytes is not None and not memory_gigabytes > 0
    ):
        raise DataError("the number of centers and the memory must be > 0")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = available_memory(device) if memory_gigabytes is None else int(memory_gigabytes * 1e9)
    try:
        plan = make_plan(n, d, c, n_centers=n_centers, memory=memory)
    except MemoryBudgetError as error:
        raise DataError(str(error)) from error
    seconds = predicted_seconds(plan, n, d, c, measure_rates(device))
    return {
        "solver": plan.solver,
        "centers": plan.n_centers,
        "kept_in_memory": plan.keep,
        "block_rows": plan.block_rows,
        "peak_gigabytes": round(plan.peak_bytes / 1e9, 2),
        "budget_gigabytes": round(memory / 1e9, 2),
        "device": device.type,
        "seconds": float(f"{seconds:.2g}"),
    }
