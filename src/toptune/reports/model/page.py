"""The page of a report."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toptune.reports.comparison.result import duration, energy, forecast_text
from toptune.reports.html.drawing import inline_svg, svg_text
from toptune.reports.html.pictures import thumbnail
from toptune.reports.html.rendering import render
from toptune.reports.model.figures import DISTINCT, curve_figure, map_figure, reliability_figure
from toptune.reports.model.result import Disagreement, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Classes of which the page shows a whole confusion matrix, and confusions that it lists otherwise.
MATRIX_CLASSES, CONFUSIONS = 25, 15

STAGES = {
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
        "reliability": _inline(
            reliability_figure(report.evaluation.reliability), "reliability", "Reliability"
        ),
        "curve": None
        if report.curve is None
        else _inline(
            curve_figure(report.curve, on_data=report.source == "data"), "curve", "Learning curve"
        ),
        "forecast": "" if report.curve is None else forecast_text(report.curve),
        "map": None
        if report.feature_map is None
        else _inline(map_figure(report.feature_map), "map", "Map of the training images"),
        "few_classes": len(report.evaluation.classes) <= DISTINCT,
        "errors": _pictured(report.errors),
        "suspected": _pictured(report.suspected),
        "times": _times(report),
        "provenance": _provenance(report),
    }
    return render("toptune.reports.model", "report.html.j2", content)


def _inline(figure: Figure, name: str, title: str) -> Any:
    from markupsafe import Markup

    return Markup(inline_svg(svg_text(figure), name, html.escape(title)))


def _left_out(report: Report) -> str:
    grouped = report.source == "leave-one-out" and report.n_groups is not None
    return "leave-one-group-out" if grouped else "leave-one-out"


def _cards(report: Report) -> list[dict[str, str]]:
    """Return the first numbers of the page: value, what it is, and what to mind."""
    found = report.evaluation
    where = f"{found.n:,} images"
    if report.n_groups is not None:
        where += f" in {report.n_groups:,} groups"
    share = f"{100 * report.n_suspected / report.n_images:.1f} %"
    return [
        {
            "value": f"{100 * found.accuracy:.1f} %",
            "what": "accuracy",
            "detail": f"95 % interval {_percents(report.interval)}; {where}",
        },
        {
            "value": f"{100 * found.balanced_accuracy:.1f} %",
            "what": "balanced accuracy",
            "detail": f"mean recall of {len(found.classes)} classes",
        },
        {
            "value": f"{100 * found.ece:.1f} points",
            "what": "calibration error",
            "detail": "how far probabilities are from the share of right answers",
        },
        {
            "value": "–" if report.no_leave_one_out else f"{report.n_suspected:,}",
            "what": "suspected labels",
            "detail": f"{share} of {report.n_images:,} training images",
        },
    ]


def _percents(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


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
            part = f"{100 * wrong[i, j] / counts[i].sum():.1f} %"
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
    rows = [(STAGES.get(name, name), duration(value)) for name, value in report.seconds.items()]
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
