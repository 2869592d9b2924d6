"""What is compared in a study, and its records indexed by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toptune.errors import DataError
from toptune_study.records import Record

Records = Mapping[str, Record] | Iterable[Record]

#: Metrics of which less is better.
LOSSES = ("log_loss",)
#: Below so many data sets no signed-rank test reaches five percent.
LEAST_SETS = 6


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
        """All of it, in a few words."""
        given = "".join(f" {name}={value}" for name, value in self.settings)
        return f"{self.short} {self.backbone}{given}"


@dataclass(frozen=True)
class Column:
    """A method and the part of the training images that it is given."""

    method: Method
    size: float = 1.0


class Cells:
    """Records that ended well, by what they are of; `failed` are the others."""

    def __init__(self, records: Records) -> None:
        rows = records.values() if isinstance(records, Mapping) else records
        newest: dict[str, Record] = {}
        for row in sorted(rows, key=lambda row: str(row.get("started"))):
            newest[str(row["id"])] = row
        self.failed = [row for _, row in sorted(newest.items()) if row["error"]]
        self.done = [row for _, row in sorted(newest.items()) if not row["error"]]
        self._of: dict[Column, dict[tuple[str, int], Record]] = {}
        for row in self.done:
            column = Column(Method.of(row), float(row["size"]))
            self._of.setdefault(column, {})[row["dataset"], int(row["seed"])] = row
        self.methods = sorted({column.method for column in self._of}, key=lambda m: m.name)

    def of(self, method: Method, size: float = 1.0) -> dict[tuple[str, int], Record]:
        """Return records of a method by data set and seed.

        Raises
        ------
        DataError
            If there are none, saying why.
        """
        found = self._of.get(Column(method, size))
        if found:
            return found
        failed = sum(Method.of(row) == method and row["size"] == size for row in self.failed)
        if failed:
            raise DataError(f"all {failed} cells of {method.name} at size {size:g} failed")
        known = ", ".join(m.name for m in self.methods if Column(m, size) in self._of) or "none"
        raise DataError(f"no records of {method.name} at size {size:g}; there are {known}")

    def has(self, method: Method, size: float = 1.0) -> bool:
        """Tell whether a cell of a method has ended well."""
        return Column(method, size) in self._of

    def sizes(self, method: Method) -> list[float]:
        """Parts of the training images that a method was given."""
        return sorted(column.size for column in self._of if column.method == method)

    def failures(self, *methods: Method, size: float = 1.0) -> int:
        """Count failed cells of some methods."""
        return sum(Method.of(row) in methods and row["size"] == size for row in self.failed)


def as_cells(records: Records | Cells) -> Cells:
    """Index records; what is indexed stays."""
    return records if isinstance(records, Cells) else Cells(records)


def is_finite(value: Any) -> bool:
    """Tell whether a value of a record is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def same_test(a: Record, b: Record) -> bool:
    """Tell whether two records are of the same test images."""
    contents = {row["data_sha256"] for row in (a, b) if row.get("data_sha256")}
    return len(contents) < 2 and a["true"] == b["true"]


def by_dataset(values: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    """Values of all seeds of each data set, data sets in the order of their names."""
    found: dict[str, list[float]] = {}
    for (dataset, _), value in sorted(values.items()):
        found.setdefault(dataset, []).append(value)
    return found


def few_sets(n: int) -> str:
    """Say that so few data sets prove little, or nothing where there are enough."""
    if n >= LEAST_SETS:
        return ""
    sets = "one data set" if n == 1 else f"{n} data sets"
    return f"only {sets}: no test can reach 5 %, and intervals say little"


def common_cells(
    cells: Cells, a: Method, b: Method, size: float
) -> tuple[dict[tuple[str, int], tuple[Record, Record]], int]:
    """Cells that both have with the same test images, and how many have no partner.

    Raises
    ------
    DataError
        If there are no such cells.
    """
    of_a, of_b = cells.of(a, size), cells.of(b, size)
    both = {
        key: (of_a[key], of_b[key])
        for key in sorted(of_a.keys() & of_b.keys())
        if same_test(of_a[key], of_b[key])
    }
    if not both:
        raise DataError(f"{a.name} and {b.name} have no cell in common at size {size:g}")
    return both, len(of_a) + len(of_b) - 2 * len(both)
