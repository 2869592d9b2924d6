"""Learning curve of top-tuning, from the features that were extracted, and its figure."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataWarning
from toptune.evaluation.learning_curve import Extrapolation, extrapolate, nested_subsets
from toptune.features import Features
from toptune.model.fitted_model import FittedModel
from toptune.model.fitting import fit_model
from toptune.reports.html import text
from toptune.reports.html.drawing import BLUE, GREEN, ORANGE, PAPER, canvas, legend
from toptune.runtime.progress import progress_bar
from toptune.tasks import training_labels
from toptune.tuner import TopTuner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Parts of the training images that the curve is measured at.
FRACTIONS = (0.125, 0.25, 0.5, 1.0)

# Draws of each part, fewer where a fit takes long.
_DRAWS, _DRAWS_OF_MANY, _MANY = 5, 3, 2000

# A smaller part must have at most so much of the images of the next one.
_STEP = 0.8


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after training on some of the images, the mean of several draws.

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
class LearningCurve:
    """Learning curve of top-tuning.

    Attributes
    ----------
    points : tuple of CurvePoint
        From few images to all of them.
    extrapolation : Extrapolation
        What more images would bring.
    seconds : float
        Time that it took to measure.
    """

    points: tuple[CurvePoint, ...]
    extrapolation: Extrapolation
    seconds: float

    @property
    def forecast(self) -> str:
        """What more images would bring, in a sentence."""
        return text.forecast(self.extrapolation, self.points[-1].test_accuracy)


def measured_curve(
    tuner: TopTuner, features: Features, test: Features | None, predicted: NDArray[Any]
) -> LearningCurve:
    """Fit the head to parts of the training images, and evaluate it.

    Parameters
    ----------
    tuner : TopTuner
        Fitted to `features`.
    features : Features
        Of all training images, with labels.
    test : Features or None
        What to evaluate on. None means the training images: those of the part by leave-one-out,
        the others by the model that was not fitted to them.
    predicted : ndarray of str, shape (n,)
        Labels that `tuner` gives to what is evaluated on.

    Raises
    ------
    DataError
        If no model can be fitted to a part of the images.
    """
    start = time.perf_counter()
    n = len(features)
    tested = features if test is None else test
    seeds = range(_DRAWS if n <= _MANY else _DRAWS_OF_MANY)
    draws = [
        nested_subsets(
            training_labels(features),
            FRACTIONS,
            groups=features.groups,
            random_state=tuner.random_state + seed,
        )
        for seed in seeds
    ]
    sizes = np.array([[len(rows) for rows in draw] for draw in draws]).mean(axis=0)
    kept = _far_apart(sizes)
    whole = len(FRACTIONS) - 1
    loo = np.full((len(seeds), len(kept)), tuner.loo_.score)
    wrong = np.tile(predicted != tested.labels, (len(seeds), len(kept), 1))  # (S, K, n)
    with (
        warnings.catch_warnings(),
        progress_bar("learning curve", len(seeds) * (len(kept) - 1)) as advance,
    ):
        warnings.simplefilter("ignore", DataWarning)  # classes of one image, at these sizes
        for s, draw in enumerate(draws):
            for i, k in enumerate(kept[:-1]):  # the last part is the whole
                part = fit_model(
                    features.subset(draw[k]), task=tuner.task, head=tuner.head_parameters()
                )
                answers = part.predicted_labels(tested)
                if test is None:
                    answers[draw[k]] = left_out_labels(part)
                loo[s, i], wrong[s, i] = part.loo.score, answers != tested.labels
                advance(1)
    points = []
    for i, k in enumerate(kept):
        n_draws = 1 if k == whole else len(seeds)
        points.append(
            CurvePoint(
                fraction=FRACTIONS[k],
                n=float(sizes[k]),
                draws=n_draws,
                loo_accuracy=float(loo[:n_draws, i].mean()),
                test_accuracy=float(1 - wrong[:n_draws, i].mean()),
            )
        )
    extrapolation = extrapolate(
        sizes[kept], wrong, groups=tested.groups, random_state=tuner.random_state
    )
    return LearningCurve(tuple(points), extrapolation, time.perf_counter() - start)


def left_out_labels(model: FittedModel) -> NDArray[Any]:  # (n,)
    """Return the most probable class of each training image by the model fitted without it."""
    labels: NDArray[Any] = model.classes[model.head.loo_decision_function_.argmax(axis=1)]
    return labels


def curve_figure(curve: LearningCurve, *, tested: str) -> Figure:
    """Draw accuracy against the number of training images, and the forecasts.

    `tested` names the images it was measured on; empty for the training images themselves.
    """
    sizes = [point.n for point in curve.points]
    measured = [float(point.test_accuracy) for point in curve.points]
    with canvas(6.4, 4.2) as (figure, axes):
        name = f"accuracy on the {tested}" if tested else "accuracy"
        axes.plot(sizes, measured, color=BLUE, marker="o", markersize=6, label=name)
        if tested:
            axes.plot(
                sizes,
                [point.loo_accuracy for point in curve.points],
                color=GREEN,
                marker="^",
                markersize=6,
                linestyle="--",
                label="leave-one-out",
            )
        more = [
            (sizes[-1] * f.multiple, f.gain, f.low, f.high)
            for f in curve.extrapolation.forecasts
            if f.gain is not None and f.low is not None and f.high is not None
        ]
        if more:
            now = measured[-1]
            x = [n for n, _, _, _ in more]
            low, high = ([now + row[k] for row in more] for k in (2, 3))
            axes.vlines(x, low, high, color=ORANGE, linewidth=1.4)
            axes.plot(
                x,
                [now + gain for _, gain, _, _ in more],
                linestyle="none",
                marker="s",
                markersize=6,
                markerfacecolor=PAPER,
                color=ORANGE,
                label="forecast, 95 % interval",
            )
        ticks = [*sizes, *(n for n, _, _, _ in more)]
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{n:,.0f}" for n in ticks])
        axes.minorticks_off()
        axes.margins(x=0.06, y=0.12)
        axes.set_xlabel("training images")
        axes.set_ylabel("accuracy")
        legend(axes)
        return figure


def _far_apart(sizes: NDArray[np.float64]) -> list[int]:
    """Return the positions of sizes that differ enough, from the largest one down; ascending."""
    kept = [len(sizes) - 1]
    for k in range(len(sizes) - 2, -1, -1):
        if sizes[k] <= _STEP * sizes[kept[0]]:
            kept.insert(0, k)
    return kept
