"""The tables of a report, each a data frame, and how its values are written.

Titles of columns say what is in them: `KINDS` has the format of each. A table is written as
Markdown, CSV and LaTeX by pandas, and as HTML by the template of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from toptune.errors import DataError
from toptune_study.analysis import Means, energy_totals, mean_seconds
from toptune_study.frames import Method, score_table
from toptune_study.inference import TIE, Interval
from toptune_study.summary import Missing, Summary, attempt

Format = Literal[
    "text", "count", "score", "points", "p", "seconds", "ratio", "number", "points range", "range"
]
_TITLES: dict[Format, str] = {
    "text": "method|data set|head|minus|worst|best|error",
    "count": "data sets|on data sets|cells|cells with an estimate|seeds|classes|training images|"
    "test images|wins / ties / losses",
    "points": "top-tuning minus it, points|top-tuning minus fine-tuning, points|"
    "difference, points|mean|Hodges-Lehmann|bias",
    "points range": "95 % interval|its 95 % interval|95 % interval over test images",
    "seconds": "training seconds|top-tuning|fine-tuning",
    "ratio": "times as long as top-tuning|times faster|ratio",
    "number": "mean rank|mean absolute difference|watt-hours",
    "p": "Wilcoxon p|McNemar p",
}
#: Format of columns by title; of others it is "score".
KINDS = {title: kind for kind, titles in _TITLES.items() for title in titles.split("|")}
_NOTHING = "–"
_LAYERS = {"auto": "many layers", "last": "last layer"}


class Table:
    """Values in rows, and how they are written.

    Parameters
    ----------
    title, note : str
        What it shows, and what to mind.
    columns : sequence of str
        Titles.
    rows : iterable of sequence
        Values: text, numbers, ranges as pairs of numbers, or None.
    """

    def __init__(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
    ) -> None:
        self.title, self.note = title, note
        self.columns = list(columns)
        self.kinds: list[Format] = [KINDS.get(column, "score") for column in columns]
        self.rows = [tuple(row) for row in rows]

    def shown(self) -> pd.DataFrame:
        """Return all values as text."""
        rows = [
            [shown(v, kind) for v, kind in zip(row, self.kinds, strict=True)] for row in self.rows
        ]
        return pd.DataFrame(rows, columns=self.columns, dtype=object)

    def markdown(self) -> str:
        """Return a table of GitHub's Markdown, without the title."""
        text = self.shown().map(markdown_text).rename(columns=markdown_text)
        sides = ["left" if kind == "text" else "right" for kind in self.kinds]
        return f"{text.to_markdown(index=False, disable_numparse=True, colalign=sides)}\n"

    def csv(self) -> str:
        """Return comma-separated values in full precision; a range becomes two columns."""
        values: dict[str, list[Any]] = {}
        for k, (column, kind) in enumerate(zip(self.columns, self.kinds, strict=True)):
            own = [row[k] for row in self.rows]
            if kind.endswith("range"):
                for end, name in enumerate(("low", "high")):
                    values[f"{column} {name}"] = [None if v is None else v[end] for v in own]
            else:
                values[column] = own
        return str(pd.DataFrame(values, dtype=object).to_csv(index=False, lineterminator="\n"))

    def latex(self) -> str:
        r"""Return a tabular environment for the package booktabs, to put into a table."""
        text = self.shown().map(latex_text).rename(columns=latex_text)
        sides = "".join("l" if kind == "text" else "r" for kind in self.kinds)
        body = text.to_latex(index=False, escape=False, column_format=sides)
        return f"% {latex_text(self.title)}\n{body}"


def shown(value: Any, kind: Format) -> str:
    """Write a value for readers."""
    if value is None or value != value:
        return _NOTHING
    if kind.endswith("range"):
        inner: Format = "points" if kind == "points range" else "ratio"
        return f"{shown(value[0], inner)} to {shown(value[1], inner)}"
    if kind == "score":
        return f"{value:.3f}"
    if kind == "points":
        # What rounds to zero has no sign.
        return f"{value:+.1f}" if round(value, 1) else "0.0"
    if kind == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if kind in ("seconds", "ratio"):
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.2f}" if kind == "number" else str(value)


def markdown_text(text: str) -> str:
    """Escape what Markdown, its HTML or GitHub's formulas would take for their own."""
    line = re.sub(r"\s+", " ", text)
    line = re.sub(r"([\\|*`\[\]$#~])", r"\\\1", line)
    # An underscore within a word is none of emphasis.
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """Escape what LaTeX would take for its own; minus signs become those of formulas."""
    line = "".join(_LATEX.get(mark, mark) for mark in re.sub(r"\s+", " ", text))
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", line)


def short_title(method: Method) -> str:
    """Return the name of a method without its network and settings."""
    if method.layers is None:
        return f"fine-tuning {method.head}"
    return f"{method.head}, {_LAYERS.get(method.layers, method.layers)}"


def method_title(method: Method, summary: Summary, *, network: bool = False) -> str:
    """Return the name of a method for readers: the network only where it is not the main one."""
    given = ", ".join(f"{key} {value}" for key, value in method.settings)
    name = short_title(method) + (f" ({given})" if given else "")
    return f"{name}, {method.backbone}" if network or method.backbone != summary.backbone else name


def _points(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _at(found: tuple[str, float]) -> str:
    return f"{found[0]} ({shown(100 * found[1], 'points')})"


def _mean_differences(summary: Summary) -> dict[str, float]:
    """Return top-tuning minus fine-tuning on each data set, means over seeds, points."""
    found = attempt(lambda: summary.versus_full)
    return {} if isinstance(found, Missing) else (100 * found.differences).to_dict()


def _methods(summary: Summary) -> Table:
    rows = []
    for method in filter(summary.has, summary.methods):
        scores = score_table(summary.frame, [method]).scores
        seconds = mean_seconds(summary.frame, method)
        row: list[Any] = [
            method_title(method, summary, network=True),
            len(scores),
            float(scores.mean().iloc[0]),
            *(None, None, None),
            float(np.exp(np.log(seconds).mean())),
            None,
        ]
        if method != summary.reference:
            versus = attempt(partial(summary.versus, method))
            if not isinstance(versus, Missing):
                row[3:6] = 100 * versus.mean, _points(versus.interval), len(versus.differences)
        if method.layers is None:
            times = attempt(partial(summary.times, method))
            row[7] = None if isinstance(times, Missing) else times.geometric_mean
        rows.append(row)
    return Table(
        "Methods, all training images",
        (
            *("method", "data sets", "accuracy", "top-tuning minus it, points", "95 % interval"),
            *("on data sets", "training seconds", "times as long as top-tuning"),
        ),
        rows,
        "Accuracy is the mean over the data sets of each method, which differ where the study is "
        "incomplete; the difference is on those that both have. Seconds are geometric means, from "
        "image files to the trained classifier; the last column compares them on the data sets "
        "that both have.",
    )


def _datasets(summary: Summary) -> Table:
    scores, seeds = summary.scores.scores, summary.scores.seeds.max(axis=1)
    images, times = attempt(lambda: summary.images), attempt(lambda: summary.times_full)
    ratios = {} if isinstance(times, Missing) else times.seconds["ratio"].to_dict()
    whole = summary.done[summary.done["size"] == 1.0].drop_duplicates("dataset", keep="last")
    counts = whole.set_index("dataset")[["n_classes", "n_train", "n_test"]].astype(int)
    mean = _mean_differences(summary)
    rows = []
    for name, values in scores.iterrows():
        found = None if isinstance(images, Missing) else images.get(str(name))
        rows.append(
            (
                name,
                *counts.loc[name].tolist(),
                *values.tolist(),
                int(seeds[name]),
                mean.get(str(name)),
                None if found is None else (100 * found.low, 100 * found.high),
                ratios.get(name),
            )
        )
    return Table(
        "Accuracy by data set",
        (
            *("data set", "classes", "training images", "test images"),
            *(short_title(method) for method in scores.columns),
            *("seeds", "difference, points", "its 95 % interval", "times faster"),
        ),
        rows,
        "Means over the seeds that the methods share. The difference is top-tuning minus "
        "fine-tuning; its interval is a bootstrap over the test images of the first seed.",
    )


def _differences(summary: Summary) -> Table:
    known = [found for found in summary.differences if not isinstance(found, Missing)]
    missing = [found.why for found in summary.differences if isinstance(found, Missing)]
    return Table(
        f"Top-tuning ({summary.reference.head}, many layers) minus others, points of accuracy",
        (
            *("minus", "mean", "95 % interval", "Hodges-Lehmann", "its 95 % interval"),
            *("Wilcoxon p", "wins / ties / losses", "data sets", "worst", "best"),
        ),
        [
            (
                method_title(found.b, summary),
                100 * found.mean,
                _points(found.interval),
                100 * found.hodges_lehmann,
                _points(found.rank_interval),
                found.p_value,
                f"{found.wins} / {found.ties} / {found.losses}",
                len(found.differences),
                _at(found.worst),
                _at(found.best),
            )
            for found in known
        ],
        "Over data sets, seeds averaged within each. The interval of the mean is a bootstrap (BCa) "
        "over data sets, that of the Hodges-Lehmann estimate belongs to Wilcoxon's test. Both take "
        "data sets to be independent, which those of one source are less. p-values are not "
        "adjusted for their number."
        + "".join(f" Missing: {why}." for why in dict.fromkeys(missing)),
    )


def _ranks(summary: Summary) -> Table:
    found = summary.ranking
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return Table(
        "Mean ranks of heads on the same features of many layers",
        ("head", "mean rank"),
        [(method.head, rank) for method, rank in found.ranks.items()],
        f"{len(found.scores)} data sets; Friedman's test: {p}; critical difference of mean ranks "
        f"(Nemenyi, 5 %): {found.critical_difference:.2f}."
        + (f" Mind: {found.note}." if found.note else ""),
    )


def _times(summary: Summary) -> Table:
    found = summary.times_full
    q1, q2, q3 = found.quartiles
    return Table(
        "Seconds of training, from image files to the trained classifier",
        ("data set", "top-tuning", "fine-tuning", "ratio"),
        found.seconds[["fast", "slow", "ratio"]].itertuples(),
        f"Quartiles of the ratio {q1:.1f}, {q2:.1f} and {q3:.1f}. Both on the same processor with "
        f"the same number of threads; left out: {found.left_out} pairs without times, "
        f"{found.other_machine} of different machines.",
    )


def _losses(summary: Summary) -> Table:
    images = summary.images
    mean = _mean_differences(summary)
    lost = sorted((value, name) for name, value in mean.items() if value < -100 * TIE)
    return Table(
        "Data sets where fine-tuning is more accurate",
        (
            *("data set", "top-tuning minus fine-tuning, points"),
            *("95 % interval over test images", "McNemar p", "test images"),
        ),
        [
            (
                name,
                difference,
                (100 * images[name].low, 100 * images[name].high),
                images[name].p_value,
                images[name].n,
            )
            for difference, name in lost
        ],
        f"{len(lost)} of {len(mean)} data sets. Differences are means over seeds, intervals and "
        "tests those of the first seed; p-values are not adjusted for the number of data sets.",
    )


def _curves(title: str, found: Means) -> Table:
    points = [f"{100 * p:g} %" if isinstance(p, float) else str(p) for p in found.table.columns]
    return Table(
        title,
        ("head", *points),
        [(short_title(method), *values.tolist()) for method, values in found.table.iterrows()],
        f"Mean over the same {found.n_datasets} data sets at every point.",
    )


def _leave_one_out(summary: Summary) -> Table:
    found = summary.leave_one_out
    bias, absolute = 100 * found.bias, 100 * found.mean_absolute
    return Table(
        "Leave-one-out minus test accuracy of top-tuning, points",
        ("bias", "95 % interval", "mean absolute difference", "data sets"),
        [(bias, _points(found.interval), absolute, len(found.differences))],
    )


def _energy(summary: Summary) -> Table:
    totals = energy_totals(summary.frame)
    known = totals[totals["known"] > 0]
    if known.empty:
        raise DataError("no record has an estimate of its energy")
    known = known.loc[[m for m in summary.methods if m in known.index]]
    return Table(
        "Estimated energy of the training processes",
        ("method", "watt-hours", "cells with an estimate", "cells"),
        [
            (method_title(method, summary, network=True), 1000 * kwh, with_estimate, cells)
            for method, kwh, with_estimate, cells in known.itertuples()
        ],
    )


def _failures(summary: Summary) -> Table:
    failed = summary.frame[summary.frame["failed"]]
    if failed.empty:
        raise DataError("no cell failed")
    names = failed.assign(method=[method.name for method in failed["method"]])
    counts = names.groupby(["dataset", "method", "error"]).size()
    return Table(
        "Cells that failed",
        ("data set", "method", "error", "cells"),
        [(*key, count) for key, count in counts.items()],
    )


def _sizes(summary: Summary) -> Table:
    return _curves("Accuracy against the part of the training images", summary.sizes)


def _backbones(summary: Summary) -> Table:
    return _curves("Accuracy against the network", summary.backbones)


#: Tables by name: what makes each.
TABLES = {
    "methods": _methods,
    "datasets": _datasets,
    "differences": _differences,
    "ranks": _ranks,
    "times": _times,
    "fine-tuning-wins": _losses,
    "sizes": _sizes,
    "backbones": _backbones,
    "leave-one-out": _leave_one_out,
    "energy": _energy,
    "failures": _failures,
}


def all_tables(summary: Summary) -> dict[str, Table | Missing]:
    """Return all tables of a report by name."""
    return {name: attempt(partial(make, summary)) for name, make in TABLES.items()}
