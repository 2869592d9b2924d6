"""One training run: AdamW, one cycle of the learning rate, epoch by epoch.

The rate of layer l at step t of T is

    rate * layer_decay ** (layers above l) * cycle(t / T)

with cycle rising linearly over the first tenth of the steps and then falling as a cosine to zero.
Every random choice of an epoch comes from generators that are seeded by the run, the phase and the
epoch alone: a run that goes on from the end of any epoch gives what an unbroken one gives.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from toptune.features import Preprocessing
from toptune.training.augmentation import EpochPlan, normalised, plan_epoch, training_batch
from toptune.training.depthwise import FastDepthwise
from toptune.training.network import Part, parameter_groups, set_trainable, set_training_mode
from toptune.training.pixels import in_order

Mode = Literal["full", "head-only", "last-block", "lp-ft"]

LABEL_SMOOTHING = 0.1
CLIP_NORM = 1.0
WARM_UP = 0.1  # part of the steps
EMA_DECAY = 0.99
# A classifier on frozen features bears, and needs, a higher rate than a whole network.
HEAD_FACTOR = 10.0
# "lp-ft" trains the classifier alone for this part of `epochs` before it trains everything.
HEAD_EPOCHS = 0.25
_EVALUATION_BATCH = 32


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
    learning_rate: float
    epochs: int
    batch_size: int
    layer_decay: float
    flip: bool
    ema: bool

    def phases(self) -> list[Phase]:
        """Return what is trained one after the other."""
        if self.mode != "lp-ft":
            return [Phase(self.mode, self.epochs, self.learning_rate)]
        head_epochs = math.ceil(HEAD_EPOCHS * self.epochs)
        return [
            Phase("head-only", head_epochs, HEAD_FACTOR * self.learning_rate),
            Phase("full", self.epochs, self.learning_rate),
        ]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pictures to train on: n rows of all that are in memory.

    Attributes
    ----------
    pictures : ndarray of uint8, shape (N, H, W, 3)
        What is in memory.
    codes : ndarray of int, shape (N,)
        Their classes.
    rows : ndarray of int, shape (n,)
        Which of them to use.
    """

    pictures: NDArray[np.uint8]
    codes: NDArray[np.intp]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)


class TrainingDiverged(ValueError):
    """The loss is no longer a finite number."""


class Run:
    """A network on its way from pretrained weights to trained ones.

    Parameters
    ----------
    network : nn.Module
        From `fresh_network`; it is changed.
    recipe : Recipe
        How to train.
    data : TrainingData
        What to train on.
    preprocessing : Preprocessing
        Of the network.
    machine : Machine
        Where to compute.
    seed : tuple of int
        Of everything that is drawn.

    Attributes
    ----------
    history : list of dict
        Per finished epoch: phase, epoch, learning_rate (at its end), loss, seconds.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        data: TrainingData,
        *,
        preprocessing: Preprocessing,
        machine: Machine,
        seed: tuple[int, ...],
    ) -> None:
        self.network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.data = data
        self.preprocessing = preprocessing
        self.machine = machine
        self.seed = seed
        self.history: list[dict[str, Any]] = []
        self._start_phase(0)

    # -------------------------------------------------------------------------------- running

    @property
    def finished(self) -> bool:
        """Whether every epoch is done."""
        phases = self.recipe.phases()
        return self.phase == len(phases) - 1 and self.epoch == phases[-1].epochs

    @property
    def trained(self) -> nn.Module:
        """The network to predict with: the average of weights, if one is kept."""
        return self.network if self.ema is None else self.ema.module

    def _start_phase(self, phase: int) -> None:
        self.phase, self.epoch, self.optimizer_steps = phase, 0, 0
        part = self.recipe.phases()[phase].part
        set_trainable(self.network, part)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.recipe.layer_decay), fused=True
        )
        self.ema = (
            ModelEmaV3(self.network, decay=EMA_DECAY, use_warmup=True) if self.recipe.ema else None
        )

    def train_epoch(self, advance: Callable[[int], None] = lambda steps: None) -> None:
        """Train one more epoch; `advance` is told of each picture."""
        phases = self.recipe.phases()
        if self.epoch == phases[self.phase].epochs:
            self._start_phase(self.phase + 1)
        start = time.perf_counter()
        seed = (*self.seed, self.phase, self.epoch)
        generator = np.random.default_rng(seed)
        height, width = self.data.pictures.shape[1:3]
        plan = plan_epoch(
            len(self.data), (height, width), flip=self.recipe.flip, generator=generator
        )
        batches = plan.batches(self.recipe.batch_size)
        set_training_mode(self.network)
        losses: list[Tensor] = []
        with self.machine.seeded(int(generator.integers(2**62))):
            for batch, pixels in zip(batches, self._prepared(batches, plan), strict=True):
                codes = self.data.codes[self.data.rows[batch]]
                losses.append(self._step(pixels, codes, n_batches=len(batches)) * len(batch))
                advance(len(batch))
        loss = float(torch.stack(losses).sum()) / len(self.data)
        self.epoch += 1
        self.history.append(
            {
                "phase": self.phase,
                "epoch": self.epoch,
                "loss": loss,
                "seconds": time.perf_counter() - start,
            }
        )
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"learning_rate={self.recipe.learning_rate:g} is too high here: the loss is "
                f"{loss:g} after epoch {self.epoch}; give a smaller one"
            )

    def _prepared(
        self, batches: list[NDArray[np.intp]], plan: EpochPlan
    ) -> Iterator[NDArray[np.uint8]]:
        """Make the batches ahead of their use."""
        n_threads = (os.cpu_count() or 1) if self.machine.device == "cuda" else 1
        with ThreadPoolExecutor(n_threads, thread_name_prefix="augment") as pool:

            def make(batch: NDArray[np.intp]) -> NDArray[np.uint8]:
                geometry = self.preprocessing.geometry
                return training_batch(self.data.pictures, self.data.rows, plan, batch, geometry)

            yield from in_order(pool, make, batches, ahead=n_threads)

    def _step(
        self, pixels: NDArray[np.uint8], codes: NDArray[np.intp], *, n_batches: int
    ) -> Tensor:
        phase = self.recipe.phases()[self.phase]
        step = self.optimizer_steps
        factor = one_cycle(step, n_batches * phase.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = phase.learning_rate * group["lr_scale"] * factor
        x = normalised(pixels, self.preprocessing, self.machine.device)
        target = torch.from_numpy(codes).to(self.machine.device)
        with self.machine.autocast(), FastDepthwise():
            logits = self.network(x)
        loss = F.cross_entropy(logits.float(), target, label_smoothing=LABEL_SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        moving = [p for p in self.network.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(moving, CLIP_NORM)
        self.optimizer.step()
        self.optimizer_steps += 1
        if self.ema is not None:
            self.ema.update(self.network, step=self.optimizer_steps)
        return loss.detach()


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


def logits_of(
    network: nn.Module,
    pixels: NDArray[np.uint8],  # (n, h, w, 3), as evaluation sees them
    preprocessing: Preprocessing,
    machine: Machine,
) -> NDArray[np.float32]:  # (n, c)
    """Run a network in evaluation mode."""
    network.eval()
    rows = []
    with torch.inference_mode(), machine.autocast():
        for first in range(0, len(pixels), _EVALUATION_BATCH):
            batch = np.ascontiguousarray(pixels[first : first + _EVALUATION_BATCH])
            rows.append(network(normalised(batch, preprocessing, machine.device)).float().cpu())
    logits: NDArray[np.float32] = torch.cat(rows).numpy()
    return logits
