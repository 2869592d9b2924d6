"""Fine-tuning of the same images, timed, within a budget; continued after an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toptune.errors import StorageError
from toptune.evaluation.intervals import paired_difference
from toptune.features import load_backbone, make_engine
from toptune.finetuning.estimator import FineTuner
from toptune.finetuning.training.loop import TrainingDiverged
from toptune.finetuning.training.recipe import Machine
from toptune.finetuning.training.trial import measure_speed, plan_training
from toptune.images import ImageSet, UnreadableImage, content_hash, read_source
from toptune.reports.comparison.result import Comparison, FineTuningPlan, MethodOutcome
from toptune.reports.html.text import duration, plural
from toptune.runtime.energy import EnergyMeter
from toptune.runtime.memory import peak_memory, reset_peak_memory
from toptune.tasks import training_labels

_VERSION = 1  # raised when a checkpoint of an older version must not be gone on with

#: Function that is called with a sentence on the next step.
Announce: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class FineTuning:
    """Fine-tuning of the same images, within a budget in seconds, with its state in a folder."""

    tuner: FineTuner
    train: ImageSet
    test: ImageSet
    budget: float | None
    folder: Path | None

    def add_to(self, found: Comparison, predicted: NDArray[Any], announce: Announce) -> Comparison:
        """Return a comparison to which fine-tuning was added, or why it was skipped.

        Parameters
        ----------
        found : Comparison
            Without it.
        predicted : ndarray of shape (n,)
            Labels of the test images by top-tuning.
        announce : callable
            Called with a sentence on the next step.
        """
        checkpoint = self.checkpoint
        plan = resumed_plan(checkpoint)
        if plan is None:
            announce("fine-tuning: a few training steps to see how long it will take")
            plan = self._planned(found.n_classes)
            if self.budget is not None and plan.estimated_seconds > self.budget:
                return replace(found, plan=plan, skipped=_too_long(plan, self.budget))
            note_plan(checkpoint, plan)
        announce(_announcement(plan, self.tuner.epochs))
        self.tuner.set_params(
            epochs=plan.epochs,
            learning_rate="auto" if plan.learning_rate is None else plan.learning_rate,
            checkpoint=checkpoint,
        )
        reset_peak_memory()
        try:
            with EnergyMeter() as meter:
                self.tuner.fit(self.train)
        except TrainingDiverged as error:
            _forget(checkpoint)
            return replace(found, plan=plan, skipped=f"fine-tuning failed: {error}")
        memory = peak_memory()
        _forget(checkpoint)
        start = time.perf_counter()
        answers = self.tuner.classify(self.test)
        predict_seconds = time.perf_counter() - start
        place = {name: i for i, name in enumerate(self.test.ids)}
        rows = np.array([place[name] for name in answers.ids])
        tested = self.test.subset(rows)
        y = training_labels(tested)
        return replace(
            found,
            fine_tuning=MethodOutcome(
                accuracy=float((answers.labels == y).mean()),
                seconds=self.tuner.seconds_,
                predict_seconds=predict_seconds,
                peak_memory=memory,
                energy_kwh=None if plan.resumed else meter.kwh,  # that before a kill is not known
            ),
            skipped=None,
            plan=replace(plan, learning_rate=self.tuner.learning_rate_),
            difference=paired_difference(
                y,
                answers.labels,
                predicted[rows],
                groups=tested.groups,
                random_state=self.tuner.random_state,
            ),
        )

    def _planned(self, n_classes: int) -> FineTuningPlan:
        """Measure the speed, and choose what fits into the budget."""
        backbone = load_backbone(self.tuner.backbone)
        engine = make_engine(backbone, precision=self.tuner.precision)
        machine = Machine(engine.device, engine.precision)
        recipe = self.tuner.recipe
        speed = measure_speed(backbone, self.train, recipe, machine, n_classes=n_classes)
        plan = plan_training(speed, len(self.train), recipe=recipe, budget=self.budget)
        return FineTuningPlan(
            epochs=plan.epochs,
            learning_rate=plan.learning_rate,
            estimated_seconds=plan.seconds,
            reduced=plan.learning_rate is not None,
        )

    @property
    def checkpoint(self) -> Path | None:
        """File of this fit's state: another one for other images or settings; None for none."""
        if self.folder is None:
            return None
        tuner = self.tuner
        settings = [tuner.backbone, tuner.epochs, tuner.flip, tuner.random_state, self.budget]
        digest = hashlib.sha256(json.dumps([_VERSION, *map(str, settings)]).encode())
        names = (self.train.ids, training_labels(self.train), self.train.groups)
        digest.update(
            json.dumps([None if n is None else list(map(str, n)) for n in names]).encode()
        )
        for source in self.train.sources:
            with suppress(UnreadableImage):
                digest.update(content_hash(read_source(source)))
        return self.folder / "comparisons" / f"{digest.hexdigest()[:32]}.checkpoint"


def resumed_plan(checkpoint: Path | None) -> FineTuningPlan | None:
    """Read the plan of an interrupted fit; None if there is none, or it is damaged."""
    if checkpoint is None or not checkpoint.exists():
        return None
    try:
        document = json.loads(_notes(checkpoint).read_text(encoding="utf-8"))
        return replace(FineTuningPlan(**document), resumed=True)
    except (OSError, ValueError, TypeError):
        checkpoint.unlink(missing_ok=True)  # without its plan it is of no use
        return None


def note_plan(checkpoint: Path | None, plan: FineTuningPlan) -> None:
    """Write a plan beside its checkpoint: a second trial would measure another speed."""
    if checkpoint is None:
        return
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        _notes(checkpoint).write_text(json.dumps(asdict(plan)), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {_notes(checkpoint)}: {error.strerror}") from error


def _notes(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".json")


def _forget(checkpoint: Path | None) -> None:
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
        _notes(checkpoint).unlink(missing_ok=True)


def _announcement(plan: FineTuningPlan, epochs: int) -> str:
    if plan.resumed:
        return "fine-tuning: going on where it was interrupted"
    rate = "three learning rates tried" if plan.learning_rate is None else "one learning rate"
    some = "" if plan.epochs == epochs else f" of {epochs}"
    these = f"{plan.epochs}{some} {plural(plan.epochs, 'epoch')}"
    shorter = ", shortened to fit the budget" if plan.reduced else ""
    return f"fine-tuning: about {duration(plan.estimated_seconds)} ({these}, {rate}{shorter})"


def _too_long(plan: FineTuningPlan, budget: float) -> str:
    epochs = f"{plan.epochs} {plural(plan.epochs, 'epoch')}"
    return (
        f"fine-tuning was skipped: {epochs} at one learning rate would have taken about "
        f"{duration(plan.estimated_seconds)}, more than the budget of {duration(budget)}"
    )
