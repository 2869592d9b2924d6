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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import log_softmax
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn

from toptune.features import Preprocessing
from toptune.features.extract import in_order
from toptune.finetuning.training.augmentation import (
    EpochPlan,
    normalised,
    plan_epoch,
    training_batch,
)
from toptune.finetuning.training.depthwise import FastDepthwise
from toptune.finetuning.training.network import parameter_groups, set_trainable, set_training_mode
from toptune.finetuning.training.recipe import Machine, Recipe, one_cycle

LABEL_SMOOTHING = 0.1
CLIP_NORM = 1.0
EMA_DECAY = 0.99
_EVALUATION_BATCH = 32


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pictures to train on: n rows of the N that are in memory."""

    pictures: NDArray[np.uint8]  # (N, H, W, 3)
    codes: NDArray[np.intp]  # (N,), their classes
    rows: NDArray[np.intp]  # (n,)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class ValidationData:
    """Pictures that are not trained on: pixels (n, h, w, 3) as evaluation sees them, classes."""

    pixels: NDArray[np.uint8]
    codes: NDArray[np.intp]


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
    learning_rate : float
        Of the last layer, at its highest.
    data : TrainingData
        What to train on.
    preprocessing : Preprocessing
        Of the network.
    machine : Machine
        Where to compute.
    seed : tuple of int
        Of everything that is drawn.
    validation : ValidationData or None
        What is watched after each epoch of the last phase.
    patience : int or None
        Stop after so many epochs without a lower validation loss, and keep the best weights.

    Attributes
    ----------
    history : list of dict
        Per finished epoch: phase, epoch, loss and seconds; with `patience` also val_loss.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        learning_rate: float,
        data: TrainingData,
        *,
        preprocessing: Preprocessing,
        machine: Machine,
        seed: tuple[int, ...],
        validation: ValidationData | None = None,
        patience: int | None = None,
    ) -> None:
        self.network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.phases = recipe.phases(learning_rate)
        self.data = data
        self.preprocessing = preprocessing
        self.machine = machine
        self.seed = seed
        self.validation = validation
        self.patience = patience
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}  # weights with the lowest validation loss
        self.start_phase(0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        if self.phase < len(self.phases) - 1:
            return False
        if self.epoch == self.phases[-1].epochs:
            return True
        losses = self._watched()
        return self.patience is not None and len(losses) - self._best_epoch() >= self.patience

    def result(self) -> nn.Module:
        """Return the network to predict with, on the CPU: averaged or the best, if so asked."""
        trained = self._averaged()
        if self.best:
            trained.load_state_dict(self.best)
        return trained.cpu().eval().requires_grad_(False)

    def start_phase(self, phase: int) -> None:
        """Set up what trains a part of the network."""
        self.phase, self.epoch, self.steps = phase, 0, 0
        set_trainable(self.network, self.phases[phase].part)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.recipe.layer_decay), fused=True
        )
        self.ema: Any = None
        if self.recipe.ema:
            self.ema = ModelEmaV3(self.network, decay=EMA_DECAY, use_warmup=True)

    def train_epoch(self, advance: Callable[[int], None] = lambda steps: None) -> None:
        """Train one more epoch; `advance` is called with the number of pictures of each step.

        Raises
        ------
        TrainingDiverged
            If the loss is not finite.
        """
        if self.epoch == self.phases[self.phase].epochs:
            self.start_phase(self.phase + 1)
        start = time.perf_counter()
        loss = self._pass(advance)
        self.epoch += 1
        row: dict[str, Any] = {"phase": self.phase, "epoch": self.epoch, "loss": loss}
        self.history.append(row)
        if not math.isfinite(loss):
            rate = self.phases[-1].learning_rate
            raise TrainingDiverged(
                f"learning_rate={rate:g} is too high here: the loss is {loss:g} after epoch "
                f"{self.epoch}; give a smaller one"
            )
        if self.patience is not None and self.phase == len(self.phases) - 1:
            row["val_loss"] = self.validate()[1]
            if self._best_epoch() == len(self._watched()):
                state = self._averaged().state_dict()
                self.best = {name: t.detach().cpu().clone() for name, t in state.items()}
        row["seconds"] = time.perf_counter() - start

    def validate(self) -> tuple[float, float]:
        """Return accuracy and log-loss on the validation part; infinite where it is undefined."""
        if self.validation is None:
            raise ValueError("this run has no validation part")
        pixels, codes = self.validation.pixels, self.validation.codes
        logits = logits_of(self._averaged(), pixels, self.preprocessing, self.machine)
        loss = float(-log_softmax(logits, axis=1)[np.arange(len(codes)), codes].mean())
        accuracy = float((logits.argmax(axis=1) == codes).mean())
        return accuracy, loss if math.isfinite(loss) else math.inf

    # -------------------------------------------------------------------------------- details

    def _averaged(self) -> nn.Module:
        averaged: nn.Module = self.network if self.ema is None else self.ema.module
        return averaged

    def _watched(self) -> list[float]:
        return [row["val_loss"] for row in self.history if "val_loss" in row]

    def _best_epoch(self) -> int:
        """Count from 1 to the epoch with the lowest validation loss; 0 before there is any."""
        losses = self._watched()
        return 1 + int(np.argmin(losses)) if losses else 0

    def _pass(self, advance: Callable[[int], None]) -> float:
        """Show every picture once; return the mean loss."""
        generator = np.random.default_rng((*self.seed, self.phase, self.epoch))
        height, width = self.data.pictures.shape[1:3]
        plan = plan_epoch(
            len(self.data), (height, width), flip=self.recipe.flip, generator=generator
        )
        batches = plan.batches(self.recipe.batch_size)
        n_steps = len(batches) * self.phases[self.phase].epochs
        losses: list[Tensor] = []
        set_training_mode(self.network)
        with self.machine.seeded(int(generator.integers(2**62))):
            for batch, pixels in zip(batches, self._prepared(batches, plan), strict=True):
                codes = self.data.codes[self.data.rows[batch]]
                losses.append(self._step(pixels, codes, n_steps) * len(batch))
                advance(len(batch))
        return float(torch.stack(losses).sum()) / len(self.data)

    def _prepared(
        self, batches: list[NDArray[np.intp]], plan: EpochPlan
    ) -> Iterator[NDArray[np.uint8]]:
        """Make the batches ahead of their use."""
        n_threads = (os.cpu_count() or 1) if self.machine.device == "cuda" else 1

        def make(batch: NDArray[np.intp]) -> NDArray[np.uint8]:
            geometry = self.preprocessing.geometry
            return training_batch(self.data.pictures, self.data.rows, plan, batch, geometry)

        with ThreadPoolExecutor(n_threads, thread_name_prefix="augment") as pool:
            yield from in_order(pool, make, batches, ahead=n_threads)

    def _step(
        self,
        pixels: NDArray[np.uint8],  # (b, h, w, 3)
        codes: NDArray[np.intp],  # (b,)
        n_steps: int,
    ) -> Tensor:
        factor = one_cycle(self.steps, n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.phases[self.phase].learning_rate * group["lr_scale"] * factor
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
        self.steps += 1
        if self.ema is not None:
            self.ema.update(self.network, step=self.steps)
        return loss.detach()


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
