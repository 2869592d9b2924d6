"""What `fit`, `evaluate` and `predict` print of scores and answers, whatever the task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from toptune.cli import output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toptune.tasks import LabelEvaluation, LabelPredictions, NumberPredictions
    from toptune.tuner import TopTuner

# Scores of evaluations of all tasks, in the order in which they are printed.
_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mean_average_precision": "mean average precision",
    "micro_f1": "F1 over all labels",
    "macro_f1": "mean F1 of labels",
    "subset_accuracy": "images with all labels right",
    "hamming_loss": "single labels wrong",
    "log_loss": "log-loss",
    "ece": "calibration error",
    "r2": "R2",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "spearman": "rank correlation",
    "mean_cost": "mean cost",
}
_HOW_CHOSEN = {
    "classification": "one class per image",
    "multilabel": "several labels per image",
    "regression": "a number per image",
}


def score_rows(found: Any) -> list[tuple[str, str]]:
    """Names and values of the scores of an evaluation."""
    units = {"log_loss": " nats"}
    return [
        (words, f"{value:.4f}{units.get(key, '')}")
        for key, words in _SCORES.items()
        if (value := getattr(found, key, None)) is not None
    ]


def left_out_json(tuner: TopTuner) -> dict[str, Any]:
    """Scores of leave-one-out as `fit --json` has them."""
    loo = tuner.loo_
    if tuner.task_ == "classification":
        return {"loo_accuracy": loo.accuracy, "loo_log_loss": loo.log_loss}
    return {f"loo_{key}": getattr(loo, key) for key in _SCORES if hasattr(loo, key)}


def left_out_rows(tuner: TopTuner) -> list[tuple[str, str]]:
    """Scores of leave-one-out as `fit` prints them."""
    rows = score_rows(tuner.loo_)
    if tuner.task_ == "classification":
        rows = [row for row in rows if row[0] in ("accuracy", "log-loss")]
    return [(f"leave-one-out {name}", text) for name, text in rows]


def task_row(tuner: TopTuner) -> tuple[str, str]:
    """Say what labels are, and how that was chosen."""
    how = "asked for" if tuner.task == tuner.task_ else "as the labels look; --task says otherwise"
    return "task", f"{tuner.task_}: {_HOW_CHOSEN[tuner.task_]} ({how})"


def images_row(tuner: TopTuner) -> tuple[str, str]:
    """How many images, and of how many classes or labels."""
    what = {"classification": "classes", "multilabel": "labels"}.get(tuner.task_)
    count = f", {len(tuner.classes_)} {what}" if what else ""
    return "images", f"{tuner.loo_.n}{count}"


def print_evaluation(found: Any) -> None:
    """Print the scores of an evaluation, and what there is for each class or label."""
    output.print_rows([("images", str(found.n)), *score_rows(found)])
    if hasattr(found, "confusion_matrix"):
        output.print_confusion(found)
    elif hasattr(found, "per_label"):
        _print_labels(found)


def _print_labels(found: LabelEvaluation) -> None:
    if len(found.labels) > 50:
        output.console.print(f"[dim]table of {len(found.labels)} labels: see --json[/dim]")
        return
    table = Table()
    for column in ("label", "images", "average precision", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "label" else "right")
    for label, row in found.per_label.items():
        ranked = "" if row.average_precision is None else f"{row.average_precision:.3f}"
        measured = (f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}")
        table.add_row(escape(str(label)), str(row.support), ranked, *measured)
    output.console.print(table)


def records(
    found: Any, decided: NDArray[Any], top: int, coverage: float | None
) -> list[dict[str, Any]]:
    """Answer for each image, as `predict --json` has it."""
    if hasattr(found, "values"):
        return _number_records(found, coverage)
    how = _label_records if hasattr(found, "names") else output.prediction_records
    return how(found, decided, top)


def _label_records(
    found: LabelPredictions, decided: NDArray[Any], top: int
) -> list[dict[str, Any]]:
    """Decided labels of each image, and the most probable ones."""
    return [
        {"path": path, "labels": labels, "top": ranking}
        for path, labels, ranking in zip(
            found.ids, found.names(decided), found.top(top), strict=True
        )
    ]


def _number_records(found: NumberPredictions, coverage: float | None) -> list[dict[str, Any]]:
    """Return the numbers with their intervals, null where training images are too few."""
    intervals = found.intervals() if coverage is None else found.intervals(coverage)
    return [
        {"path": path, "value": value, "low": _finite(low), "high": _finite(high)}
        for path, value, (low, high) in zip(
            found.ids, found.values.tolist(), intervals.tolist(), strict=True
        )
    ]


def print_records(rows: list[dict[str, Any]]) -> None:
    """Print the answer for each image."""
    if rows and "label" in rows[0]:
        output.print_predictions(rows)
        return
    for row in rows:
        if "value" in row:
            reach = None if row["low"] is None else (row["high"] - row["low"]) / 2
            answer = _number_text(row["value"], reach)
        else:
            ranked = "  ".join(f"{c['label']} {c['probability']:.3f}" for c in row["top"])
            answer = f"{', '.join(row['labels']) or '(none)'}  [{ranked}]"
        output.console.print(f"{row['path']}  {answer}", markup=False, soft_wrap=True)


def _number_text(value: float, reach: float | None) -> str:
    """Write a number with four digits, or as many as its interval, of three digits, resolves."""
    if not reach or not value:
        return f"{value:.4g}" if reach is None else f"{value:.4g} ± {reach:.3g}"
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(reach))
    return f"{value:.{min(max(4, places + 3), 17)}g} ± {reach:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
