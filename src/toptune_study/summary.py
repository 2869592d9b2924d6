"""What a report says of a study, as numbers: which methods are compared, and how they did.

Top-tuning is our kernel head on features of many layers. It is compared with every other
head on the same features, with itself on the last layer, and with fine-tuning of the same network.
What cannot be computed, because its records are not there, is a `Missing` that says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from toptune.errors import DataError
from toptune.evaluation import intervals as metrics
from toptune_study.analysis import (
    Cells,
    Column,
    Curve,
    LeaveOneOut,
    Method,
    PairedDifference,
    Ranking,
    ScoreTable,
    TimeRatio,
    curve,
    image_differences,
    leave_one_out,
    mean_seconds,
    paired_difference,
    ranking,
    score_table,
    time_ratio,
)

#: Heads in the order of tables and figures: ours, scikit-learn's, fine-tuning.
ORDER = (
    *("kernel", "gaussian", "laplacian", "linear"),
    *("logistic", "ridge", "svc", "knn", "centroid"),
    *("full", "lp-ft", "last-block", "head-only"),
)
T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """Why something is not in a report."""

    why: str


def attempt(function: Callable[..., T], *args: Any, **options: Any) -> T | Missing:
    """Call a function; what it finds wrong with the records becomes a `Missing`."""
    try:
        return function(*args, **options)
    except DataError as error:
        return Missing(str(error))


class Summary:
    """The comparisons of a report, each computed when it is asked for.

    Parameters
    ----------
    cells : Cells
        Records of the study.

    Raises
    ------
    DataError
        If no cell has ended well.
    """

    def __init__(self, cells: Cells) -> None:
        if not cells.done:
            failed = f"all {len(cells.failed)} failed" if cells.failed else "there are no records"
            raise DataError(f"no cell of the study has ended well: {failed}")
        self.cells = cells
        self.methods = sorted(cells.methods, key=order_of)
        self.backbone = self._main_backbone()
        # Our head as TopTuner has it; studies without it compare that of one kernel.
        head = "kernel" if any(m.head == "kernel" for m in self.methods) else "gaussian"
        self.reference = Method(self.backbone, "auto", head)
        self.last = Method(self.backbone, "last", head)
        # Of several settings of one way to fine-tune, that with the most data sets comes first.
        tuned = [m for m in self.methods if m.layers is None and m.backbone == self.backbone]
        self.tuned = sorted(tuned, key=lambda m: (order_of(m)[:2], -self.n_datasets(m)))
        self.datasets = sorted({row["dataset"] for row in cells.done})

    def _main_backbone(self) -> str:
        """Return the network with most fine-tuning; of several the one with most records."""
        trained = Counter(row["backbone"] for row in self.cells.done if row["layers"] is None)
        every = Counter(row["backbone"] for row in self.cells.done)
        return str(min(every, key=lambda name: (-trained[name], -every[name], name)))

    def n_datasets(self, method: Method, size: float = 1.0) -> int:
        """Count data sets that a method has."""
        if not self.cells.has(method, size):
            return 0
        return len({name for name, _ in self.cells.of(method, size)})

    @property
    def full(self) -> Method | Missing:
        """Fine-tuning of all weights."""
        for method in self.tuned:
            if method.head == "full" and self.cells.has(method):
                return method
        return Missing(f"no records of fine-tuning all weights of {self.backbone} yet")

    def heads(self, layers: str = "auto") -> list[Method]:
        """Heads on the same features of the main network, all training images."""
        return [
            method
            for method in self.methods
            if method.backbone == self.backbone
            and method.layers == layers
            and self.cells.has(method)
        ]

    def versus(self, other: Method | Missing) -> PairedDifference | Missing:
        """Top-tuning minus another method."""
        if isinstance(other, Missing):
            return other
        return attempt(paired_difference, self.cells, self.reference, other)

    @cached_property
    def versus_full(self) -> PairedDifference | Missing:
        """Top-tuning minus fine-tuning of all weights."""
        return self.versus(self.full)

    @cached_property
    def differences(self) -> list[PairedDifference | Missing]:
        """Top-tuning minus every other head, minus the last layer, minus fine-tuning."""
        others = [m for m in self.heads() if m != self.reference]
        last: Method | Missing = self.last
        if not self.cells.has(self.last):
            last = Missing("no records of the head on the last layer yet")
        tuned: list[Method | Missing] = [m for m in self.tuned if self.cells.has(m)]
        if isinstance(self.full, Missing):
            tuned.append(self.full)
        return [self.versus(method) for method in (*others, last, *tuned)]

    def times(self, slow: Method | Missing) -> TimeRatio | Missing:
        """How many times longer than top-tuning another method trains."""
        if isinstance(slow, Missing):
            return slow
        return attempt(time_ratio, self.cells, slow, self.reference)

    @cached_property
    def times_full(self) -> TimeRatio | Missing:
        """How many times longer fine-tuning of all weights trains."""
        return self.times(self.full)

    @cached_property
    def images(self) -> dict[str, metrics.PairedDifference] | Missing:
        """Top-tuning minus fine-tuning on each data set, over its test images."""
        full = self.full
        if isinstance(full, Missing):
            return full
        return attempt(image_differences, self.cells, self.reference, full)

    @cached_property
    def ranking(self) -> Ranking | Missing:
        """Heads on the same features of many layers, ranked."""

        def ranked() -> Ranking:
            table = score_table(self.cells, methods=self.heads(), common=True)
            return ranking(table)

        return attempt(ranked)

    @property
    def main(self) -> list[Method]:
        """Methods shown data set by data set."""
        full = [] if isinstance(self.full, Missing) else [self.full]
        return [m for m in (self.reference, self.last, *full) if self.cells.has(m)]

    @cached_property
    def scores(self) -> ScoreTable | Missing:
        """Accuracy of the main methods on each data set, for the seeds they share there."""
        return attempt(score_table, self.cells, methods=self.main, common=True)

    @cached_property
    def costs(self) -> tuple[ScoreTable, dict[Method, float]] | Missing:
        """Accuracy and seconds, geometric means, of methods on the data sets of the main ones."""

        def compared() -> tuple[ScoreTable, dict[Method, float]]:
            base = score_table(self.cells, methods=self.main, common=True).complete()
            heads = [m for layers in ("auto", "last") for m in self.heads(layers)]
            tuned = [m for m in self.tuned if self.cells.has(m)]
            times = {m: mean_seconds(self.cells, m) for m in (*self.main, *heads, *tuned)}
            kept = [m for m, known in times.items() if known.keys() >= set(base.datasets)]
            if not base.datasets or not kept:
                raise DataError("no data set has accuracies and times of all main methods yet")
            table = score_table(self.cells, methods=kept, common=True).complete()
            logs = {m: [np.log(times[m][name]) for name in table.datasets] for m in kept}
            return table, {m: float(np.exp(np.mean(values))) for m, values in logs.items()}

        return attempt(compared)

    @cached_property
    def sizes(self) -> Curve | Missing:
        """Accuracy of heads against the part of the training images."""

        def drawn() -> Curve:
            sizes = sorted({size for m in self.heads() for size in self.cells.sizes(m)})
            if len(sizes) < 2:
                raise DataError("no records of parts of the training images yet")
            whole = [m for m in self.heads() if self.cells.sizes(m) == sizes]
            return curve(self.cells, [[Column(m, size) for size in sizes] for m in whole])

        return attempt(drawn)

    @cached_property
    def backbones(self) -> Curve | Missing:
        """Accuracy of heads against the network."""

        def drawn() -> Curve:
            lines: dict[tuple[str, str], list[Column]] = {}
            for method in sorted(self.methods, key=lambda m: (order_of(m)[:2], m.backbone)):
                if method.layers is not None and self.cells.has(method):
                    lines.setdefault((method.head, method.layers), []).append(Column(method))
            networks = {k: [column.method.backbone for column in v] for k, v in lines.items()}
            most = max(networks.values(), key=len, default=[])
            if len(most) < 2:
                raise DataError("no records of a second network yet")
            # A line that lacks a network, or has another one, would end up under wrong names.
            return curve(self.cells, [line for key, line in lines.items() if networks[key] == most])

        return attempt(drawn)

    @cached_property
    def leave_one_out(self) -> LeaveOneOut | Missing:
        """Leave-one-out against test accuracy of top-tuning."""
        return attempt(leave_one_out, self.cells, self.reference)


def order_of(method: Method) -> tuple[Any, ...]:
    """Sort methods: by head as `ORDER` has them, many layers first, then by network."""
    head = ORDER.index(method.head) if method.head in ORDER else len(ORDER)
    return head, method.layers != "auto", method.backbone, method.name
