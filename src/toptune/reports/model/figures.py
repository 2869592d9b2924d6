"""The figures of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toptune.evaluation.classification import ReliabilityBin
from toptune.reports.comparison.result import Curve
from toptune.reports.html.drawing import INK, MUTED, PAPER, RULE, canvas, legend
from toptune.reports.model.result import FeatureMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, AMBER = "#0072b2", "#d55e00", "#009e73", "#b0508c", "#a87900"
#: Colours and marks of classes: both change from one class to the next, for those who see few
#: colours.
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, INK)
MARKS = ("o", "s", "^", "D", "v", "P")
#: Classes that have a colour and a mark of their own; more could not be told apart.
DISTINCT = 18


def reliability_figure(bins: tuple[ReliabilityBin, ...]) -> Figure:
    """Share of right answers against the probability that was given them."""
    from scipy.stats import binomtest

    total = sum(row.count for row in bins)
    with canvas(6.4, 4.6) as (figure, axes):
        axes.plot(
            [0, 1], [0, 1], color=MUTED, linewidth=1.2, label="probabilities as they should be"
        )
        middles = [(row.low + row.high) / 2 for row in bins]
        axes.bar(
            middles,
            [row.count / total for row in bins],
            width=0.9 * (bins[0].high - bins[0].low),
            color=RULE,
            label="part of the images",
        )
        filled = [(r.confidence, r.accuracy, r.count) for r in bins if r.confidence is not None]
        x = [confidence for confidence, _, _ in filled]
        y = [float(accuracy or 0.0) for _, accuracy, _ in filled]
        ends = [
            binomtest(round(share * n), n).proportion_ci(method="wilson")
            for share, (_, _, n) in zip(y, filled, strict=True)
        ]
        axes.vlines(x, [e.low for e in ends], [e.high for e in ends], color=BLUE, linewidth=1.4)
        axes.plot(
            x, y, linestyle="none", marker="o", color=BLUE, markersize=6, label="right answers"
        )
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("probability of the answer")
        axes.set_ylabel("share of right answers")
        legend(axes)
        return figure


def curve_figure(curve: Curve, *, on_data: bool) -> Figure:
    """Accuracy against the number of training images, and what more would bring."""
    sizes = [point.n for point in curve.points]
    measured = [float(point.test_accuracy) for point in curve.points]
    with canvas(6.4, 4.2) as (figure, axes):
        name = "accuracy on the data" if on_data else "accuracy"
        axes.plot(sizes, measured, color=BLUE, marker="o", markersize=6, label=name)
        if on_data:
            left_out = [point.loo_accuracy for point in curve.points]
            axes.plot(
                sizes,
                left_out,
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


def map_figure(found: FeatureMap) -> Figure:
    """Training images in a plane, by class; hollow where leave-one-out contradicts the label."""
    names = [str(label) for label in found.labels]
    shown = named_classes(found)
    rest = np.array([name not in shown for name in names])
    with canvas(8, 5.6) as (figure, axes):
        if rest.any():
            name = f"{len(set(names)) - len(shown)} other classes"
            _points(axes, found, rest, MUTED, ".", name=name)
        for code, name in enumerate(shown):
            chosen = np.array([other == name for other in names])
            _points(axes, found, chosen, *mark_of(code), name=name)
        for axis, share, which in zip((axes.xaxis, axes.yaxis), found.shares, "12", strict=True):
            axis.set_label_text(f"component {which}: {100 * share:.0f} % of the variance")
            axis.set_ticks([])
        axes.grid(visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9, labelspacing=0.35)
        return figure


def named_classes(found: FeatureMap) -> list[str]:
    """Classes that the map tells apart: all, or those with most errors, in alphabetical order."""
    names = np.array([str(label) for label in found.labels])
    classes, codes = np.unique(names, return_inverse=True)
    errors = np.bincount(codes, weights=~found.right)
    chosen = np.argsort(-errors, kind="stable")[:DISTINCT]
    return [str(classes[k]) for k in np.sort(chosen)]


def mark_of(code: int) -> tuple[str, str]:
    """Return the colour and the mark of a class."""
    k = len(COLOURS)
    return COLOURS[code % k], MARKS[(code + code // k) % k]


def _points(
    axes: Axes, found: FeatureMap, chosen: np.ndarray, color: str, mark: str, *, name: str
) -> None:
    """Draw some of the images; the legend shows the filled mark also where all are hollow."""
    for right in (True, False):
        rows = chosen & (found.right == right)
        axes.plot(
            found.points[rows, 0],
            found.points[rows, 1],
            linestyle="none",
            marker=mark,
            markersize=5.5,
            color=color,
            markerfacecolor=color if right else PAPER,
            markeredgewidth=0.6 if right else 1.4,
            markeredgecolor=PAPER if right else color,
            label=name if right else None,
        )
