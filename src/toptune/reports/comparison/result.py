"""What a comparison of top-tuning with fine-tuning found, and the sentences that say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toptune.evaluation.intervals import PairedDifference
from toptune.evaluation.learning_curve import Extrapolation
from toptune.images import Quarantined

#: p-value below which a difference is called beyond chance.
LEVEL = 0.05


@dataclass(frozen=True)
class MethodOutcome:
    """How good a method is, and what it cost.

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


@dataclass(frozen=True)
class FineTuningPlan:
    """How the network was, or would have been, fine-tuned.

    Attributes
    ----------
    epochs : int
        How often every image is seen.
    learning_rate : float or None
        None before it is chosen on a validation part of the training images.
    estimated_seconds : float
        What a trial of a few steps promised.
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
class CurvePoint:
    """Accuracy of top-tuning after training on some of the images, the mean of several draws.

    Attributes
    ----------
    fraction : float
        Of the training images that was asked for.
    n : float
        Number of images that were taken.
    draws : int
        How many subsets were drawn.
    loo_accuracy, test_accuracy : float
        Leave-one-out (leave-one-group-out, where there are groups) on the subset, and on the test
        images.
    """

    fraction: float
    n: float
    draws: int
    loo_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Curve:
    """Learning curve of top-tuning.

    Attributes
    ----------
    points : tuple of CurvePoint
        From few images to all of them.
    extrapolation : Extrapolation
        What more images would bring.
    seconds : float
        What measuring it took.
    """

    points: tuple[CurvePoint, ...]
    extrapolation: Extrapolation
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

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
    curve : Curve
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
    curve: Curve
    quarantined: tuple[Quarantined, ...]

    @property
    def ratio(self) -> float | None:
        """Training time of fine-tuning over that of top-tuning."""
        if self.fine_tuning is None:
            return None
        return self.fine_tuning.total_seconds / self.top_tuning.total_seconds

    @property
    def verdict(self) -> str:
        """One or two plain sentences: what fine-tuning gains or loses, and what it costs."""
        if self.fine_tuning is None or self.difference is None:
            accuracy = (
                f"Top-tuning is right on {100 * self.top_tuning.accuracy:.1f} % of the test images"
            )
            cost = f"after {duration(self.top_tuning.total_seconds)} of training"
            return f"{accuracy} {cost}; {self.skipped}."
        cost = _cost(self.top_tuning, self.fine_tuning)
        return f"{_gain(self.difference)} {cost}.{_caution(self.plan)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        found = asdict(self)
        for name, outcome in (("top_tuning", self.top_tuning), ("fine_tuning", self.fine_tuning)):
            if outcome is not None:
                found[name]["total_seconds"] = outcome.total_seconds
        return found | {"ratio": self.ratio, "verdict": self.verdict}


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
    ratio = fine.total_seconds / top.total_seconds
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    text = (
        f"and takes {duration(fine.total_seconds)} instead of {duration(top.total_seconds)} "
        f"({times} times"
    )
    if fine.energy_kwh is not None and top.energy_kwh is not None:
        text += f", an estimated {energy(fine.energy_kwh)} instead of {energy(top.energy_kwh)}"
    return f"{text})"


def _caution(plan: FineTuningPlan | None) -> str:
    if plan is None or not plan.reduced:
        return ""
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs} epochs"
    return f" The budget allowed it {epochs} at one learning rate: more could change this."


def forecast_text(curve: Curve) -> str:
    """Say in a sentence what more images would bring."""
    found = curve.extrapolation
    if curve.points[-1].test_accuracy == 1:
        return "all test images are right already: more images could show no gain on them"
    if found.status == "too few sizes":
        return "too few images to say what more of them would bring"
    if found.status == "flat":
        return "no fall of the error beyond chance, so it does not show that more images would help"
    if found.status == "not identified":
        return "too uncertain to say what more images would bring"
    parts = []
    for forecast in found.forecasts:
        times = f"{forecast.multiple:g} times the images:"
        if forecast.gain is None or forecast.low is None or forecast.high is None:
            parts.append(f"{times} too uncertain to say")
            continue
        low, high = 100 * forecast.low, 100 * forecast.high
        parts.append(f"{times} {100 * forecast.gain:+.1f} points ({low:.1f} to {high:.1f})")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """Write a duration in words.

    Examples
    --------
    >>> [duration(value) for value in (0.42, 61.4, 1860, 9000)]
    ['0.4 seconds', '61 seconds', '31 minutes', '2.5 hours']
    """
    if seconds < 100:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    if seconds < 100 * 60:
        minutes = seconds / 60
        return f"{minutes:.1f} minutes" if minutes < 10 else f"{minutes:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def energy(kwh: float) -> str:
    """Write an energy with a unit that suits it.

    Examples
    --------
    >>> energy(0.000012), energy(0.0312), energy(1.2)
    ('0.012 Wh', '31.2 Wh', '1.2 kWh')
    """
    return f"{kwh:.1f} kWh" if kwh >= 1 else f"{1000 * kwh:.3g} Wh"
