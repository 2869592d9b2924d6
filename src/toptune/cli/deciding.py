"""Options that say what to decide: costs, or thresholds that are given or chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toptune.errors import DataError

if TYPE_CHECKING:
    from toptune.tuner import TopTuner

Costs = Annotated[
    Path | None,
    typer.Option(
        help="CSV or YAML file: cost of each decision (column) for each true class (row)."
    ),
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PROBABILITY", help="Decide for the class from this probability on."
    ),
]
Recall = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PART", help="Choose the threshold of the class that finds this part of it."
    ),
]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PART", help="Choose the threshold at which this part of its finds is right."
    ),
]
Maximize = Annotated[
    str | None,
    typer.Option(help="Choose thresholds of all classes for macro-f1 or balanced-accuracy."),
]


def decision(
    tuner: TopTuner,
    costs: Path | None,
    threshold: list[str] | None,
    recall: list[str] | None,
    precision: list[str] | None,
    maximize: str | None,
    *,
    coverage: float | None = None,
    reject: float | None = None,
) -> tuple[dict[str, dict[str, float]] | None, dict[Any, float] | None]:
    """Return costs and thresholds as `TopTuner.predict` takes them; None for what is not asked for.

    Thresholds that are wanted by what they do are chosen by leave-one-out of the training images.

    Raises
    ------
    DataError
        If an option cannot be read, or they contradict each other, or a coverage or a rate of
        rejection.
    """
    prices, limits = _asked(tuner, costs, threshold, recall, precision, maximize)
    tuner.check_decision(costs=prices, thresholds=limits, coverage=coverage, reject=reject)
    return prices, limits


def _asked(
    tuner: TopTuner,
    costs: Path | None,
    threshold: list[str] | None,
    recall: list[str] | None,
    precision: list[str] | None,
    maximize: str | None,
) -> tuple[dict[str, dict[str, float]] | None, dict[Any, float] | None]:
    from toptune.decisions.costs import read_costs

    chosen = recall or precision or maximize
    if sum(map(bool, (costs, threshold, chosen))) > 1:
        raise DataError(
            "give --costs, or --threshold, or what thresholds are chosen for (--recall, "
            "--precision, --maximize): each says what to decide"
        )
    if costs is not None:
        return read_costs(costs), None
    if threshold:
        return None, _values(threshold, "--threshold")
    if not chosen:
        return None, None
    return None, tuner.choose_thresholds(
        maximize,  # type: ignore[arg-type]
        recall=_values(recall or [], "--recall"),
        precision=_values(precision or [], "--precision"),
    )


def _values(texts: list[str], option: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        label, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not equals or not label or number != number:
            raise DataError(f"{option} must be CLASS=NUMBER, got {text!r}")
        if label in found:
            raise DataError(f"{option} names {label!r} twice")
        found[label] = number
    return found
