"""Records of a study -> what methods cost: seconds of training, energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toptune.errors import DataError
from toptune_study import inference
from toptune_study.inference import Floats, Interval
from toptune_study.methods import (
    Cells,
    Method,
    Records,
    as_cells,
    by_dataset,
    common_cells,
    few_sets,
    is_finite,
)
from toptune_study.records import Record


def training_seconds(record: Record) -> float | None:
    """Seconds from image files to a trained classifier: all stages but the prediction.

    None where a stage is missing or no number: heads on features need the share of the extraction.
    """
    seconds = record.get("seconds")
    if not isinstance(seconds, Mapping):
        return None
    needed = {"fit"} if record["layers"] is None else {"fit", "decode_extract"}
    stages = {name: value for name, value in seconds.items() if name != "predict"}
    if not needed <= stages.keys() or not all(is_finite(value) for value in stages.values()):
        return None
    total = float(sum(stages.values()))
    return total if total > 0 else None


def machine(record: Record) -> tuple[Any, Any]:
    """Processor and number of threads: times of one machine can be compared."""
    return record.get("processor"), record.get("threads")


@dataclass(frozen=True)
class TimeRatio:
    """How many times longer one method trains than another, on the same machine.

    Attributes
    ----------
    slow, fast : Method
        Numerator and denominator.
    datasets : tuple of str
        Data sets that both have, n of them, by name.
    ratios : ndarray of shape (n,)
        Geometric means over seeds.
    slow_seconds, fast_seconds : ndarray of shape (n,)
        Geometric means over seeds of the seconds of training.
    geometric_mean : float
        Over data sets.
    interval : tuple of float, or None
        Bootstrap interval of it over data sets; None for one data set.
    quartiles : tuple of float
        First, second and third quartile of the ratios.
    cells : int
        Pairs of cells.
    left_out : int
        Pairs of which a time is missing or no number.
    other_machine : int
        Pairs with different processors or numbers of threads.
    """

    slow: Method
    fast: Method
    datasets: tuple[str, ...]
    ratios: Floats
    slow_seconds: Floats
    fast_seconds: Floats
    geometric_mean: float
    interval: Interval | None
    quartiles: tuple[float, float, float]
    cells: int
    left_out: int
    other_machine: int

    @property
    def least(self) -> tuple[str, float]:
        """Data set with the smallest ratio."""
        k = int(np.argmin(self.ratios))
        return self.datasets[k], float(self.ratios[k])

    @property
    def largest(self) -> tuple[str, float]:
        """Data set with the largest ratio."""
        k = int(np.argmax(self.ratios))
        return self.datasets[k], float(self.ratios[k])

    @property
    def note(self) -> str:
        """What to mind, or nothing."""
        return few_sets(len(self.datasets))


def time_ratio(
    records: Records | Cells,
    slow: Method,
    fast: Method,
    *,
    size: float = 1.0,
    level: float = 0.95,
    random_state: int = 0,
) -> TimeRatio:
    """Divide the training times of two methods, on cells that both have.

    Only cells with the same processor and number of threads are compared.

    Parameters
    ----------
    records : mapping or iterable of Record, or Cells
        Of a study.
    slow, fast : Method
        The ratio is that of slow to fast.
    size : float
        Part of the training images.
    level, random_state : float, int
        Coverage of the interval, seed of the bootstrap.

    Returns
    -------
    TimeRatio

    Raises
    ------
    DataError
        If a method has no records, or no pair of cells can be compared, saying why.
    """
    both, _ = common_cells(as_cells(records), slow, fast, size)
    times: dict[tuple[str, int], tuple[float, float]] = {}
    left_out = other = 0
    for key, pair in both.items():
        first, second = (training_seconds(row) for row in pair)
        if first is None or second is None:
            left_out += 1
        elif machine(pair[0]) != machine(pair[1]):
            other += 1
        else:
            times[key] = (float(np.log(first)), float(np.log(second)))
    if not times:
        raise DataError(
            f"no times of {slow.name} and {fast.name} can be compared: {left_out} pairs without "
            f"times, {other} on different processors or numbers of threads"
        )
    log_slow, log_fast = (
        np.array([np.mean(v) for v in by_dataset({k: t[i] for k, t in times.items()}).values()])
        for i in (0, 1)
    )
    logs = log_slow - log_fast
    bounds = inference.bootstrap_interval(logs, level=level, random_state=random_state)
    q1, q2, q3 = np.quantile(np.exp(logs), [0.25, 0.5, 0.75]).tolist()
    return TimeRatio(
        slow=slow,
        fast=fast,
        datasets=tuple(dict.fromkeys(name for name, _ in sorted(times))),
        ratios=np.exp(logs),
        slow_seconds=np.exp(log_slow),
        fast_seconds=np.exp(log_fast),
        geometric_mean=float(np.exp(logs.mean())),
        interval=None if bounds is None else (float(np.exp(bounds[0])), float(np.exp(bounds[1]))),
        quartiles=(q1, q2, q3),
        cells=len(times),
        left_out=left_out,
        other_machine=other,
    )


def mean_seconds(
    records: Records | Cells, method: Method, *, size: float = 1.0
) -> dict[str, float]:
    """Seconds of training by data set, geometric means over seeds.

    Unknown times are left out, and those of other machines than the one with most records.
    """
    cells = as_cells(records)
    most = Counter(machine(row) for row in cells.done).most_common(1)[0][0]
    rows = cells.of(method, size)
    known = {key: training_seconds(row) for key, row in rows.items() if machine(row) == most}
    logs = {key: float(np.log(value)) for key, value in known.items() if value is not None}
    return {name: float(np.exp(np.mean(values))) for name, values in by_dataset(logs).items()}


@dataclass(frozen=True)
class Energy:
    """Estimated energy of the cells of a method: kilowatt-hours, and of how many it is known."""

    kwh: float
    known: int
    cells: int


def energy_totals(records: Records | Cells) -> dict[Method, Energy]:
    """Sum up the energy of all sizes and seeds of each method; cells without it are counted."""
    found: dict[Method, Energy] = {}
    for row in as_cells(records).done:
        method = Method.of(row)
        before = found.get(method, Energy(0.0, 0, 0))
        value: Any = row.get("energy_kwh")
        known = is_finite(value)
        found[method] = Energy(
            kwh=before.kwh + (float(value) if known else 0.0),
            known=before.known + known,
            cells=before.cells + 1,
        )
    return dict(sorted(found.items(), key=lambda item: item[0].name))
