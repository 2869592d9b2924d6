"""Records of a study as one data frame, and the methods that it compares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from toptune.errors import DataError
from toptune_study.records import Record


@dataclass(frozen=True)
class Method:
    """What is compared: a head on features of some layers, or a way to train the network.

    Attributes
    ----------
    backbone, head : str
        Network, and head.
    layers : str or None
        Layers that the features are of; None where the head trains the network.
    settings : tuple of (str, value)
        Parameters of the head that differ from its defaults, by name.
    """

    backbone: str
    layers: str | None
    head: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, record: Record) -> Method:
        """Return the method of a record."""
        settings = tuple(sorted((record.get("settings") or {}).items()))
        return cls(record["backbone"], record["layers"], record["head"], settings)

    @property
    def short(self) -> str:
        """Head and layers, without network and settings."""
        return self.head if self.layers is None else f"{self.head} {self.layers}"

    @property
    def name(self) -> str:
        """Head, layers, network and settings."""
        given = "".join(f" {name}={value}" for name, value in self.settings)
        return f"{self.short} {self.backbone}{given}"

    def __lt__(self, other: Method) -> bool:
        return self.name < other.name


#: Records by id, or any number of them, or the data frame of them.
Records: TypeAlias = "Mapping[str, Record] | Iterable[Record] | pd.DataFrame"


def records_frame(records: Records) -> pd.DataFrame:
    """Return records as a data frame, one row a cell, the newest record of each.

    Parameters
    ----------
    records : mapping, iterable of Record, or DataFrame
        Of a study; a data frame is returned as it is.

    Returns
    -------
    DataFrame
        Sorted by id. Its columns are the keys of records, of which those of failed cells have
        fewer, and `failed` (bool), `method` (Method), `test` (hash of the test images),
        `training_seconds` (NaN where unknown) and `machine` (processor and number of threads).
    """
    if isinstance(records, pd.DataFrame):
        return records
    rows = records.values() if isinstance(records, Mapping) else records
    newest: dict[str, Record] = {}
    for row in sorted(rows, key=lambda row: str(row.get("started"))):
        newest[str(row["id"])] = row
    return pd.DataFrame([newest[key] | _derived(newest[key]) for key in sorted(newest)])


def _derived(row: Record) -> dict[str, Any]:
    test = repr((row.get("data_sha256"), row.get("true")))
    seconds = training_seconds(row)
    return {
        "failed": bool(row["error"]),
        "method": Method.of(row),
        "test": hashlib.sha256(test.encode()).hexdigest(),
        "training_seconds": math.nan if seconds is None else seconds,
        "machine": f"{row.get('processor')}, {row.get('threads')} threads",
    }


def training_seconds(record: Record) -> float | None:
    """Return the seconds from image files to a trained classifier: all stages but the prediction.

    None where a stage is missing or no number: heads on features need the share of the extraction.
    """
    seconds = record.get("seconds")
    if not isinstance(seconds, Mapping):
        return None
    needed = {"fit"} if record["layers"] is None else {"fit", "decode_extract"}
    stages = {name: value for name, value in seconds.items() if name != "predict"}
    if not needed <= stages.keys() or not all(
        isinstance(value, int | float) and math.isfinite(value) for value in stages.values()
    ):
        return None
    total = float(sum(stages.values()))
    return total if total > 0 else None


def has_cells(frame: pd.DataFrame, method: Method, size: float = 1.0) -> bool:
    """Return whether a cell of a method has ended without error."""
    return bool(_chosen(frame, method, size, failed=False).any())


def failures(frame: pd.DataFrame, *methods: Method) -> int:
    """Count the failed cells of methods on all training images."""
    return sum(int(_chosen(frame, method, 1.0, failed=True).sum()) for method in methods)


def _chosen(frame: pd.DataFrame, method: Method, size: float, *, failed: bool) -> pd.Series[bool]:
    if frame.empty:
        return pd.Series([], dtype=bool)
    same = frame["method"].map(method.__eq__)
    return same & (frame["size"] == size) & (frame["failed"] == failed)


def cells_of(frame: pd.DataFrame, method: Method, size: float = 1.0) -> pd.DataFrame:
    """Return the cells of a method that ended without error, by data set and seed.

    Raises
    ------
    DataError
        If there are none, saying why.
    """
    found = frame[_chosen(frame, method, size, failed=False)]
    if len(found):
        return found.sort_values(["dataset", "seed"])
    failed = int(_chosen(frame, method, size, failed=True).sum())
    if failed:
        raise DataError(f"all {failed} cells of {method.name} at size {size:g} failed")
    known = [m.name for m in methods_of(frame) if has_cells(frame, m, size)]
    raise DataError(
        f"no records of {method.name} at size {size:g}; there are {', '.join(known) or 'none'}"
    )


def methods_of(frame: pd.DataFrame) -> list[Method]:
    """Return the methods that have a cell without error, by name."""
    return [] if frame.empty else sorted(set(frame.loc[~frame["failed"], "method"]))


def paired_cells(frame: pd.DataFrame, a: Method, b: Method) -> tuple[pd.DataFrame, int]:
    """Return the cells that two methods share, and how many cells have no partner.

    Returns
    -------
    DataFrame
        One row a pair with the same data set, seed and test images, on all training images;
        columns of the records of a end in `_a`, of b in `_b`.
    int
        Cells that the other method has not, or has with other test images.

    Raises
    ------
    DataError
        If there are no such cells.
    """
    of_a, of_b = cells_of(frame, a), cells_of(frame, b)
    pairs = of_a.merge(of_b, on=["dataset", "seed", "test"], suffixes=("_a", "_b"))
    if pairs.empty:
        raise DataError(f"{a.name} and {b.name} have no cell in common at size 1")
    return pairs, len(of_a) + len(of_b) - 2 * len(pairs)


@dataclass(frozen=True)
class ScoreTable:
    """Means over seeds, a row a data set and a column a method.

    Attributes
    ----------
    scores, seeds : DataFrame of shape (n, k)
        Means, NaN where there is no record, and the number of seeds in each.
    """

    scores: pd.DataFrame
    seeds: pd.DataFrame


def score_table(
    records: Records,
    methods: Iterable[Method] | None = None,
    *,
    size: float = 1.0,
    metric: str = "accuracy",
) -> ScoreTable:
    """Average scores over the seeds that methods share.

    On each data set, the seeds are those that all methods which have this data set have in common,
    with the same test images.

    Parameters
    ----------
    records : mapping or iterable of Record, or DataFrame
        As `records_frame` takes them.
    methods : iterable of Method, optional
        Columns; by default all that have records of this size.
    size : float
        Part of the training images.
    metric : str
        "accuracy", "balanced_accuracy", "log_loss" or "loo_accuracy".

    Raises
    ------
    DataError
        If a method has no records, or there are none at all.
    """
    frame = records_frame(records)
    if methods is None:
        methods = [m for m in methods_of(frame) if has_cells(frame, m, size)]
    parts = [cells_of(frame, method, size) for method in methods]
    if not parts:
        raise DataError("there are no records to make a table of")
    rows = pd.concat(parts)
    rows = rows.assign(value=pd.to_numeric(rows[metric])).dropna(subset="value")
    has_dataset = rows.groupby("dataset")["method"].transform("nunique")
    has_cell = rows.groupby(["dataset", "seed", "test"])["method"].transform("nunique")
    groups = rows[has_cell == has_dataset].groupby(["dataset", "method"])["value"]
    order = [part["method"].iloc[0] for part in parts]
    names = sorted(rows["dataset"].unique())
    return ScoreTable(
        scores=groups.mean().unstack().reindex(index=names, columns=order),
        seeds=groups.count()
        .unstack(fill_value=0)
        .reindex(index=names, columns=order, fill_value=0),
    )
