"""The comparisons of a report: which methods are compared, and how they did.

Top-tuning is our kernel head on features of many layers. It is compared with every other
head on the same features, with itself on the last layer, and with fine-tuning of the same network.
What cannot be computed, because its records are not there, is a `Missing` that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from toptune.errors import DataError
from toptune.evaluation.intervals import PairedDifference
from toptune_study.analysis import (
    LeaveOneOutBias,
    Means,
    MethodDifference,
    Ranking,
    TimeRatio,
    compare_methods,
    image_differences,
    leave_one_out_bias,
    mean_curves,
    mean_seconds,
    rank_methods,
    time_ratio,
)
from toptune_study.frames import (
    Method,
    ScoreTable,
    cells_of,
    has_cells,
    methods_of,
    score_table,
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


def attempt(function: Callable[[], T]) -> T | Missing:
    """Call a function; a DataError, what is wrong with the records, becomes a `Missing`."""
    try:
        return function()
    except DataError as error:
        return Missing(str(error))


class Summary:
    """The comparisons of a report, each computed when it is asked for.

    One whose records are not there raises a DataError, which says why.

    Parameters
    ----------
    frame : DataFrame
        Records of the study, from `records_frame`.

    Raises
    ------
    DataError
        If no cell has ended without error.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.done = frame if frame.empty else frame[~frame["failed"]]
        if self.done.empty:
            failed = f"all {len(frame)} failed" if len(frame) else "there are no records"
            raise DataError(f"no cell of the study has ended well: {failed}")
        self.methods = sorted(methods_of(frame), key=order_of)
        self.backbone = self._main_backbone()
        # Our head as TopTuner has it; studies without it compare that of one kernel.
        head = "kernel" if any(m.head == "kernel" for m in self.methods) else "gaussian"
        self.reference = Method(self.backbone, "auto", head)
        self.last = Method(self.backbone, "last", head)
        # Of several settings of one way to fine-tune, that with the most data sets comes first.
        tuned = [m for m in self.methods if m.layers is None and m.backbone == self.backbone]
        self.tuned = sorted(tuned, key=lambda m: (order_of(m)[:2], -self._n_datasets(m)))
        self.datasets: list[str] = sorted(self.done["dataset"].unique())

    def _main_backbone(self) -> str:
        """Return the network with most fine-tuning; of several the one with most records."""
        every = self.done["backbone"].value_counts()
        trained = self.done.loc[self.done["layers"].isna(), "backbone"].value_counts()
        return min(
            map(str, every.index), key=lambda name: (-trained.get(name, 0), -every[name], name)
        )

    def _n_datasets(self, method: Method) -> int:
        """Count data sets that a method has, on all training images."""
        return int(cells_of(self.frame, method)["dataset"].nunique()) if self.has(method) else 0

    def has(self, method: Method) -> bool:
        """Return whether a method has a cell without error, on all training images."""
        return has_cells(self.frame, method)

    @property
    def full(self) -> Method:
        """Fine-tuning of all weights."""
        for method in self.tuned:
            if method.head == "full" and self.has(method):
                return method
        raise DataError(f"no records of fine-tuning all weights of {self.backbone} yet")

    def heads(self, layers: str = "auto") -> list[Method]:
        """Heads on the same features of the main network, all training images."""
        same = (m for m in self.methods if (m.backbone, m.layers) == (self.backbone, layers))
        return [method for method in same if self.has(method)]

    @property
    def main(self) -> list[Method]:
        """Methods shown data set by data set."""
        full = attempt(lambda: self.full)
        methods = (self.reference, self.last, full)
        return [m for m in methods if isinstance(m, Method) and self.has(m)]

    def versus(self, other: Method) -> MethodDifference:
        """Top-tuning minus another method."""
        return compare_methods(self.frame, self.reference, other)

    @cached_property
    def versus_full(self) -> MethodDifference:
        """Top-tuning minus fine-tuning of all weights."""
        return self.versus(self.full)

    @cached_property
    def differences(self) -> list[MethodDifference | Missing]:
        """Top-tuning minus every other head, minus the last layer, minus fine-tuning."""
        others = [m for m in self.heads() if m != self.reference]
        tuned = [m for m in self.tuned if self.has(m)]
        found = [attempt(partial(self.versus, method)) for method in (*others, self.last, *tuned)]
        if not self.has(self.last):
            found[len(others)] = Missing("no records of the head on the last layer yet")
        full = attempt(lambda: self.full)
        return [*found, full] if isinstance(full, Missing) else found

    def times(self, slow: Method) -> TimeRatio:
        """How many times longer than top-tuning another method trains."""
        return time_ratio(self.frame, slow, self.reference)

    @cached_property
    def times_full(self) -> TimeRatio:
        """How many times longer fine-tuning of all weights trains."""
        return self.times(self.full)

    @cached_property
    def images(self) -> dict[str, PairedDifference]:
        """Top-tuning minus fine-tuning on each data set, over its test images."""
        return image_differences(self.frame, self.reference, self.full)

    @cached_property
    def ranking(self) -> Ranking:
        """Heads on the same features of many layers, ranked."""
        return rank_methods(score_table(self.frame, self.heads()).scores)

    @cached_property
    def scores(self) -> ScoreTable:
        """Accuracy of the main methods on each data set, for the seeds they share there."""
        return score_table(self.frame, self.main)

    @cached_property
    def costs(self) -> Means:
        """Accuracy and seconds of methods (rows) on the data sets of the main ones."""
        names = score_table(self.frame, self.main).scores.dropna().index
        heads = [m for layers in ("auto", "last") for m in self.heads(layers)]
        tuned = [m for m in self.tuned if self.has(m)]
        times = {m: mean_seconds(self.frame, m) for m in (*self.main, *heads, *tuned)}
        kept = [m for m, known in times.items() if set(known.index) >= set(names)]
        if names.empty or not kept:
            raise DataError("no data set has accuracies and times of all main methods yet")
        scores = score_table(self.frame, kept).scores.dropna()
        seconds = {m: float(np.exp(np.log(times[m][scores.index]).mean())) for m in kept}
        table = pd.DataFrame({"accuracy": scores.mean(), "seconds": pd.Series(seconds)})
        return Means(table.reindex(kept), len(scores))

    @cached_property
    def sizes(self) -> Means:
        """Accuracy of heads against the part of the training images."""
        known = {m: set(self.done.loc[self.done["method"] == m, "size"]) for m in self.heads()}
        sizes: list[float] = sorted(set().union(*known.values()))
        if len(sizes) < 2:
            raise DataError("no records of parts of the training images yet")
        whole = [m for m in known if known[m] == set(sizes)]
        return mean_curves(
            {size: score_table(self.frame, whole, size=size).scores for size in sizes}
        )

    @cached_property
    def backbones(self) -> Means:
        """Accuracy of heads against the network."""
        lines: dict[tuple[str, str], list[str]] = {}
        for m in sorted(self.methods, key=lambda m: (order_of(m)[:2], m.backbone)):
            if m.layers is not None and self.has(m):
                lines.setdefault((m.layers, m.head), []).append(m.backbone)
        most = max(lines.values(), key=len, default=[])
        if len(most) < 2:
            raise DataError("no records of a second network yet")
        # A line that lacks a network, or has another one, would end up under wrong names.
        kept = [line for line, networks in lines.items() if networks == most]
        scores = score_table(self.frame, [Method(b, *line) for b in most for line in kept]).scores
        columns = [Method(most[0], *line) for line in kept]
        tables = {b: scores[[Method(b, *line) for line in kept]] for b in most}
        return mean_curves({b: table.set_axis(columns, axis=1) for b, table in tables.items()})

    @cached_property
    def leave_one_out(self) -> LeaveOneOutBias:
        """Leave-one-out against test accuracy of top-tuning."""
        return leave_one_out_bias(self.frame, self.reference)


def order_of(method: Method) -> tuple[Any, ...]:
    """Sort methods: by head as `ORDER` has them, many layers first, then by network."""
    head = ORDER.index(method.head) if method.head in ORDER else len(ORDER)
    return head, method.layers != "auto", method.backbone, method.name
