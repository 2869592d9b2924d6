"""A whole fit: the choice of the learning rate on a part of the training data, then the training."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from toptune.features import Backbone
from toptune.progress import progress_bar
from toptune.training.loop import Machine, Recipe, Run, TrainingData
from toptune.training.network import fresh_network
from toptune.training.pixels import Decoded


class Fitting:
    """State of a fit."""

    def __init__(
        self,
        backbone: Backbone,
        decoded: Decoded,
        codes: NDArray[np.intp],
        *,
        recipe: Recipe,
        machine: Machine,
        random_state: int,
    ) -> None:
        self.backbone = backbone
        self.decoded = decoded
        self.codes = codes
        self.recipe = recipe
        self.machine = machine
        self.random_state = random_state
        self.seconds = {"select": 0.0, "fit": 0.0}
        self.history: list[dict[str, Any]] = []

    def go(self) -> None:
        """Train."""
        start = time.perf_counter()
        self.learning_rate = self.recipe.learning_rate
        run = self._run(self.recipe, np.arange(len(self.codes)), 0)
        total = len(run.data) * sum(phase.epochs for phase in self.recipe.phases())
        with progress_bar("training", total) as advance:
            while not run.finished:
                run.train_epoch(advance)
        self.network: nn.Module = run.trained.cpu().eval().requires_grad_(False)
        self.history = run.history
        self.seconds["fit"] = time.perf_counter() - start

    def _run(self, recipe: Recipe, rows: NDArray[np.intp], number: int) -> Run:
        return Run(
            fresh_network(self.backbone, int(self.codes.max()) + 1),
            recipe,
            TrainingData(self.decoded.pixels, self.codes, rows),
            preprocessing=self.backbone.preprocessing,
            machine=self.machine,
            seed=(self.random_state, number),
        )
