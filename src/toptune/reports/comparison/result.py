"""Result of a comparison of top-tuning with fine-tuning, and its verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toptune.evaluation.intervals import PairedDifference
from toptune.images import Quarantined
from toptune.reports.html.text import duration, energy, percent, plural, times
from toptune.reports.learning_curve import LearningCurve
from toptune.runtime.plain import plain_fields

#: p-value below which a difference is called beyond chance.
LEVEL = 0.05


@dataclass(frozen=True)
class MethodOutcome:
    """Accuracy of a method on the test images, and its cost.

    Attributes
    ----------
    accuracy : float
        On the test images.
    seconds : dict
        Of each stage of the training.
    predict_seconds : float
        Of reading and predicting the test images.
    peak_memory : int
        Most bytes that the process held during the training, those included that it held before.
    energy_kwh : float or None
        Of the training, estimated; None where it was not measured.
    """

    accuracy: float
    seconds: dict[str, float]
    predict_seconds: float
    peak_memory: int
    energy_kwh: float | None

    @property
    def total_seconds(self) -> float:
        """Time of the whole training."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and dictionaries, ready for JSON."""
        return plain_fields(self) | {"total_seconds": self.total_seconds}


@dataclass(frozen=True)
class FineTuningPlan:
    """Training of the fine-tuned network, as planned.

    Attributes
    ----------
    epochs : int
        How often every image is seen.
    learning_rate : float or None
        None before it is chosen on a validation part of the training images.
    estimated_seconds : float
        Time, estimated by a trial of a few steps.
    reduced : bool
        Whether the budget allowed less than what was asked for.
    resumed : bool
        Whether a comparison that had been interrupted was continued.
    """

    epochs: int
    learning_rate: float | None
    estimated_seconds: float
    reduced: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Comparison:
    """Comparison of top-tuning with fine-tuning.

    Attributes
    ----------
    backbone : str
        The network of both.
    split : str
        Which images are the test images: those of the split "test" or "val" of the data, or
        "random" ones.
    n_train, n_test, n_classes : int
        Numbers of images, and of classes.
    n_test_groups : int or None
        Number of groups of test images; None without groups.
    top_tuning : MethodOutcome
        Frozen network, kernel head.
    fine_tuning : MethodOutcome or None
        All weights trained; None where it was skipped.
    skipped : str or None
        Why there is no fine-tuning.
    plan : FineTuningPlan or None
        How it was done; None where it was not wanted.
    difference : PairedDifference or None
        Accuracy of fine-tuning less that of top-tuning.
    curve : LearningCurve
        Accuracy of top-tuning with fewer images, and what more would bring.
    quarantined : tuple of Quarantined
        Images set aside, with the reason.
    """

    backbone: str
    split: str
    n_train: int
    n_test: int
    n_classes: int
    n_test_groups: int | None
    top_tuning: MethodOutcome
    fine_tuning: MethodOutcome | None
    skipped: str | None
    plan: FineTuningPlan | None
    difference: PairedDifference | None
    curve: LearningCurve
    quarantined: tuple[Quarantined, ...]

    @property
    def ratio(self) -> float | None:
        """Training time of fine-tuning over that of top-tuning."""
        if self.fine_tuning is None:
            return None
        return self.fine_tuning.total_seconds / self.top_tuning.total_seconds

    @property
    def verdict(self) -> str:
        """The gain or loss of fine-tuning and its cost, in one or two sentences."""
        top = self.top_tuning
        if self.fine_tuning is None or self.difference is None:
            return (
                f"Top-tuning is right on {percent(top.accuracy)} of the test images after "
                f"{duration(top.total_seconds)} of training; {self.skipped}."
            )
        return f"{_gain(self.difference)} {_cost(top, self.fine_tuning)}.{_caution(self.plan)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return plain_fields(self) | {"ratio": self.ratio, "verdict": self.verdict}


def _gain(found: PairedDifference) -> str:
    points = 100 * found.difference
    if found.low == found.high == 0:
        return "Fine-tuning and top-tuning do not differ on these test images"
    sure = "beyond chance" if found.p_value < LEVEL else "could be chance"
    interval = f"95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}: {sure}"
    if points == 0:
        return f"Fine-tuning is right as often as top-tuning ({interval})"
    verb = "gains" if points > 0 else "loses"
    return f"Fine-tuning {verb} {abs(points):.1f} points ({interval})"


def _cost(top: MethodOutcome, fine: MethodOutcome) -> str:
    text = (
        f"and takes {duration(fine.total_seconds)} instead of {duration(top.total_seconds)} "
        f"({times(fine.total_seconds / top.total_seconds)}"
    )
    if fine.energy_kwh is not None and top.energy_kwh is not None:
        text += f", an estimated {energy(fine.energy_kwh)} instead of {energy(top.energy_kwh)}"
    return f"{text})"


def _caution(plan: FineTuningPlan | None) -> str:
    if plan is None or not plan.reduced:
        return ""
    epochs = f"{plan.epochs} {plural(plan.epochs, 'epoch')}"
    return f" The budget allowed it {epochs} at one learning rate: more could change this."
