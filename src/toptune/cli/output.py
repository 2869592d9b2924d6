"""Print what commands found, for people or as JSON, whatever the task. Standard output only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toptune.errors import StorageError
from toptune.runtime.atomic import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toptune.evaluation.classification import Evaluation
    from toptune.images import Quarantined
    from toptune.tasks import LabelEvaluation
    from toptune.tuner import TopTuner

#: Quarantined files listed on the screen; JSON has them all.
_SHOWN = 10
#: Scores of the evaluations of all tasks, in the order in which they are printed.
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

# No emoji: a file may well be called a:key:b.jpg.
console = Console(highlight=False, emoji=False)

# ------------------------------------------------------------------------------- files


def check_output(path: Path | None, *, overwrite: bool) -> None:
    """Refuse, before any work is done, an output that exists or has no folder.

    Raises
    ------
    StorageError
        Naming the path.
    """
    if path is None:
        return
    if path.is_dir():
        raise StorageError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists already: choose another name, or give --overwrite")
    if not path.absolute().parent.is_dir():
        raise StorageError(f"the folder {path.absolute().parent} does not exist")


def deliver(
    found: Any,
    show: Callable[[Any], None],
    *,
    json: bool,
    out: Path | None,
    page: Callable[[], str],
) -> None:
    """Write the page of a result if there is a path, and print it: as JSON, or by `show`."""
    if out is not None:
        write_atomically(out, page().encode())
    if json:
        print_json(found.to_dict())
        return
    show(found)
    print_written("page", out)


def print_written(what: str, path: Path | None) -> None:
    """Print where a file is that was written, if one was asked for."""
    if path is not None:
        print_line(f"{what} written to {path}")


# ------------------------------------------------------------------------------- all tasks


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(content, ensure_ascii=False))


def print_line(text: str) -> None:
    """Print a line as it is: no markup, and not wrapped."""
    console.print(text, markup=False, soft_wrap=True)


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(value))
    console.print(table)


def quarantine_json(quarantined: Sequence[Quarantined]) -> list[dict[str, str]]:
    """Return the quarantine list as plain records."""
    return [{"id": item.id, "reason": item.reason} for item in quarantined]


def print_quarantine(quarantined: Sequence[Quarantined]) -> None:
    """Print which images were set aside and why."""
    if not quarantined:
        return
    n = len(quarantined)
    console.print(f"[yellow]{n} {'image' if n == 1 else 'images'} set aside:[/yellow]")
    for item in quarantined[:_SHOWN]:
        print_line(f"  {item.id}: {item.reason}")
    if n > _SHOWN:
        console.print(f"  ... and {n - _SHOWN} more: see --json")


def print_refresh(reason: str | None) -> None:
    """Print why a model should be trained anew, or its centers chosen elsewhere, if so."""
    if reason is not None:
        console.print(f"better trained anew: {reason}", markup=False)


def seconds(value: float) -> str:
    """Return a duration in seconds, or minutes."""
    return f"{value:.2f} s" if value < 100 else f"{value / 60:.1f} min"


# ------------------------------------------------------------------------------- evaluations


def score_rows(found: Any) -> list[tuple[str, str]]:
    """Return names and values of the scores of an evaluation."""
    units = {"log_loss": " nats"}
    return [
        (words, f"{value:.4f}{units.get(key, '')}")
        for key, words in _SCORES.items()
        if (value := getattr(found, key, None)) is not None
    ]


def left_out_json(tuner: TopTuner) -> dict[str, Any]:
    """Return the scores of leave-one-out as `fit --json` has them."""
    loo: Any = tuner.loo_
    if tuner.task_ == "classification":
        return {"loo_accuracy": loo.accuracy, "loo_log_loss": loo.log_loss}
    return {f"loo_{key}": getattr(loo, key) for key in _SCORES if hasattr(loo, key)}


def left_out_rows(tuner: TopTuner) -> list[tuple[str, str]]:
    """Return the scores of leave-one-out as `fit` prints them."""
    rows = score_rows(tuner.loo_)
    if tuner.task_ == "classification":
        rows = [row for row in rows if row[0] in ("accuracy", "log-loss")]
    return [(f"leave-one-out {name}", text) for name, text in rows]


def print_evaluation(found: Any) -> None:
    """Print the scores of an evaluation, and what there is for each class or label."""
    print_rows([("images", str(found.n)), *score_rows(found)])
    if hasattr(found, "confusion_matrix"):
        print_confusion(found)
    elif hasattr(found, "per_label"):
        _print_labels(found)


def print_confusion(evaluation: Evaluation) -> None:
    """Print the confusion matrix with recall and precision; long ones are left to JSON."""
    # Class names are the user's: brackets in them are no markup.
    classes = [escape(str(label)) for label in evaluation.classes]
    if len(classes) > 20:
        console.print(f"[dim]confusion matrix of {len(classes)} classes: see --json[/dim]")
        return
    table = Table(title="true class (rows) and predicted class (columns)", title_justify="left")
    table.add_column("")
    for label in [*classes, "recall", "precision"]:
        table.add_column(label, justify="right")
    for label, counts, row in zip(
        classes, evaluation.confusion_matrix, evaluation.per_class.values(), strict=True
    ):
        measured = (f"{row.recall:.3f}", f"{row.precision:.3f}")
        table.add_row(f"[bold]{label}[/bold]", *map(str, counts), *measured)
    console.print(table)


def _print_labels(found: LabelEvaluation) -> None:
    if len(found.labels) > 50:
        console.print(f"[dim]table of {len(found.labels)} labels: see --json[/dim]")
        return
    table = Table()
    for column in ("label", "images", "average precision", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "label" else "right")
    for label, row in found.per_label.items():
        ranked = "" if row.average_precision is None else f"{row.average_precision:.3f}"
        measured = (f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}")
        table.add_row(escape(str(label)), str(row.support), ranked, *measured)
    console.print(table)


# ------------------------------------------------------------------------------- answers


def prediction_records(
    found: Any, decided: NDArray[Any], top: int, coverage: float | None
) -> list[dict[str, Any]]:
    """Return the answer for each image as `predict --json` has it."""
    if hasattr(found, "values"):
        return _number_records(found, coverage)
    if hasattr(found, "names"):
        answers = zip(found.ids, found.names(decided), found.top(top), strict=True)
        return [{"path": path, "labels": labels, "top": ranked} for path, labels, ranked in answers]
    return _class_records(found, decided, top)


def _class_records(found: Any, decided: NDArray[Any], top: int) -> list[dict[str, Any]]:
    """Return decided classes and the most probable; set and unknown only where asked for."""
    place = {label: k for k, label in enumerate(found.classes.tolist())}
    P = found.probabilities
    records: list[dict[str, Any]] = [
        {"path": path, "label": label, "probability": float(P[i, place[label]]), "top": ranking}
        for i, (path, label, ranking) in enumerate(
            zip(found.ids, decided.tolist(), found.top(top), strict=True)
        )
    ]
    if found.sets is not None:
        for record, held in zip(records, found.set_labels(), strict=True):
            record["set"] = held
    if found.unknown_score is not None and found.unknown is not None:
        values = zip(found.unknown_score.tolist(), found.unknown.tolist(), strict=True)
        for record, (score, unknown) in zip(records, values, strict=True):
            record |= {"unknown_score": score, "unknown": unknown}
    return records


def _number_records(found: Any, coverage: float | None) -> list[dict[str, Any]]:
    """Return numbers with their intervals, null where training images are too few."""
    intervals = found.intervals() if coverage is None else found.intervals(coverage)
    return [
        {"path": path, "value": value, "low": _finite(low), "high": _finite(high)}
        for path, value, (low, high) in zip(
            found.ids, found.values.tolist(), intervals.tolist(), strict=True
        )
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Print the answer for each image on a line."""
    for row in records:
        if "label" in row:
            print_line(_class_line(row))
        elif "value" in row:
            reach = None if row["low"] is None else (row["high"] - row["low"]) / 2
            print_line(f"{row['path']}  {_number_text(row['value'], reach)}")
        else:
            ranked = "  ".join(f"{c['label']} {c['probability']:.3f}" for c in row["top"])
            print_line(f"{row['path']}  {', '.join(row['labels']) or '(none)'}  [{ranked}]")


def _class_line(row: Mapping[str, Any]) -> str:
    words = [str(row["path"])]
    if row.get("unknown"):
        words.append("unknown:")
    if row["label"] != row["top"][0]["label"]:
        words.append(f"{row['label']} {row['probability']:.3f} decided:")
    words += [f"{c['label']} {c['probability']:.3f}" for c in row["top"]]
    if "set" in row:
        words.append(f"set: {', '.join(map(str, row['set'])) or 'none'}")
    if "unknown_score" in row:
        words.append(f"unknown score {row['unknown_score']:.2f}")
    return "  ".join(words)


def _number_text(value: float, reach: float | None) -> str:
    """Write a number with four digits, or as many as its interval, of three digits, resolves."""
    if not reach or not value:
        return f"{value:.4g}" if reach is None else f"{value:.4g} ± {reach:.3g}"
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(reach))
    return f"{value:.{min(max(4, places + 3), 17)}g} ± {reach:.3g}"
