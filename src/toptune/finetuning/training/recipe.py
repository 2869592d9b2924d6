"""How to train and where: plain values that a run is made from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from toptune.finetuning.training.network import Part

Mode = Literal["full", "head-only", "last-block", "lp-ft"]
MODES = ("full", "head-only", "last-block", "lp-ft")

# A classifier on a frozen network bears, and needs, a higher rate than a whole network.
HEAD_FACTOR = 10.0
# "lp-ft" trains the classifier alone for this part of `epochs` before it trains everything.
HEAD_EPOCHS = 0.25
WARM_UP = 0.1  # part of the steps


@dataclass(frozen=True)
class Phase:
    """A part of the network, trained for one cycle of the learning rate."""

    part: Part
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Recipe:
    """How to train; the names are those of the parameters of `FineTuner`."""

    mode: Mode
    epochs: int
    batch_size: int
    layer_decay: float
    flip: bool
    ema: bool

    def phases(self, learning_rate: float) -> list[Phase]:
        """Return what is trained one after the other.

        Examples
        --------
        >>> recipe = Recipe("lp-ft", 10, 16, layer_decay=0.8, flip=True, ema=False)
        >>> [(phase.part, phase.epochs, phase.learning_rate) for phase in recipe.phases(0.002)]
        [('head-only', 3, 0.02), ('full', 10, 0.002)]
        """
        if self.mode != "lp-ft":
            return [Phase(self.mode, self.epochs, learning_rate)]
        head_epochs = math.ceil(HEAD_EPOCHS * self.epochs)
        return [
            Phase("head-only", head_epochs, HEAD_FACTOR * learning_rate),
            Phase("full", self.epochs, learning_rate),
        ]

    @property
    def total_epochs(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epochs for phase in self.phases(1.0))


def one_cycle(step: int, n_steps: int) -> float:
    """Factor of the learning rate: a linear rise, then half a cosine.

    Examples
    --------
    >>> [round(one_cycle(step, 20), 2) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.01]
    """
    rise = max(1, round(WARM_UP * n_steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise)))


@dataclass(frozen=True)
class Machine:
    """Where the arithmetic is done: "cpu" or "cuda", in "float32" or "bfloat16"."""

    device: str
    precision: str

    def autocast(self) -> torch.autocast:
        """Return a context in which PyTorch computes in this precision."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=enabled)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed what networks draw (dropout), and put the global generators back afterwards."""
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed(seed)
            yield
