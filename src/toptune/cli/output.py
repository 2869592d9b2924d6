"""What several commands print: JSON, tables and quarantine lists. Standard output only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toptune.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toptune.evaluation.classification import Evaluation
    from toptune.images import Quarantined
    from toptune.tasks.predictions import Predictions

#: Quarantined files listed on the screen; JSON has them all.
_SHOWN = 10


# No emoji: a file may well be called a:key:b.jpg.
console = Console(highlight=False, emoji=False)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(content, ensure_ascii=False))


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(value))
    console.print(table)


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


def prediction_records(found: Predictions, decided: NDArray[Any], top: int) -> list[dict[str, Any]]:
    """Return one plain record for each image; set and unknown only where they were asked for."""
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


def print_predictions(records: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each image."""
    for row in records:
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
        console.print("  ".join(words), markup=False, soft_wrap=True)


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
        console.print(f"  {item.id}: {item.reason}", markup=False, soft_wrap=True)
    if len(quarantined) > _SHOWN:
        console.print(f"  ... and {len(quarantined) - _SHOWN} more: see --json")


def print_refresh(reason: str | None) -> None:
    """Print why a model should be trained anew, or its centers chosen elsewhere, if so."""
    if reason is not None:
        console.print(f"better trained anew: {reason}", markup=False)


def seconds(value: float) -> str:
    """Write a duration the way people read it."""
    return f"{value:.2f} s" if value < 100 else f"{value / 60:.1f} min"


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, an output that exists or has no folder.

    Raises
    ------
    StorageError
        Naming the path.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists already: choose another name, or give --overwrite")
    if not path.absolute().parent.is_dir():
        raise StorageError(f"the folder {path.absolute().parent} does not exist")


def write_page(path: Path, page: str) -> None:
    """Write a page to a file.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


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
        write_page(out, page())
    if json:
        print_json(found.to_dict())
        return
    show(found)
    if out is not None:
        console.print(f"page written to {out}", markup=False, soft_wrap=True)
