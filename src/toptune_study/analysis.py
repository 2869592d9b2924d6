"""Records of a study -> numbers: paired differences, ranks, ratios of times, curves, energy.

The unit of inference is the data set: seeds are averaged within a data set first, and intervals and
tests are over data sets. Two methods are compared on the cells that both have: the same data set,
size, seed and test images. Records of cells that failed are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from toptune.errors import DataError
from toptune.evaluation.intervals import PairedDifference, paired_difference
from toptune_study import inference
from toptune_study.frames import (
    Method,
    Records,
    cells_of,
    failures,
    paired_cells,
    records_frame,
)
from toptune_study.inference import TIE, Interval

#: Metrics of which less is better.
LOWER_IS_BETTER = ("log_loss",)
#: Below so many data sets no signed-rank test reaches five percent.
_LEAST_SETS = 6


def _few_sets(n: int) -> str:
    """Return a warning if there are too few data sets for inference."""
    if n >= _LEAST_SETS:
        return ""
    sets = "one data set" if n == 1 else f"{n} data sets"
    return f"only {sets}: no test can reach 5 %, and intervals say little"


@dataclass(frozen=True)
class MethodDifference:
    """A method minus another, on the cells that both have.

    Attributes
    ----------
    a, b : Method
        Minuend and subtrahend.
    differences : Series of shape (n,)
        Means over seeds of a minus b, by data set.
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
    best, worst : tuple of (str, float)
        Data sets on which a does best and worst against b, and the differences there.
    cells, unpaired, failed : int
        Pairs of cells; cells that the other method has not, or has with other test images; cells
        of either that failed.
    """

    a: Method
    b: Method
    differences: pd.Series[float]
    mean: float
    interval: Interval | None
    p_value: float
    hodges_lehmann: float
    rank_interval: Interval | None
    wins: int
    ties: int
    losses: int
    best: tuple[str, float]
    worst: tuple[str, float]
    cells: int
    unpaired: int
    failed: int

    @property
    def note(self) -> str:
        """A warning where there are too few data sets, or nothing."""
        return _few_sets(len(self.differences))


def compare_methods(
    records: Records, a: Method, b: Method, *, metric: str = "accuracy", random_state: int = 0
) -> MethodDifference:
    """Compare two methods over data sets, on all training images.

    Parameters
    ----------
    records : mapping or iterable of Record, or DataFrame
        As `records_frame` takes them.
    a, b : Method
        The difference is a minus b.
    metric : str
        As in `score_table`.
    random_state : int
        Seed of the bootstrap.

    Raises
    ------
    DataError
        If a method has no records, or the two have no cell in common.
    """
    frame = records_frame(records)
    pairs, unpaired = paired_cells(frame, a, b)
    values = pd.to_numeric(pairs[f"{metric}_a"]) - pd.to_numeric(pairs[f"{metric}_b"])
    values = values.set_axis(pairs["dataset"]).dropna()
    if values.empty:
        raise DataError(f"{a.name} and {b.name} have no {metric} in common")
    d = values.groupby(level=0).mean()
    gain = -d if metric in LOWER_IS_BETTER else d
    best, worst = str(gain.idxmax()), str(gain.idxmin())
    shift, rank_interval = inference.hodges_lehmann(d)
    return MethodDifference(
        a=a,
        b=b,
        differences=d,
        mean=float(d.mean()),
        interval=inference.bootstrap_interval(d, random_state=random_state),
        p_value=inference.signed_rank_p(d),
        hodges_lehmann=shift,
        rank_interval=rank_interval,
        wins=int((gain > TIE).sum()),
        ties=int((gain.abs() <= TIE).sum()),
        losses=int((gain < -TIE).sum()),
        best=(best, float(d[best])),
        worst=(worst, float(d[worst])),
        cells=len(values),
        unpaired=unpaired,
        failed=failures(frame, a, b),
    )


def image_differences(records: Records, a: Method, b: Method) -> dict[str, PairedDifference]:
    """Compare two methods on each data set over its test images, for the first seed of both."""
    pairs, _ = paired_cells(records_frame(records), a, b)
    return {
        str(row["dataset"]): paired_difference(
            row["true_a"],
            row["predicted_a"],
            row["predicted_b"],
            groups=row["groups_a"] if isinstance(row.get("groups_a"), list) else None,
        )
        for _, row in pairs.drop_duplicates("dataset").iterrows()
    }


@dataclass(frozen=True)
class LeaveOneOutBias:
    """How well leave-one-out on the training images predicts accuracy on the test images.

    Attributes
    ----------
    differences : Series of shape (n,)
        Leave-one-out minus test accuracy by data set, means over seeds.
    bias : float
        Their mean: above zero where leave-one-out promises too much.
    interval : tuple of float, or None
        Bootstrap interval of the bias over data sets.
    mean_absolute : float
        Mean over data sets of the mean absolute difference of their cells.
    """

    differences: pd.Series[float]
    bias: float
    interval: Interval | None
    mean_absolute: float


def leave_one_out_bias(records: Records, method: Method) -> LeaveOneOutBias:
    """Compare leave-one-out with test accuracy.

    Raises
    ------
    DataError
        If the method has no records, or none with leave-one-out.
    """
    cells = cells_of(records_frame(records), method)
    values = (pd.to_numeric(cells["loo_accuracy"]) - cells["accuracy"]).set_axis(cells["dataset"])
    values = values.dropna()
    if values.empty:
        raise DataError(f"the records of {method.name} have no leave-one-out accuracy")
    d = values.groupby(level=0).mean()
    return LeaveOneOutBias(
        differences=d,
        bias=float(d.mean()),
        interval=inference.bootstrap_interval(d),
        mean_absolute=float(values.abs().groupby(level=0).mean().mean()),
    )


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over data sets.

    Attributes
    ----------
    scores : DataFrame of shape (n, k)
        Of the data sets that all methods have; higher is better.
    ranks : Series of shape (k,)
        Mean ranks by method, from the best, which is nearest to 1, to the worst.
    statistic, p_value : float
        Friedman's test that all are equal.
    critical_difference : float
        Of mean ranks, by Nemenyi's test at 5 %.
    """

    scores: pd.DataFrame
    ranks: pd.Series[float]
    statistic: float
    p_value: float
    critical_difference: float

    @property
    def note(self) -> str:
        """A warning where there are too few data sets, or nothing."""
        return _few_sets(len(self.scores))


def rank_methods(scores: pd.DataFrame) -> Ranking:
    """Rank methods on the data sets that have all of them.

    Parameters
    ----------
    scores : DataFrame of shape (n, k)
        A row a data set, a column a method; higher is better.

    Raises
    ------
    DataError
        If there are fewer than three methods, or no data set has all.
    """
    whole = scores.dropna()
    n, k = whole.shape
    if k < 3:
        raise DataError(f"a ranking needs three methods, got {k}")
    if not n:
        raise DataError("no data set has a score of every method, so they cannot be ranked")
    ranks = pd.Series(inference.mean_ranks(whole), index=whole.columns).sort_values(kind="stable")
    statistic, p_value = inference.friedman(whole)
    return Ranking(whole, ranks, statistic, p_value, inference.critical_difference(k, n))


@dataclass(frozen=True)
class TimeRatio:
    """How many times longer one method trains than another, on the same machine.

    Attributes
    ----------
    seconds : DataFrame of shape (n, 3)
        By data set: `slow` and `fast`, geometric means over seeds of the seconds of training, and
        `ratio`.
    geometric_mean : float
        Of the ratios, over data sets.
    interval : tuple of float, or None
        Bootstrap interval of it over data sets; None for one data set.
    quartiles : tuple of float
        First, second and third quartile of the ratios.
    cells, left_out, other_machine : int
        Pairs of cells compared; pairs of which a time is missing or no number; pairs with
        different processors or numbers of threads.
    """

    seconds: pd.DataFrame
    geometric_mean: float
    interval: Interval | None
    quartiles: tuple[float, float, float]
    cells: int
    left_out: int
    other_machine: int


def time_ratio(records: Records, slow: Method, fast: Method) -> TimeRatio:
    """Divide the training times of two methods, on cells that both have.

    Only cells with the same processor and number of threads are compared.

    Raises
    ------
    DataError
        If a method has no records, or no pair of cells can be compared, saying why.
    """
    pairs, _ = paired_cells(records_frame(records), slow, fast)
    known = pairs.dropna(subset=["training_seconds_a", "training_seconds_b"])
    same = known[known["machine_a"] == known["machine_b"]]
    left_out, other = len(pairs) - len(known), len(known) - len(same)
    if same.empty:
        raise DataError(
            f"no times of {slow.name} and {fast.name} can be compared: {left_out} pairs without "
            f"times, {other} on different processors or numbers of threads"
        )
    logs = np.log(same[["training_seconds_a", "training_seconds_b"]].set_axis(same["dataset"]))
    logs = logs.set_axis(["slow", "fast"], axis=1).groupby(level=0).mean()
    logs["ratio"] = logs["slow"] - logs["fast"]
    bounds = inference.bootstrap_interval(logs["ratio"])
    seconds = np.exp(logs)
    q1, q2, q3 = np.quantile(seconds["ratio"], [0.25, 0.5, 0.75]).tolist()
    return TimeRatio(
        seconds=seconds,
        geometric_mean=float(np.exp(logs["ratio"].mean())),
        interval=None if bounds is None else (float(np.exp(bounds[0])), float(np.exp(bounds[1]))),
        quartiles=(q1, q2, q3),
        cells=len(same),
        left_out=left_out,
        other_machine=other,
    )


def mean_seconds(records: Records, method: Method) -> pd.Series[float]:
    """Return the seconds of training by data set, geometric means over seeds.

    Unknown times are left out, and those of other machines than the one with most records.
    """
    frame = records_frame(records)
    machine = frame.loc[~frame["failed"], "machine"].value_counts().idxmax()
    cells = cells_of(frame, method)
    seconds = cells[cells["machine"] == machine].set_index("dataset")["training_seconds"].dropna()
    return np.exp(np.log(seconds).groupby(level=0).mean())


def energy_totals(records: Records) -> pd.DataFrame:
    """Sum up the estimated energy of all sizes and seeds of each method.

    Returns
    -------
    DataFrame
        By method: `kwh`, `known` (cells that have an estimate) and `cells`.
    """
    frame = records_frame(records)
    done = frame[~frame["failed"]]
    kwh = pd.to_numeric(done["energy_kwh"] if "energy_kwh" in done else pd.Series(index=done.index))
    groups = kwh.groupby(done["method"])
    return pd.DataFrame({"kwh": groups.sum(), "known": groups.count(), "cells": groups.size()})


@dataclass(frozen=True)
class Means:
    """Means over the same data sets.

    Attributes
    ----------
    table : DataFrame
        A row a method, a column a point of its curve or a quantity.
    n_datasets : int
        Number of data sets.
    """

    table: pd.DataFrame
    n_datasets: int


def mean_curves(scores: Mapping[Any, pd.DataFrame]) -> Means:
    """Average scores over the data sets that have every method at every point.

    Parameters
    ----------
    scores : mapping of DataFrame
        By point (size, network); rows are data sets, columns the same methods in each.

    Raises
    ------
    DataError
        If no data set has all points.
    """
    whole = pd.concat(dict(scores), axis=1).dropna()
    if whole.empty:
        raise DataError("no data set has all points of the curves")
    return Means(pd.DataFrame({point: whole[point].mean() for point in scores}), len(whole))
