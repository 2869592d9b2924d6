"""The figures of a report, each drawn from the summary of a study.

Each hue stands for one role, and marks differ in shape too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toptune.reports.html.drawing import INK, MUTED, PAPER, RULE, canvas, legend
from toptune_study.analysis import Method
from toptune_study.contents import method_title
from toptune_study.summary import Missing, Summary

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
    """Colour, mark and filling of a method; hollow marks are of the last layer."""
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


def accuracy_figure(summary: Summary) -> Figure | Missing:
    """Accuracy on each data set, in the order of what top-tuning gains over fine-tuning."""
    table = summary.scores
    if isinstance(table, Missing):
        return table
    versus = summary.versus_full
    if isinstance(versus, Missing):
        gain = {name: 2.0 + row[0] for name, row in zip(table.datasets, table.scores, strict=True)}
    else:
        # Data sets that fine-tuning has not seen yet come last.
        gain = dict(zip(versus.datasets, versus.differences.tolist(), strict=True))
    order = sorted(
        range(len(table.datasets)),
        key=lambda k: (-gain.get(table.datasets[k], -9.0), table.datasets[k]),
    )
    scores = table.scores[order]
    with canvas(8, 1.1 + 0.235 * len(order)) as (figure, axes):
        for y, row in enumerate(scores):
            known = row[np.isfinite(row)]
            axes.plot([known.min(), known.max()], [y, y], color=RULE, linewidth=3, zorder=1)
        # Methods a little apart in height, so that equal accuracies do not hide each other.
        apart = np.linspace(-0.2, 0.2, len(table.methods)) if len(table.methods) > 1 else [0.0]
        for j, method in enumerate(table.methods):
            axes.plot(
                scores[:, j],
                np.arange(len(order)) + apart[j],
                linestyle="none",
                markersize=7,
                label=method_title(method, summary),
                **style_of(method),
            )
        _rows(axes, [table.datasets[k] for k in order])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("test accuracy")
        legend(axes, 1)
        return figure


def ranks_figure(summary: Summary) -> Figure | Missing:
    """Critical-difference diagram of heads on the same features."""
    found = summary.ranking
    if isinstance(found, Missing):
        return found
    ranks, k = found.ranks.tolist(), len(found.ranks)
    half = (k + 1) // 2
    depth = 0.9 + 0.35 * len(found.groups)
    with canvas(8, 1.5 + 0.28 * (half + len(found.groups))) as (figure, axes):
        axes.set_axis_off()
        axes.set_xlim(1 - 0.36 * (k - 1), k + 0.36 * (k - 1))
        axes.set_ylim(-(depth + 0.62 * half), 1.75)
        axes.plot([1, k], [0, 0], color=INK, linewidth=1.2)
        for tick in range(1, k + 1):
            axes.plot([tick, tick], [0, 0.14], color=INK, linewidth=1.2)
            axes.text(tick, 0.25, str(tick), ha="center", va="bottom")
        axes.plot([1, 1 + found.critical_difference], [1.15, 1.15], color=INK, linewidth=2)
        label = f"critical difference {found.critical_difference:.2f}"
        axes.text(1, 1.28, label, ha="left", va="bottom")
        for place, (column, rank) in enumerate(zip(found.columns, ranks, strict=True)):
            left = place < half
            row = place if left else k - 1 - place
            y = -(depth + 0.62 * row)
            edge, side = (0.94, "right") if left else (k + 0.06, "left")
            color, _ = STYLES.get(column.method.head, (INK, ""))
            axes.plot([rank, rank, edge], [0, y, y], color=color, linewidth=1.1)
            axes.text(
                edge + (-0.05 if left else 0.05),
                y,
                f"{column.method.head}  {rank:.2f}",
                ha=side,
                va="center",
            )
        for level, group in enumerate(found.groups):
            y = -0.35 - 0.35 * level
            ends = [ranks[group[0]] - 0.04, ranks[group[-1]] + 0.04]
            axes.plot(ends, [y, y], color=INK, linewidth=4, solid_capstyle="round")
        return figure


def times_figure(summary: Summary) -> Figure | Missing:
    """How many times longer fine-tuning trains, by data set."""
    found = summary.times_full
    if isinstance(found, Missing):
        return found
    order = np.argsort(-found.ratios, kind="stable")
    with canvas(8, 1.1 + 0.235 * len(order)) as (figure, axes):
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
            found.ratios[order],
            range(len(order)),
            linestyle="none",
            marker=mark,
            color=color,
            markersize=7,
        )
        _rows(axes, [found.datasets[k] for k in order.tolist()])
        axes.grid(axis="y", visible=False)
        _log_axis(axes)
        if found.ratios.min() > 1:
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


def sizes_figure(summary: Summary) -> Figure | Missing:
    """Accuracy against the part of the training images, a line a head."""
    found = summary.sizes
    if isinstance(found, Missing):
        return found
    sizes = [column.size for column in found.lines[0]]
    with canvas(8, 4.2) as (figure, axes):
        ends = []
        for line, means in zip(found.lines, found.means, strict=True):
            style = style_of(line[0].method)
            width = 2.4 if line[0].method == summary.reference else 1.3
            axes.plot(sizes, means, linewidth=width, markersize=6, zorder=2 + width, **style)
            ends.append((float(means[-1]), line[0].method.head, style["color"]))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{100 * size:g} %" for size in sizes])
        axes.minorticks_off()
        axes.margins(x=0.04)
        axes.set_xlabel("part of the training images")
        axes.set_ylabel(f"accuracy, mean of {len(found.datasets)} data sets")
        _labels_at_ends(axes, sizes[-1], ends)
        return figure


def backbones_figure(summary: Summary) -> Figure | Missing:
    """Accuracy against the network, a line for each head and layers."""
    found = summary.backbones
    if isinstance(found, Missing):
        return found
    names = [column.method.backbone for column in found.lines[0]]
    with canvas(8, 3.8) as (figure, axes):
        ends = []
        for line, means in zip(found.lines, found.means, strict=True):
            style = style_of(line[0].method)
            dashed = "--" if line[0].method.layers == "last" else "-"
            axes.plot(range(len(names)), means, linestyle=dashed, markersize=7, **style)
            layers = "many layers" if line[0].method.layers == "auto" else "last layer"
            ends.append((float(means[-1]), f"{line[0].method.head}, {layers}", style["color"]))
        axes.set_xticks(range(len(names)), names)
        axes.margins(x=0.06)
        axes.set_ylabel(f"accuracy, mean of {len(found.datasets)} data sets")
        _labels_at_ends(axes, len(names) - 1, ends)
        return figure


def cost_figure(summary: Summary) -> Figure | Missing:
    """Mean accuracy against seconds of training, methods on the same data sets."""
    found = summary.costs
    if isinstance(found, Missing):
        return found
    table, times = found
    with canvas(8, 4.8) as (figure, axes):
        for j, method in enumerate(table.methods):
            large = method in summary.main
            axes.plot(
                [times[method]],
                [table.scores[:, j].mean()],
                linestyle="none",
                markersize=10 if large else 7,
                label=method_title(method, summary),
                **style_of(method),
            )
        _log_axis(axes)
        axes.set_xlabel("seconds of training, geometric mean (left is better)")
        axes.set_ylabel(f"accuracy, mean of {len(table.datasets)} data sets")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, labelspacing=0.35)
        return figure


#: Figures by name: what draws each, and what it shows.
FIGURES = {
    "accuracy": (accuracy_figure, "Test accuracy on each data set"),
    "ranks": (ranks_figure, "Mean ranks of heads, and which do not differ significantly"),
    "times": (times_figure, "How many times longer fine-tuning trains"),
    "sizes": (sizes_figure, "Accuracy against the part of the training images"),
    "backbones": (backbones_figure, "Accuracy against the network"),
    "cost": (cost_figure, "Accuracy against seconds of training"),
}
