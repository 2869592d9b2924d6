"""Decisions of least expected cost, given class probabilities; and files of costs.

Letters: n samples, c classes, P (n, c) probabilities, C (c, c) costs with a row for each true class
and a column for each decision. The decision of least expected cost is argmin_j sum_i P_i C_ij
(Elkan 2001, The Foundations of Cost-Sensitive Learning). Pure functions; positions of classes, in
the order of the columns of P, are called codes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError

Costs: TypeAlias = Mapping[Any, Mapping[Any, float]] | ArrayLike
"""Costs by true class, then by decision; or an array (c, c), in the order of the classes."""


def cost_matrix(costs: Costs, classes: ArrayLike) -> NDArray[np.float64]:
    """Return costs as an array, checked.

    Parameters
    ----------
    costs : mapping of mappings, or array-like of shape (c, c)
        Cost of every decision (column) for every true class (row), in any unit, >= 0. Of a mapping
        the cost of the right decision may be left out; it is then 0.
    classes : array-like of shape (c,)
        Labels. Keys of mappings are compared with them as text.

    Returns
    -------
    ndarray of shape (c, c)

    Raises
    ------
    DataError
        If classes are missing or unknown, the shape is another, a cost is negative or not finite,
        or a right decision costs more than a wrong one: the matrix may be the wrong way round.

    Examples
    --------
    >>> cost_matrix({"defect": {"ok": 10}, "ok": {"defect": 1}}, ["defect", "ok"]).tolist()
    [[0.0, 10.0], [1.0, 0.0]]
    """
    labels = np.asarray(classes).tolist()
    names = [str(label) for label in labels]
    if isinstance(costs, Mapping):
        C = _from_mapping(costs, names)
    else:
        try:
            C = np.asarray(costs, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"costs must be numbers: {error}") from error
    c = len(names)
    if C.shape != (c, c):
        raise DataError(
            f"costs must have shape ({c}, {c}), a row and a column for each of the classes "
            f"{', '.join(names)}; got {C.shape}"
        )
    for i, j in np.argwhere(~(np.isfinite(C) & (C >= 0))):
        raise DataError(
            f"the cost of deciding {names[j]!r} when {names[i]!r} is true must be a number >= 0, "
            f"got {C[i, j]:g}: add the same to the whole row to express a gain"
        )
    for i, j in np.argwhere(C.diagonal()[:, None] > C):
        raise DataError(
            f"when {names[i]!r} is true, the right decision costs {C[i, i]:g} and deciding "
            f"{names[j]!r} only {C[i, j]:g}: rows are true classes, columns are decisions"
        )
    return C


def least_cost(
    P: NDArray[np.float64],  # (n, c)
    C: NDArray[np.float64],  # (c, c)
) -> NDArray[np.intp]:  # (n,)
    """Codes of the decisions with the least expected cost.

    Examples
    --------
    >>> least_cost(np.array([[0.2, 0.8], [0.05, 0.95]]), np.array([[0, 10], [1, 0]])).tolist()
    [0, 1]
    """
    decided: NDArray[np.intp] = (P @ C).argmin(axis=1)
    return decided


def read_costs(path: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Read costs from a CSV or YAML file.

    Parameters
    ----------
    path : path
        A ``.csv`` file with the decisions in its first row and the true classes in its first
        column; or a ``.yaml``, ``.yml`` or ``.json`` file that maps each true class to the costs of
        the decisions.

    Returns
    -------
    dict of dict
        As `cost_matrix` takes it. Empty cells of a CSV file are left out.

    Raises
    ------
    DataError
        If the file cannot be read, is laid out in another way, or holds what is no number.
    """
    file = Path(path)
    readers = {".csv": _csv_costs, ".yaml": _yaml_costs, ".yml": _yaml_costs, ".json": _yaml_costs}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"costs must be a .csv, .yaml or .json file, got {file}")
    try:
        rows = reader(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read costs {file}: {error}") from error
    return {
        true: {decision: _cost(value, true, decision, file) for decision, value in row.items()}
        for true, row in rows.items()
    }


def _from_mapping(costs: Mapping[Any, Any], names: list[str]) -> NDArray[np.float64]:
    check_known_classes(map(str, costs), names, "costs")
    rows = {str(true): row for true, row in costs.items()}
    missing = [name for name in names if name not in rows]
    if missing:
        raise DataError(f"costs have no row for the classes {', '.join(missing)}")
    C = np.zeros((len(names), len(names)))
    for i, true in enumerate(names):
        if not isinstance(rows[true], Mapping):
            raise DataError(f"costs of {true!r} must map decisions to numbers, got {rows[true]!r}")
        row = {str(decision): cost for decision, cost in rows[true].items()}
        check_known_classes(row, names, f"costs of {true!r}")
        missing = [name for name in names if name not in row and name != true]
        if missing:
            raise DataError(f"costs of {true!r} have no value for deciding {', '.join(missing)}")
        for decision, cost in row.items():
            if not isinstance(cost, int | float | np.number):
                raise DataError(f"the cost of {decision!r} for {true!r} is no number: {cost!r}")
            C[i, names.index(decision)] = cost
    return C


def check_known_classes(given: Iterable[str], names: Sequence[str], what: str) -> None:
    """Refuse names of classes that are not among those of the model; `what` says what has them.

    Raises
    ------
    DataError
        Naming them.
    """
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise DataError(
            f"{what} name classes that the model does not know: {', '.join(unknown)} "
            f"(it knows {', '.join(names)})"
        )


def _csv_costs(text: str, name: str) -> dict[str, dict[str, str]]:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    cells = [[cell.strip() for cell in row] for row in rows]
    if len(cells) < 2 or any(len(row) != len(cells[0]) for row in cells):
        raise DataError(
            f"{name}: the first row must name the decisions, and each row after it a true class "
            "and as many costs"
        )
    decisions, trues = cells[0][1:], [row[0] for row in cells[1:]]
    for what, found in (("decision", decisions), ("true class", trues)):
        twice = [label for label in found if found.count(label) > 1]
        if twice:
            raise DataError(f"{name}: the {what} {twice[0]!r} occurs {len(twice)} times")
    return {
        row[0]: {d: cost for d, cost in zip(decisions, row[1:], strict=True) if cost}
        for row in cells[1:]
    }


def _yaml_costs(text: str, name: str) -> dict[str, dict[str, str]]:
    import yaml

    try:
        # Text throughout: a class called no would become False.
        rows = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise DataError(f"cannot read costs {name}: {' '.join(str(error).split())}") from error
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise DataError(f"{name}: costs must map each true class to the costs of the decisions")
    return rows


def _cost(value: str, true: str, decision: str, file: Path) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{file}: the cost of deciding {decision!r} when {true!r} is true is {value!r}, no "
            "number"
        ) from error
