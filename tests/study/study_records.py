"""Synthetic records of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toptune_study.records import Record

LITE0 = "efficientnet_lite0"


def make_record(
    dataset: str = "birds",
    head: str = "gaussian",
    *,
    layers: str | None = "auto",
    backbone: str = LITE0,
    settings: Mapping[str, Any] | None = None,
    size: float = 1.0,
    seed: int = 0,
    right: int = 8,
    n_test: int = 10,
    classes: Sequence[str] = ("a", "b"),
    seconds: Mapping[str, Any] | None = None,
    **other: Any,
) -> Record:
    """A record whose first `right` test images, in an order of the seed's, are right."""
    k = len(classes)
    true = [i % k for i in range(n_test)]
    order = np.random.default_rng(seed).permutation(n_test).tolist()
    predicted = list(true)
    for i in order[right:]:
        predicted[i] = (true[i] + 1) % k
    recalls = {
        name: float(np.mean([p == c for t, p in zip(true, predicted, strict=True) if t == c]))
        for c, name in enumerate(classes)
    }
    fine_tuning = layers is None
    stages = {"decode": 1.0, "fit": 39.0} if fine_tuning else {"decode_extract": 3.0, "fit": 1.0}
    given = dict(settings or {})
    return {
        "id": f"{dataset}/{backbone}/{layers}/{head}/{sorted(given.items())}/{size}/{seed}",
        "dataset": dataset,
        "backbone": backbone,
        "layers": layers,
        "head": head,
        "settings": given,
        "size": size,
        "seed": seed,
        "error": None,
        "started": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "processor": "A processor",
        "threads": 1,
        "versions": {"python": "3.11.0", "torch": "2.6.0"},
        "data_sha256": f"{dataset}-content",
        "n_train": round(20 * size),
        "n_test": n_test,
        "n_classes": k,
        "accuracy": right / n_test,
        "balanced_accuracy": float(np.mean(list(recalls.values()))),
        "log_loss": 1.0 - right / n_test,
        "loo_accuracy": min(1.0, right / n_test + 0.1) if head == "gaussian" else None,
        "recalls": recalls,
        "predicted": predicted,
        "true": true,
        "chosen": "",
        "seconds": {**(stages if seconds is None else seconds), "predict": 0.5},
        "wall_seconds": 40.0 if fine_tuning else 1.0,
        "peak_memory": 10**9,
        **other,
    }


def failed_record(**specification: Any) -> Record:
    """A record of a cell that ended with an error: it has no scores."""
    whole = make_record(**specification)
    kept = ("id", "dataset", "backbone", "layers", "head", "settings", "size", "seed", "started")
    return {key: whole[key] for key in kept} | {"error": "MemoryError: too large"}


def make_study(
    sets: Sequence[str] = tuple(f"set{k}" for k in range(7)), *, fine_tuning: bool = True
) -> list[Record]:
    """Records of every kind that a report has a place for."""
    records = []
    for k, name in enumerate(sets):
        rng = np.random.default_rng(k)
        common: dict[str, Any] = {"n_test": 40, "classes": ("a", "b", "c")}
        for h, head in enumerate(("gaussian", "linear", "logistic", "svc", "centroid")):
            for layers in ("auto", "last"):
                for seed in (0, 1):
                    right = int(37 - 2 * h - 2 * (layers == "last") - rng.integers(4))
                    records.append(
                        make_record(name, head, layers=layers, seed=seed, right=right, **common)
                    )
            for size in (0.25, 0.5):
                right = int(30 - h - rng.integers(3) + 4 * size)
                records.append(make_record(name, head, size=size, right=right, **common))
        for backbone in ("efficientnet_lite1", "efficientnet_lite2"):
            for head in ("gaussian", "logistic"):
                right = int(36 + rng.integers(4))
                records.append(make_record(name, head, backbone=backbone, right=right, **common))
        if fine_tuning:
            settings = {"epochs": 10, "learning_rate": 0.001}
            stages = {"decode": 1.0, "fit": 20.0 * (k + 2)}
            records.append(
                make_record(
                    name,
                    "full",
                    layers=None,
                    settings=settings,
                    right=int(31 + rng.integers(9)),
                    seconds=stages,
                    energy_kwh=0.01,
                    **common,
                )
            )
    return records
