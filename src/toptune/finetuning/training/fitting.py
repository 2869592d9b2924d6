"""A whole fit: choose the learning rate on a part of the training data, then train on all of it.

With a checkpoint the state is written at the end of every epoch, and a fit that was killed goes on
from there. Each run draws from its own seeds, so the result is that of an unbroken fit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from toptune.errors import DataError, DataWarning, ModelFileError
from toptune.features import Backbone
from toptune.finetuning.training.checkpoint import Tensors, restore_run, state_of_run
from toptune.finetuning.training.loop import Run, TrainingData, TrainingDiverged, ValidationData
from toptune.finetuning.training.network import fresh_network
from toptune.finetuning.training.pixels import Decoded, decode_images
from toptune.finetuning.training.recipe import Machine, Mode, Recipe
from toptune.images import stratified_split
from toptune.runtime.progress import progress_bar
from toptune.runtime.tensor_file import load_tensors, save_tensors

#: Learning rates to choose from. A classifier on a frozen network bears a higher one.
GRIDS: dict[Mode, tuple[float, ...]] = {
    "full": (5e-4, 2e-3, 8e-3),
    "last-block": (5e-4, 2e-3, 8e-3),
    "lp-ft": (5e-4, 2e-3, 8e-3),
    "head-only": (2e-3, 1e-2, 5e-2),
}

#: Part of the training images that learning rates and epochs are compared on.
VALIDATION = 0.2

#: Of checkpoint files; raised by one whenever an older reader would misunderstand the file.
_FORMAT_VERSION = 1

_Advance = Callable[[int], None]


class Fitting:
    """A fit under way.

    Parameters
    ----------
    backbone : Backbone
        Pretrained network.
    decoded : Decoded
        Pictures to train on.
    codes : ndarray of int, shape (n,)
        Their classes, 0 to c - 1.
    learning_rate : float or None
        None means chosen from `GRIDS`.
    checkpoint : path or None
        File to go on from.
    recipe, patience, machine, random_state
        As for `Run`.

    Attributes
    ----------
    network : nn.Module
        The trained network, in evaluation mode on the CPU; `go` makes it and what follows.
    learning_rate : float
        That it was trained with.
    selection : list of dict
        learning_rate, accuracy and log_loss on the validation part, of each rate that was tried.
    history : list of dict
        Of each epoch; see `Run`.
    seconds : dict
        Time of the stages select and fit, over all processes that worked on this fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoded: Decoded,
        codes: NDArray[np.intp],
        *,
        recipe: Recipe,
        learning_rate: float | None,
        patience: int | None,
        machine: Machine,
        random_state: int,
        checkpoint: str | os.PathLike[str] | None,
    ) -> None:
        self.backbone = backbone
        self.decoded = decoded
        self.codes = codes
        self.recipe = recipe
        self.rates = GRIDS[recipe.mode] if learning_rate is None else (learning_rate,)
        self.patience = patience
        self.machine = machine
        self.random_state = random_state
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.seconds = {"select": 0.0, "fit": 0.0}
        self.selection: list[dict[str, float]] = []
        self.saved: tuple[Tensors, dict[str, Any]] | None = None

    def go(self) -> None:
        """Train, from the beginning or from the checkpoint, which is removed at the end.

        Raises
        ------
        TrainingDiverged
            If the loss is not finite with the learning rate that was given, or with all of them.
        DataError
            If there are too few images for the validation part that `patience` needs.
        ModelFileError
            If the checkpoint is damaged or of another fit.
        StorageError
            If the checkpoint cannot be written.
        """
        everything = np.arange(len(self.codes))
        part, validation = self._parts()
        tried = len(self.rates) if len(self.rates) > 1 else 0
        rows = everything if self.patience is None else part
        n_pictures = self.recipe.total_epochs * (tried * len(part) + len(rows))
        self._open_checkpoint()
        with progress_bar("training", n_pictures) as advance:
            for number, rate in enumerate(self.rates[:tried], start=1):
                self._try(number, rate, part, validation, advance)
            self.learning_rate = self._chosen() if tried else self.rates[0]
            run = self._run(0, self.learning_rate, rows, validation, self.patience)
            self._train(run, "fit", advance)
        self.network: nn.Module = run.result()
        self.history = run.history
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------ selection

    def _parts(self) -> tuple[NDArray[np.intp], ValidationData | None]:
        """Rows to try learning rates on, and what to compare them on, if it is needed.

        Where images have groups, no group is on both sides.
        """
        if len(self.rates) == 1 and self.patience is None:
            return np.arange(len(self.codes)), None
        try:
            part, held_out = stratified_split(
                self.codes,
                test_size=VALIDATION,
                random_state=self.random_state,
                groups=self.decoded.images.groups,
            )
        except DataError as error:
            if self.patience is not None:
                raise DataError(f"patience needs a validation part, but {error}") from error
            self.rates = (self.rates[len(self.rates) // 2],)
            warnings.warn(
                f"the learning rate cannot be chosen on so few images and is {self.rates[0]:g}: "
                f"{error}",
                DataWarning,
                stacklevel=5,
            )
            return np.arange(len(self.codes)), None
        start = time.perf_counter()
        images = self.decoded.images.subset(held_out)
        seen = decode_images(images, self.backbone.preprocessing.geometry, strict=True)
        self.seconds["select"] += time.perf_counter() - start
        return part, ValidationData(seen.pixels, self.codes[held_out])

    def _try(
        self,
        number: int,
        rate: float,
        rows: NDArray[np.intp],
        validation: ValidationData | None,
        advance: _Advance,
    ) -> None:
        """Train with a learning rate and note how good it is, unless that was done before."""
        if number <= len(self.selection):
            advance(self.recipe.total_epochs * len(rows))
            return
        run = self._run(number, rate, rows, validation, None)
        try:
            self._train(run, "select", advance)
            accuracy, log_loss = run.validate()
        except TrainingDiverged:
            accuracy, log_loss = 0.0, math.inf
        self.selection.append({"learning_rate": rate, "accuracy": accuracy, "log_loss": log_loss})

    def _chosen(self) -> float:
        """Learning rate with the highest accuracy, of several the one with the lowest loss."""
        best = max(self.selection, key=lambda row: (row["accuracy"], -row["log_loss"]))
        if math.isinf(best["log_loss"]):
            rates = ", ".join(f"{rate:g}" for rate in self.rates)
            raise TrainingDiverged(f"every learning rate is too high here ({rates}): give one")
        return best["learning_rate"]

    # ------------------------------------------------------------------------------- training

    def _run(
        self,
        number: int,
        rate: float,
        rows: NDArray[np.intp],
        validation: ValidationData | None,
        patience: int | None,
    ) -> Run:
        return Run(
            fresh_network(self.backbone, int(self.codes.max()) + 1),
            self.recipe,
            rate,
            TrainingData(self.decoded.pixels, self.codes, rows),
            preprocessing=self.backbone.preprocessing,
            machine=self.machine,
            seed=(self.random_state, number),
            validation=validation,
            patience=patience,
        )

    def _train(self, run: Run, stage: str, advance: _Advance) -> None:
        """Finish a run, from where the checkpoint left it."""
        if self.saved is not None:
            tensors, document = self.saved
            self.saved = None
            try:
                restore_run(run, tensors, document["run"])
            except (KeyError, IndexError, ValueError, RuntimeError) as error:
                raise ModelFileError(f"{self.checkpoint} is damaged: {error}") from error
            advance(len(run.history) * len(run.data))
        while not run.finished:
            start = time.perf_counter()
            run.train_epoch(advance)
            self.seconds[stage] += time.perf_counter() - start
            self._save_checkpoint(run)

    # ----------------------------------------------------------------------------- checkpoint

    def _open_checkpoint(self) -> None:
        if self.checkpoint is None:
            return
        self.fingerprint = self._fingerprint()
        if not self.checkpoint.exists():
            return
        tensors, document = load_tensors(
            self.checkpoint, kind="checkpoint", format_version=_FORMAT_VERSION, required=()
        )
        if document.get("fingerprint") != self.fingerprint:
            raise ModelFileError(
                f"{self.checkpoint} is the checkpoint of another fit: of other images, parameters "
                "or pretrained weights. Name another file, or delete this one"
            )
        self.selection, self.seconds = document["selection"], document["seconds"]
        self.saved = tensors, document

    def _save_checkpoint(self, run: Run) -> None:
        if self.checkpoint is None:
            return
        tensors, numbers = state_of_run(run)
        document = {
            "fingerprint": self.fingerprint,
            "selection": self.selection,
            "seconds": self.seconds,
            "run": numbers,
        }
        save_tensors(
            self.checkpoint, tensors, document, kind="checkpoint", format_version=_FORMAT_VERSION
        )

    def _fingerprint(self) -> str:
        """Hash of everything that decides the result."""
        what = {
            **self.backbone.spec(),
            **asdict(self.recipe),
            **asdict(self.machine),
            "rates": self.rates,
            "patience": self.patience,
            "random_state": self.random_state,
            "codes": self.codes.tolist(),
        }
        groups = self.decoded.images.groups
        if groups is not None:
            what["groups"] = groups.tolist()
        text = json.dumps(what, sort_keys=True, default=np.generic.item)  # NumPy's numbers too
        digest = hashlib.sha256(text.encode())
        digest.update(np.ascontiguousarray(self.decoded.pixels).reshape(-1).data)
        return digest.hexdigest()
