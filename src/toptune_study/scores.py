"""Records of a study -> means over seeds, mean ranks over data sets, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError
from toptune_study import inference
from toptune_study.inference import Floats
from toptune_study.methods import (
    LOSSES,
    Cells,
    Column,
    Method,
    Records,
    as_cells,
    by_dataset,
    few_sets,
    is_finite,
    same_test,
)
from toptune_study.records import Record


@dataclass(frozen=True)
class ScoreTable:
    """Means over seeds.

    Attributes
    ----------
    metric : str
        What is averaged.
    datasets : tuple of str
        Rows, by name.
    columns : tuple of Column
        Methods, each with a size.
    scores : ndarray of shape (n, k)
        Means over seeds; NaN where there is no record.
    seeds : ndarray of shape (n, k)
        Number of seeds in each mean.
    failed : int
        Cells left out because they failed.
    """

    metric: str
    datasets: tuple[str, ...]
    columns: tuple[Column, ...]
    scores: Floats
    seeds: NDArray[Any]
    failed: int

    @property
    def methods(self) -> tuple[Method, ...]:
        """Methods of the columns."""
        return tuple(column.method for column in self.columns)

    def complete(self) -> ScoreTable:
        """Return the data sets that have a score in every column."""
        kept = np.isfinite(self.scores).all(axis=1)
        names = tuple(np.array(self.datasets, dtype=object)[kept].tolist())
        return ScoreTable(
            self.metric, names, self.columns, self.scores[kept], self.seeds[kept], self.failed
        )


def score_table(
    records: Records | Cells,
    size: float = 1.0,
    metric: str = "accuracy",
    *,
    methods: Sequence[Method] | None = None,
    common: bool = False,
) -> ScoreTable:
    """Means over seeds, a row a data set and a column a method.

    Parameters
    ----------
    records : mapping or iterable of Record, or Cells
        Of a study.
    size : float
        Part of the training images.
    metric : str
        "accuracy", "balanced_accuracy", "log_loss" or "loo_accuracy".
    methods : sequence of Method, optional
        Columns; by default all that have records of this size.
    common : bool
        On each data set average only over the seeds, with the same test images, that all the
        methods which have this data set have in common.

    Returns
    -------
    ScoreTable

    Raises
    ------
    DataError
        If a method has no records, or there are none at all.
    """
    cells = as_cells(records)
    if methods is None:
        methods = [method for method in cells.methods if cells.has(method, size)]
    return column_table(cells, [Column(method, size) for method in methods], metric, common=common)


def column_table(
    records: Records | Cells,
    columns: Sequence[Column],
    metric: str = "accuracy",
    *,
    common: bool = True,
) -> ScoreTable:
    """Means over seeds for methods with sizes of their own; as `score_table`.

    With `common`, columns of the same size share their seeds.
    """
    cells = as_cells(records)
    if not columns:
        raise DataError("there are no records to make a table of")
    rows = [
        {key: row for key, row in cells.of(c.method, c.size).items() if is_finite(row[metric])}
        for c in columns
    ]
    if common:
        rows = _in_common(columns, rows)
    values = [{key: row[metric] for key, row in found.items()} for found in rows]
    grouped = [by_dataset(found) for found in values]
    names = tuple(sorted({name for found in grouped for name in found}))
    lists = [[found.get(name, []) for found in grouped] for name in names]
    return ScoreTable(
        metric=metric,
        datasets=names,
        columns=tuple(columns),
        scores=np.array([[np.mean(v) if v else np.nan for v in row] for row in lists]).reshape(
            len(names), len(columns)
        ),
        seeds=np.array([[len(v) for v in row] for row in lists]).reshape(len(names), len(columns)),
        failed=sum(cells.failures(c.method, size=c.size) for c in columns),
    )


def _in_common(
    columns: Sequence[Column], rows: list[dict[tuple[str, int], Record]]
) -> list[dict[tuple[str, int], Record]]:
    """Of each data set the cells that all columns of one size which have it have in common."""
    kept: dict[tuple[float, str], dict[int, Record]] = {}
    for column, found in zip(columns, rows, strict=True):
        for dataset in {name for name, _ in found}:
            seeds = {seed: row for (name, seed), row in found.items() if name == dataset}
            before = kept.get((column.size, dataset), seeds)
            kept[column.size, dataset] = {
                seed: row
                for seed, row in before.items()
                if seed in seeds and same_test(row, seeds[seed])
            }
    return [
        {key: row for key, row in found.items() if key[1] in kept[column.size, key[0]]}
        for column, found in zip(columns, rows, strict=True)
    ]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over data sets.

    Attributes
    ----------
    columns : tuple of Column
        From the best mean rank to the worst, k of them.
    ranks : ndarray of shape (k,)
        Mean ranks, 1 is best.
    datasets : tuple of str
        Data sets that all have.
    statistic, p_value : float
        Friedman's test that all are equal.
    critical_difference : float
        Of mean ranks, by Nemenyi's test.
    groups : list of tuple of int
        Positions of methods that are not significantly different.
    """

    columns: tuple[Column, ...]
    ranks: Floats
    datasets: tuple[str, ...]
    statistic: float
    p_value: float
    critical_difference: float
    groups: list[tuple[int, ...]]

    @property
    def note(self) -> str:
        """What to mind, or nothing."""
        return few_sets(len(self.datasets))


def ranking(table: ScoreTable, *, alpha: float = 0.05) -> Ranking:
    """Rank the methods of a table on the data sets that have all of them.

    Parameters
    ----------
    table : ScoreTable
        Scores; make it with `common`, so that all methods are judged on the same seeds.
    alpha : float
        Level of the tests.

    Raises
    ------
    DataError
        If there are fewer than three methods, or no data set has all.
    """
    whole = table.complete()
    n, k = whole.scores.shape
    if k < 3:
        raise DataError(f"a ranking needs three methods, got {k}")
    if n == 0:
        raise DataError("no data set has a score of every method, so they cannot be ranked")
    scores = -whole.scores if table.metric in LOSSES else whole.scores
    ranks = inference.mean_ranks(scores)
    order = np.argsort(ranks, kind="stable")
    difference = inference.critical_difference(k, n, alpha=alpha)
    statistic, p_value = inference.friedman(scores)
    return Ranking(
        columns=tuple(whole.columns[j] for j in order.tolist()),
        ranks=ranks[order],
        datasets=whole.datasets,
        statistic=statistic,
        p_value=p_value,
        critical_difference=difference,
        groups=inference.cliques(ranks[order], difference),
    )


@dataclass(frozen=True)
class Curve:
    """Means over the same data sets at every point of every line.

    Attributes
    ----------
    datasets : tuple of str
        Data sets that have all points.
    lines : tuple of tuple of Column
        Points of each line, in the order given.
    means : list of ndarray
        Mean over data sets at each point, a line each.
    """

    datasets: tuple[str, ...]
    lines: tuple[tuple[Column, ...], ...]
    means: list[Floats]


def curve(
    records: Records | Cells, lines: Sequence[Sequence[Column]], metric: str = "accuracy"
) -> Curve:
    """Means of lines of points, against size or backbone, over the data sets that have all.

    Raises
    ------
    DataError
        If a point has no records, or no data set has all points.
    """
    columns = list(dict.fromkeys(column for line in lines for column in line))
    table = column_table(records, columns, metric).complete()
    if not table.datasets:
        raise DataError("no data set has all points of the curves")
    means = dict(zip(columns, table.scores.mean(axis=0).tolist(), strict=True))
    return Curve(
        datasets=table.datasets,
        lines=tuple(tuple(line) for line in lines),
        means=[np.array([means[column] for column in line]) for line in lines],
    )
