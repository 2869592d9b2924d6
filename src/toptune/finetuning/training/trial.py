"""How long fine-tuning will take: a few real steps, and what fits into a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from toptune.features import Backbone
from toptune.finetuning.training.fitting import GRIDS, VALIDATION
from toptune.finetuning.training.loop import Run, TrainingData
from toptune.finetuning.training.network import fresh_network
from toptune.finetuning.training.pixels import decode_images, training_geometry
from toptune.finetuning.training.recipe import Machine, Recipe
from toptune.images import ImageSet

#: Steps of a trial; the first warms up and is not counted.
_STEPS = 5

#: Epochs below which a budget makes no sense: the network has hardly moved.
LEAST_EPOCHS = 3


@dataclass(frozen=True)
class Speed:
    """Seconds per image of decoding and of training on it once."""

    decode: float
    train: float


@dataclass(frozen=True)
class TrainingPlan:
    """How a network will be fine-tuned."""

    epochs: int
    learning_rate: float | None  # None: chosen on a validation part, one training for each rate
    seconds: float  # that it will take, decoding included
    fits: bool  # within the budget


def measure_speed(
    backbone: Backbone, images: ImageSet, recipe: Recipe, machine: Machine, *, n_classes: int
) -> Speed:
    """Train for a few steps on some of the images.

    Raises
    ------
    DataError
        If not one of these images can be read.
    """
    n = min(len(images), _STEPS * recipe.batch_size)
    some = images.subset(np.linspace(0, len(images) - 1, n).astype(np.intp))
    geometry = training_geometry(backbone.preprocessing.geometry)
    decoded = decode_images(some, geometry, progress=False)
    n = len(decoded.images)
    run = Run(
        fresh_network(backbone, n_classes),
        recipe,
        1e-4,
        TrainingData(decoded.pixels, np.arange(n) % n_classes, np.arange(n)),
        preprocessing=backbone.preprocessing,
        machine=machine,
        seed=(0,),
    )
    times, seen = [time.perf_counter()], [0]

    def note(steps: int) -> None:
        times.append(time.perf_counter())
        seen.append(steps)

    run.train_epoch(note)
    first = min(1, len(times) - 2)  # a single step counts, warm or not
    return Speed(decoded.seconds / n, (times[-1] - times[first]) / sum(seen[first + 1 :]))


def plan_training(
    speed: Speed, n: int, *, recipe: Recipe, budget: float | None = None
) -> TrainingPlan:
    """Choose how to train on n images within a budget.

    What costs most and matters least goes first: the choice of the learning rate, instead of which
    the middle one is taken, then epochs, down to three.

    If nothing fits, the cheapest plan is returned. The budget is in seconds.

    Examples
    --------
    >>> recipe = Recipe("full", 15, 16, layer_decay=0.8, flip=True, ema=False)
    >>> plan_training(Speed(0.01, 0.1), 100, recipe=recipe, budget=200).learning_rate
    0.002
    """
    rates = GRIDS[recipe.mode]
    middle = rates[len(rates) // 2]
    least = min(LEAST_EPOCHS, recipe.epochs)
    choices: list[tuple[int, float | None]] = [(recipe.epochs, None)]
    choices += [(epochs, middle) for epochs in range(recipe.epochs, least - 1, -1)]
    for epochs, rate in choices:
        seconds = _seconds(speed, n, replace(recipe, epochs=epochs), rate)
        if budget is None or seconds <= budget:
            return TrainingPlan(epochs, rate, seconds, fits=True)
    return TrainingPlan(epochs, rate, seconds, fits=False)


def _seconds(speed: Speed, n: int, recipe: Recipe, rate: float | None) -> float:
    tried = len(GRIDS[recipe.mode]) if rate is None else 0
    seen = recipe.total_epochs * n * (1 + tried * (1 - VALIDATION))
    decoded = n * (1 + (VALIDATION if tried else 0))
    return speed.decode * decoded + speed.train * seen
