"""Toy pictures, runs and fits on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from toptune.features import Backbone, load_backbone
from toptune.finetuning.training.fitting import Fitting
from toptune.finetuning.training.loop import Run, TrainingData
from toptune.finetuning.training.network import fresh_network
from toptune.finetuning.training.pixels import decode_images, training_geometry
from toptune.finetuning.training.recipe import Machine, Recipe
from toptune.images import from_arrays

CPU = Machine("cpu", "float32")


def toy_images(n: int = 8, *, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """n dark, then n bright images: uint8 (2n, 24, 24, 3), and their labels."""
    noise = np.random.default_rng(seed).integers(0, 90, size=(2 * n, 24, 24, 3), dtype=np.uint8)
    noise[n:] += 150
    return noise, ["night"] * n + ["day"] * n


def recipe(**changes: Any) -> Recipe:
    values = {
        "mode": "full",
        "epochs": 2,
        "batch_size": 6,
        "layer_decay": 0.8,
        "flip": True,
        "ema": False,
    }
    return Recipe(**{**values, **changes})


def tiny_run(backbone: Backbone, how: Recipe, *, rate: float = 0.01, **more: Any) -> Run:
    """A run on the toy pictures."""
    images = from_arrays(*toy_images())
    decoded = decode_images(images, training_geometry(backbone.preprocessing.geometry))
    codes = np.unique(images.labels, return_inverse=True)[1]
    return Run(
        fresh_network(backbone, 2),
        how,
        rate,
        TrainingData(decoded.pixels, codes, np.arange(len(codes))),
        preprocessing=backbone.preprocessing,
        machine=CPU,
        seed=(0, 0),
        **more,
    )


def tiny_fitting(name: str, how: Recipe, **changes: Any) -> Fitting:
    """A whole fit on the toy pictures."""
    backbone = load_backbone(name)
    images = from_arrays(*toy_images())
    values = {
        "learning_rate": 0.01,
        "patience": None,
        "machine": CPU,
        "random_state": 0,
        "checkpoint": None,
    }
    return Fitting(
        backbone,
        decode_images(images, training_geometry(backbone.preprocessing.geometry)),
        np.unique(images.labels, return_inverse=True)[1],
        recipe=how,
        **{**values, **changes},
    )


def finished(run: Run) -> Run:
    while not run.finished:
        run.train_epoch()
    return run


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    A, B = a.state_dict(), b.state_dict()
    return A.keys() == B.keys() and all(torch.equal(A[key], B[key]) for key in A)
