"""Records of a study -> numbers: tables, paired differences, ranks, ratios of times, curves.

The unit of inference is the data set: seeds are averaged within a data set first, and intervals and
tests are over data sets. Two methods are compared on the cells that both have: the same data set,
size, seed and test images. Records of cells that failed are left out, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toptune.errors import DataError
from toptune.evaluation import intervals as metrics
from toptune_study import inference
from toptune_study.costs import (
    Energy,
    TimeRatio,
    energy_totals,
    mean_seconds,
    time_ratio,
    training_seconds,
)
from toptune_study.inference import TIE, Floats, Interval
from toptune_study.methods import (
    LOSSES,
    Cells,
    Column,
    Method,
    Records,
    as_cells,
    by_dataset,
    common_cells,
    few_sets,
    is_finite,
    same_test,
)
from toptune_study.records import Record
from toptune_study.scores import (
    Curve,
    Ranking,
    ScoreTable,
    column_table,
    curve,
    ranking,
    score_table,
)

__all__ = [
    "Cells",
    "Column",
    "Curve",
    "Energy",
    "LeaveOneOut",
    "Method",
    "PairedDifference",
    "Ranking",
    "ScoreTable",
    "TimeRatio",
    "column_table",
    "curve",
    "energy_totals",
    "image_differences",
    "leave_one_out",
    "mean_seconds",
    "paired_difference",
    "paired_images",
    "ranking",
    "score_table",
    "time_ratio",
    "training_seconds",
]


@dataclass(frozen=True)
class PairedDifference:
    """A method minus another, on the cells that both have.

    Attributes
    ----------
    a, b : Method
        Minuend and subtrahend.
    metric : str
        What is compared.
    datasets : tuple of str
        Data sets that both have, n of them, by name.
    differences : ndarray of shape (n,)
        Means over seeds of a minus b.
    mean : float
        Mean over data sets.
    interval : tuple of float, or None
        Bootstrap interval of the mean over data sets; None for one data set.
    p_value : float
        Wilcoxon's signed-rank test, two-sided.
    hodges_lehmann : float
        Median of the Walsh averages.
    rank_interval : tuple of float, or None
        Interval that belongs to the test; None for fewer than six data sets.
    wins, ties, losses : int
        Data sets on which a is better, equal, worse.
    cells : int
        Pairs of cells.
    unpaired : int
        Cells that the other method has not, or has with other test images.
    failed : int
        Cells of either that failed.
    """

    a: Method
    b: Method
    metric: str
    datasets: tuple[str, ...]
    differences: Floats
    mean: float
    interval: Interval | None
    p_value: float
    hodges_lehmann: float
    rank_interval: Interval | None
    wins: int
    ties: int
    losses: int
    cells: int
    unpaired: int
    failed: int

    @property
    def best(self) -> tuple[str, float]:
        """Data set on which a does best against b, and the difference there."""
        return self._extreme(-self._gain)

    @property
    def worst(self) -> tuple[str, float]:
        """Data set on which a does worst against b, and the difference there."""
        return self._extreme(self._gain)

    @property
    def _gain(self) -> Floats:
        return -self.differences if self.metric in LOSSES else self.differences

    def _extreme(self, order: Floats) -> tuple[str, float]:
        k = int(np.argmin(order))
        return self.datasets[k], float(self.differences[k])

    @property
    def note(self) -> str:
        """What to mind, or nothing."""
        return few_sets(len(self.datasets))


def paired_difference(
    records: Records | Cells,
    a: Method,
    b: Method,
    *,
    metric: str = "accuracy",
    size: float = 1.0,
    level: float = 0.95,
    random_state: int = 0,
) -> PairedDifference:
    """Compare two methods over data sets.

    Parameters
    ----------
    records : mapping or iterable of Record, or Cells
        Of a study.
    a, b : Method
        The difference is a minus b.
    metric : str
        As in `score_table`.
    size : float
        Part of the training images.
    level : float
        Coverage of the intervals.
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    PairedDifference

    Raises
    ------
    DataError
        If a method has no records, or the two have no cell in common.
    """
    cells = as_cells(records)
    both, unpaired = common_cells(cells, a, b, size)
    values = {
        key: first[metric] - second[metric]
        for key, (first, second) in both.items()
        if is_finite(first[metric]) and is_finite(second[metric])
    }
    if not values:
        raise DataError(f"{a.name} and {b.name} have no {metric} in common")
    grouped = by_dataset(values)
    d = np.array([np.mean(found) for found in grouped.values()])
    shift, rank_interval = inference.hodges_lehmann(d, level=level)
    gain = -d if metric in LOSSES else d
    return PairedDifference(
        a=a,
        b=b,
        metric=metric,
        datasets=tuple(grouped),
        differences=d,
        mean=float(d.mean()),
        interval=inference.bootstrap_interval(d, level=level, random_state=random_state),
        p_value=inference.signed_rank_p(d),
        hodges_lehmann=shift,
        rank_interval=rank_interval,
        wins=int((gain > TIE).sum()),
        ties=int((np.abs(gain) <= TIE).sum()),
        losses=int((gain < -TIE).sum()),
        cells=len(values),
        unpaired=unpaired,
        failed=cells.failures(a, b, size=size),
    )


def paired_images(
    record_a: Record, record_b: Record, *, random_state: int = 0
) -> metrics.PairedDifference:
    """Compare two records of one data set over its test images, or over their groups.

    Raises
    ------
    DataError
        If a record failed, or they are of different data sets or test images.
    """
    for row in (record_a, record_b):
        if row["error"]:
            raise DataError(f"the cell {row['id']} of {row['dataset']} failed: {row['error']}")
    if record_a["dataset"] != record_b["dataset"] or not same_test(record_a, record_b):
        raise DataError(
            f"the cells {record_a['id']} ({record_a['dataset']}) and {record_b['id']} "
            f"({record_b['dataset']}) were not tested on the same images"
        )
    return metrics.paired_difference(
        record_a["true"],
        record_a["predicted"],
        record_b["predicted"],
        groups=record_a.get("groups"),
        random_state=random_state,
    )


def image_differences(
    records: Records | Cells, a: Method, b: Method, *, size: float = 1.0
) -> dict[str, metrics.PairedDifference]:
    """Compare two methods on each data set over its test images, for the first seed of both."""
    found: dict[str, metrics.PairedDifference] = {}
    both, _ = common_cells(as_cells(records), a, b, size)
    for (dataset, _), (first, second) in both.items():
        if dataset not in found:
            found[dataset] = paired_images(first, second)
    return found


@dataclass(frozen=True)
class LeaveOneOut:
    """How well leave-one-out on the training images predicts accuracy on the test images.

    Attributes
    ----------
    datasets : tuple of str
        Data sets, n of them.
    differences : ndarray of shape (n,)
        Leave-one-out minus test accuracy, means over seeds.
    bias : float
        Their mean: above zero where leave-one-out promises too much.
    interval : tuple of float, or None
        Bootstrap interval of the bias over data sets.
    mean_absolute : float
        Mean over data sets of the mean absolute difference of their cells.
    """

    datasets: tuple[str, ...]
    differences: Floats
    bias: float
    interval: Interval | None
    mean_absolute: float


def leave_one_out(records: Records | Cells, method: Method, *, size: float = 1.0) -> LeaveOneOut:
    """Compare leave-one-out with test accuracy.

    Raises
    ------
    DataError
        If the method has no records, or none with leave-one-out.
    """
    values = {
        key: row["loo_accuracy"] - row["accuracy"]
        for key, row in as_cells(records).of(method, size).items()
        if is_finite(row["loo_accuracy"])
    }
    if not values:
        raise DataError(f"the records of {method.name} have no leave-one-out accuracy")
    grouped = by_dataset(values)
    d = np.array([np.mean(found) for found in grouped.values()])
    return LeaveOneOut(
        datasets=tuple(grouped),
        differences=d,
        bias=float(d.mean()),
        interval=inference.bootstrap_interval(d),
        mean_absolute=float(np.mean([np.mean(np.abs(found)) for found in grouped.values()])),
    )
