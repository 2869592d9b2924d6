"""Page of the evaluation of a model, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toptune.evaluation.classification import ReliabilityBin
from toptune.reports.html.drawing import (
    BLUE,
    COLOURS,
    MUTED,
    PAPER,
    RULE,
    canvas,
    inline_figure,
    legend,
)
from toptune.reports.html.pictures import thumbnail
from toptune.reports.html.rendering import render
from toptune.reports.html.text import card, duration, energy, percent, percents
from toptune.reports.learning_curve import curve_figure
from toptune.reports.model.result import Disagreement, FeatureMap, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Marks of classes. They and the colours change from one class to the next, for those who see few
#: colours.
MARKS = ("o", "s", "^", "D", "v", "P")

#: Classes with a colour and a mark of their own; more could not be distinguished.
DISTINCT = 18

#: Classes of which the page shows a whole confusion matrix, and confusions that it lists otherwise.
MATRIX_CLASSES, CONFUSIONS = 25, 15

_STAGES = {
    "decode_extract": "decoding and extraction",
    "select": "choosing hyperparameters",
    "fit": "fitting the head",
    "predict": "reading and predicting the data",
}


def report_page(report: Report, *, model: str = "") -> str:
    """Return a report as one HTML page that needs no other file.

    Parameters
    ----------
    report : Report
        What `build_report` returned.
    model : str, optional
        Name of the model, to be shown.
    """
    content = {
        "report": report,
        "evaluation": report.evaluation,
        "model": model,
        "cards": _cards(report),
        "left_out": _left_out(report),
        "classes": _class_rows(report),
        "matrix": _matrix(report) if len(report.evaluation.classes) <= MATRIX_CLASSES else [],
        "confusions": _confusions(report),
        "reliability": inline_figure(
            reliability_figure(report.evaluation.reliability), "reliability", "Reliability"
        ),
        "curve": None
        if report.curve is None
        else inline_figure(
            curve_figure(report.curve, tested="data" if report.source == "data" else ""),
            "curve",
            "Learning curve",
        ),
        "forecast": "" if report.curve is None else report.curve.forecast,
        "map": None
        if report.feature_map is None
        else inline_figure(map_figure(report.feature_map), "map", "Map of the training images"),
        "few_classes": len(report.evaluation.classes) <= DISTINCT,
        "errors": _pictured(report.errors),
        "suspected": _pictured(report.suspected),
        "times": _times(report),
        "provenance": _provenance(report),
    }
    return render("toptune.reports.model", "report.html.j2", content)


def _left_out(report: Report) -> str:
    grouped = report.source == "leave-one-out" and report.n_groups is not None
    return "leave-one-group-out" if grouped else "leave-one-out"


def _cards(report: Report) -> list[dict[str, str]]:
    found = report.evaluation
    where = f"{found.n:,} images"
    if report.n_groups is not None:
        where += f" in {report.n_groups:,} groups"
    suspected = f"{percent(report.n_suspected / report.n_images)} of {report.n_images:,}"
    return [
        card(
            percent(found.accuracy),
            "accuracy",
            f"95 % interval {percents(report.interval)}; {where}",
        ),
        card(
            percent(found.balanced_accuracy),
            "balanced accuracy",
            f"mean recall of {len(found.classes)} classes",
        ),
        card(
            f"{100 * found.ece:.1f} points",
            "calibration error",
            "how far probabilities are from the share of right answers",
        ),
        card(
            "–" if report.no_leave_one_out else f"{report.n_suspected:,}",
            "suspected labels",
            f"{suspected} training images",
        ),
    ]


def _class_rows(report: Report) -> list[dict[str, str]]:
    rows = []
    for label, found in report.evaluation.per_class.items():
        interval = report.recalls[label]
        rows.append(
            {
                "label": str(label),
                "support": f"{found.support:,}",
                "precision": f"{found.precision:.3f}",
                "recall": "–" if interval is None else f"{found.recall:.3f}",
                "interval": "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
                "f1": "–" if interval is None else f"{found.f1:.3f}",
            }
        )
    return rows


def _matrix(report: Report) -> list[dict[str, Any]]:
    """Rows of the confusion matrix, each count with the part that it is of its row."""
    counts = report.evaluation.confusion_matrix
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = np.round(100 * counts / totals)
    return [
        {
            "label": str(label),
            "cells": [
                {"count": int(n), "part": int(part), "right": i == j}
                for j, (n, part) in enumerate(zip(counts[i], parts[i], strict=True))
            ],
        }
        for i, label in enumerate(report.evaluation.classes)
    ]


def _confusions(report: Report) -> list[dict[str, str]]:
    """Return the most frequent confusions of one class with another."""
    counts = report.evaluation.confusion_matrix
    names = [str(label) for label in report.evaluation.classes]
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j] > 0:
            part = percent(wrong[i, j] / counts[i].sum())
            rows.append({"label": names[i], "as": names[j], "n": str(wrong[i, j]), "part": part})
    return rows


def _pictured(rows: Sequence[Disagreement]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "label": row.label,
            "predicted": row.predicted,
            "probability": f"{100 * row.probability:.1f}\N{NO-BREAK SPACE}%",
            "label_probability": f"{100 * row.label_probability:.1f}\N{NO-BREAK SPACE}%",
            "picture": thumbnail(row.file),
        }
        for row in rows
    ]


def _times(report: Report) -> list[tuple[str, str]]:
    rows = [(_STAGES.get(name, name), duration(value)) for name, value in report.seconds.items()]
    training = sum(value for name, value in report.seconds.items() if name != "predict")
    rows.append(("training, in all", duration(training)))
    if report.energy_kwh is not None:
        rows.append(("energy of predicting the data, estimated", energy(report.energy_kwh)))
    return rows


def _provenance(report: Report) -> list[tuple[str, str]]:
    given = report.provenance
    head = report.head
    layers = ", ".join(f"{name} {part:.2f}" for name, part in report.layer_weights.items())
    versions = given.get("versions", {})
    folders = given.get("image_folders", [])
    rows = [
        ("network", f"{given['backbone']} ({given['architecture']})"),
        ("weights", f"SHA-256 {given['weights_sha256']}"),
        ("features", f"{report.n_features:,}; weights of layers: {layers}"),
        ("arithmetic", f"{given['engine']}, {given['precision']}, {given['device']}"),
        (
            "head",
            f"{head['kernel']} kernel, bandwidth {head['bandwidth']:.3g}, penalty "
            f"{head['penalty']:.1e}, temperature {head['temperature']:.3g}, {report.n_centers:,} "
            f"centers of {report.n_images:,} training images",
        ),
        ("training images", "; ".join(folders) or "in memory, or in several folders"),
        ("versions", "; ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    if report.source == "data":
        rows.append(("data", report.data or "given in memory"))
    return rows


def reliability_figure(bins: tuple[ReliabilityBin, ...]) -> Figure:
    """Draw the share of right answers against their probability."""
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


def map_figure(found: FeatureMap) -> Figure:
    """Draw training images in a plane; hollow where leave-one-out contradicts the label."""
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
    """Return the classes that the map marks: all, or those with most errors, sorted."""
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
