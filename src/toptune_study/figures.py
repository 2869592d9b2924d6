"""The figures of a report, each drawn from the summary of a study.

Each hue stands for one role, and marks differ in shape too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from toptune.reports.html.drawing import INK, MUTED, PAPER, RULE, canvas, legend
from toptune_study.frames import Method
from toptune_study.summary import Missing, Summary, attempt
from toptune_study.tables import method_title, short_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and mark of each head.
STYLES = {
    "kernel": ("#0072b2", "o"),
    "gaussian": ("#3b9fc9", "o"),
    "laplacian": ("#3b9fc9", "D"),
    "linear": ("#a87900", "s"),
    "logistic": ("#009e73", "^"),
    "ridge": ("#b0508c", "v"),
    "svc": (INK, "P"),
    "knn": (MUTED, "X"),
    "centroid": (MUTED, "*"),
}
TUNED = ("#d55e00", "^")


def style_of(method: Method) -> dict[str, Any]:
    """Return colour, mark and filling of a method; hollow marks are of the last layer."""
    color, mark = TUNED if method.layers is None else STYLES.get(method.head, (MUTED, "o"))
    hollow = method.layers == "last"
    return {
        "color": color,
        "marker": mark,
        "markerfacecolor": PAPER if hollow else color,
        "markeredgecolor": color,
        "markeredgewidth": 1.4 if hollow else 0.8,
    }


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows with data sets, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _accuracy(summary: Summary) -> Figure:
    """Accuracy on each data set, in the order of what top-tuning gains over fine-tuning."""
    scores, versus = summary.scores.scores, attempt(lambda: summary.versus_full)
    # Data sets that fine-tuning has not seen yet come last.
    gain = scores.iloc[:, 0] if isinstance(versus, Missing) else versus.differences
    scores = scores.loc[(-gain.reindex(scores.index)).sort_values(kind="stable").index]
    heights = np.arange(len(scores))
    with canvas(8, 1.1 + 0.235 * len(scores)) as (figure, axes):
        axes.hlines(
            heights, scores.min(axis=1), scores.max(axis=1), color=RULE, linewidth=3, zorder=1
        )
        # Methods a little apart in height, so that equal accuracies do not hide each other.
        k = scores.shape[1]
        apart = np.linspace(-0.2, 0.2, k) if k > 1 else [0.0]
        for shift, (method, values) in zip(apart, scores.items(), strict=True):
            axes.plot(
                values,
                heights + shift,
                linestyle="none",
                markersize=7,
                label=method_title(method, summary),
                **style_of(method),
            )
        _rows(axes, scores.index.tolist())
        axes.set_xlabel("test accuracy")
        legend(axes, 1)
        return figure


def _ranks(summary: Summary) -> Figure:
    """Critical-difference diagram of heads on the same features."""
    found = summary.ranking
    from scikit_posthocs import critical_difference_diagram

    ranks = found.ranks.set_axis([method.head for method in found.ranks.index])
    apart = np.abs(np.subtract.outer(ranks.to_numpy(), ranks.to_numpy()))
    # The diagram asks for p-values: those of Nemenyi's test are below 5 % where this is 0.
    not_different = pd.DataFrame(
        (apart <= found.critical_difference).astype(float), ranks.index, ranks.index
    )
    k = len(ranks)
    with canvas(8, 1.3 + 0.3 * k) as (figure, axes):
        axes.grid(visible=False)
        axes.hlines(0, 1, k, color=INK, linewidth=1.2)
        axes.set_xticks(range(1, k + 1))
        drawn = critical_difference_diagram(
            ranks,
            not_different,
            cd=found.critical_difference,
            ax=axes,
            label_fmt_left="{label}  {rank:.2f} ",
            label_fmt_right=" {label}  {rank:.2f}",
            color_palette={name: STYLES.get(name, (INK, ""))[0] for name in ranks.index},
            marker_props={"s": 16},
            elbow_props={"linewidth": 1.1},
            crossbar_props={"color": INK, "linewidth": 3},
            text_h_margin=0.3,
        )
        for (bar,) in drawn["crossbars"]:  # whose points come in the order of a set
            bar.set_xdata(sorted(bar.get_xdata()))
        return figure


def _times(summary: Summary) -> Figure:
    """How many times longer fine-tuning trains, by data set."""
    found = summary.times_full
    ratios = found.seconds["ratio"].sort_values(ascending=False, kind="stable")
    with canvas(8, 1.1 + 0.235 * len(ratios)) as (figure, axes):
        if found.interval is not None:
            axes.axvspan(*found.interval, color=RULE, linewidth=0, zorder=0)
        axes.axvline(
            found.geometric_mean,
            color=MUTED,
            linewidth=1.2,
            label=f"geometric mean {found.geometric_mean:.1f}, 95 % interval",
        )
        color, mark = STYLES["kernel"]
        axes.plot(
            ratios, range(len(ratios)), linestyle="none", marker=mark, color=color, markersize=7
        )
        _rows(axes, ratios.index.tolist())
        _log_axis(axes)
        if ratios.min() > 1:
            axes.set_xlim(left=1)
        axes.set_xlabel("training time of fine-tuning / training time of top-tuning")
        legend(axes)
        return figure


def _log_axis(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _labels_at_ends(axes: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Write names beside the right ends of lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.052 * (high - low)
    ends = sorted(ends, reverse=True)
    heights = [height for height, _, _ in ends]
    for k in range(1, len(heights)):
        heights[k] = min(heights[k], heights[k - 1] - gap)
    # What was pushed down goes back up by the mean of the shifts, but not out of the axes.
    shift = float(np.mean([end[0] for end in ends])) - float(np.mean(heights))
    shift = min(shift, high - gap / 2 - heights[0])
    for (_, text, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            text, (x, height + shift), (10, 0), textcoords="offset points", va="center", color=color
        )


def _sizes(summary: Summary) -> Figure:
    """Accuracy against the part of the training images, a line a head."""
    found = summary.sizes
    sizes: list[float] = found.table.columns.tolist()
    with canvas(8, 4.2) as (figure, axes):
        ends = []
        for method, means in found.table.iterrows():
            style = style_of(method)
            width = 2.4 if method == summary.reference else 1.3
            axes.plot(sizes, means, linewidth=width, markersize=6, zorder=2 + width, **style)
            ends.append((float(means.iloc[-1]), method.head, style["color"]))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{100 * size:g} %" for size in sizes])
        axes.minorticks_off()
        axes.margins(x=0.04)
        axes.set_xlabel("part of the training images")
        axes.set_ylabel(f"accuracy, mean of {found.n_datasets} data sets")
        _labels_at_ends(axes, sizes[-1], ends)
        return figure


def _backbones(summary: Summary) -> Figure:
    """Accuracy against the network, a line for each head and layers."""
    found = summary.backbones
    names: list[str] = found.table.columns.tolist()
    with canvas(8, 3.8) as (figure, axes):
        ends = []
        for method, means in found.table.iterrows():
            style = style_of(method)
            dashed = "--" if method.layers == "last" else "-"
            axes.plot(range(len(names)), means, linestyle=dashed, markersize=7, **style)
            ends.append((float(means.iloc[-1]), short_title(method), style["color"]))
        axes.set_xticks(range(len(names)), names)
        axes.margins(x=0.06)
        axes.set_ylabel(f"accuracy, mean of {found.n_datasets} data sets")
        _labels_at_ends(axes, len(names) - 1, ends)
        return figure


def _cost(summary: Summary) -> Figure:
    """Mean accuracy against seconds of training, methods on the same data sets."""
    found = summary.costs
    with canvas(8, 4.8) as (figure, axes):
        for method, row in found.table.iterrows():
            axes.plot(
                row["seconds"],
                row["accuracy"],
                linestyle="none",
                markersize=10 if method in summary.main else 7,
                label=method_title(method, summary),
                **style_of(method),
            )
        _log_axis(axes)
        axes.set_xlabel("seconds of training, geometric mean (left is better)")
        axes.set_ylabel(f"accuracy, mean of {found.n_datasets} data sets")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, labelspacing=0.35)
        return figure


#: Figures by name: what draws each, and what it shows.
FIGURES = {
    "accuracy": (_accuracy, "Test accuracy on each data set"),
    "ranks": (_ranks, "Mean ranks of heads, and which do not differ significantly"),
    "times": (_times, "How many times longer fine-tuning trains"),
    "sizes": (_sizes, "Accuracy against the part of the training images"),
    "backbones": (_backbones, "Accuracy against the network"),
    "cost": (_cost, "Accuracy against seconds of training"),
}
