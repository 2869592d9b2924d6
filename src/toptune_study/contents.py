"""The tables of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from toptune_study.analysis import (
    Cells,
    Column,
    Method,
    energy_totals,
    mean_seconds,
    score_table,
)
from toptune_study.inference import TIE, Interval
from toptune_study.summary import Missing, Summary, attempt
from toptune_study.tables import Head, Table, shown

_LAYERS = {"auto": "many layers", "last": "last layer"}


def method_title(method: Method, summary: Summary, *, network: bool = False) -> str:
    """Name of a method for readers: the network only where it is not the main one."""
    given = ", ".join(f"{key} {value}" for key, value in method.settings)
    name = _short_title(method) + (f" ({given})" if given else "")
    return f"{name}, {method.backbone}" if network or method.backbone != summary.backbone else name


def _short_title(method: Method) -> str:
    """Name of a method without its network and settings."""
    if method.layers is None:
        return f"fine-tuning {method.head}"
    return f"{method.head}, {_LAYERS.get(method.layers, method.layers)}"


def _points(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _mean_differences(summary: Summary) -> dict[str, float]:
    """Top-tuning minus fine-tuning on each data set, means over seeds, points."""
    found = summary.versus_full
    if isinstance(found, Missing):
        return {}
    return dict(zip(found.datasets, (100 * found.differences).tolist(), strict=True))


def methods_table(summary: Summary) -> Table:
    """Every method on all training images."""
    rows = []
    for method in summary.methods:
        if not summary.cells.has(method):
            continue
        table = score_table(summary.cells, methods=[method])
        versus = None if method == summary.reference else summary.versus(method)
        seconds = list(mean_seconds(summary.cells, method).values())
        times = summary.times(method) if method.layers is None else Missing("a head")
        difference, interval, shared = None, None, None
        if versus is not None and not isinstance(versus, Missing):
            difference, interval = 100 * versus.mean, versus.interval
            shared = len(versus.datasets)
        rows.append(
            (
                method_title(method, summary, network=True),
                len(table.datasets),
                float(table.scores.mean()),
                difference,
                _points(interval),
                shared,
                float(np.exp(np.mean(np.log(seconds)))) if seconds else None,
                None if isinstance(times, Missing) else times.geometric_mean,
            )
        )
    return Table(
        "methods",
        "Methods, all training images",
        (
            Head("method"),
            Head("data sets", "count"),
            Head("accuracy", "score"),
            Head("top-tuning minus it, points", "points"),
            Head("95 % interval", "points range"),
            Head("on data sets", "count"),
            Head("training seconds", "seconds"),
            Head("times as long as top-tuning", "ratio"),
        ),
        rows,
        "Accuracy is the mean over the data sets of each method, which differ where the study is "
        "incomplete; the difference is on those that both have. Seconds are geometric means, from "
        "image files to the trained classifier; the last column compares them on the data sets "
        "that both have.",
    )


def datasets_table(summary: Summary) -> Table | Missing:
    """List the main methods data set by data set."""
    scores = summary.scores
    if isinstance(scores, Missing):
        return scores
    images = {} if isinstance(summary.images, Missing) else summary.images
    times = summary.times_full
    ratios = (
        {}
        if isinstance(times, Missing)
        else dict(zip(times.datasets, times.ratios.tolist(), strict=True))
    )
    known = {row["dataset"]: row for row in summary.cells.done if row["size"] == 1.0}
    mean = _mean_differences(summary)
    rows = []
    for name, values, seeds in zip(scores.datasets, scores.scores, scores.seeds, strict=True):
        found, row = images.get(name), known[name]
        rows.append(
            (
                name,
                row["n_classes"],
                row["n_train"],
                row["n_test"],
                *values.tolist(),
                int(seeds.max()),
                mean.get(name),
                None if found is None else (100 * found.low, 100 * found.high),
                ratios.get(name),
            )
        )
    return Table(
        "datasets",
        "Accuracy by data set",
        (
            Head("data set"),
            Head("classes", "count"),
            Head("training images", "count"),
            Head("test images", "count"),
            *(Head(_short_title(method), "score") for method in scores.methods),
            Head("seeds", "count"),
            Head("difference, points", "points"),
            Head("its 95 % interval", "points range"),
            Head("times faster", "ratio"),
        ),
        rows,
        "Means over the seeds that the methods share. The difference is top-tuning minus "
        "fine-tuning; its interval is a bootstrap over the test images of the first seed.",
    )


def _extreme(found: tuple[str, float]) -> str:
    return f"{found[0]} ({shown(100 * found[1], 'points')})"


def differences_table(summary: Summary) -> Table:
    """Top-tuning minus other methods."""
    rows = []
    for found in summary.differences:
        if isinstance(found, Missing):
            continue
        rows.append(
            (
                method_title(found.b, summary),
                100 * found.mean,
                _points(found.interval),
                100 * found.hodges_lehmann,
                _points(found.rank_interval),
                found.p_value,
                f"{found.wins} / {found.ties} / {found.losses}",
                len(found.datasets),
                _extreme(found.worst),
                _extreme(found.best),
            )
        )
    missing = [found.why for found in summary.differences if isinstance(found, Missing)]
    return Table(
        "differences",
        f"Top-tuning ({summary.reference.head}, many layers) minus others, points of accuracy",
        (
            Head("minus"),
            Head("mean", "points"),
            Head("95 % interval", "points range"),
            Head("Hodges-Lehmann", "points"),
            Head("its 95 % interval", "points range"),
            Head("Wilcoxon p", "p"),
            Head("wins / ties / losses", "count"),
            Head("data sets", "count"),
            Head("worst"),
            Head("best"),
        ),
        rows,
        "Over data sets, seeds averaged within each. The interval of the mean is a bootstrap (BCa) "
        "over data sets, that of the Hodges-Lehmann estimate belongs to Wilcoxon's test. Both take "
        "data sets to be independent, which those of one source are less. p-values are not "
        "adjusted for their number."
        + "".join(f" Missing: {why}." for why in dict.fromkeys(missing)),
    )


def ranks_table(summary: Summary) -> Table | Missing:
    """Mean ranks of heads."""
    found = summary.ranking
    if isinstance(found, Missing):
        return found
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return Table(
        "ranks",
        "Mean ranks of heads on the same features of many layers",
        (Head("head"), Head("mean rank", "number")),
        [
            (column.method.head, rank)
            for column, rank in zip(found.columns, found.ranks.tolist(), strict=True)
        ],
        f"{len(found.datasets)} data sets; Friedman's test: {p}; critical difference of mean ranks "
        f"(Nemenyi, 5 %): {found.critical_difference:.2f}."
        + (f" Mind: {found.note}." if found.note else ""),
    )


def times_table(summary: Summary) -> Table | Missing:
    """Training times by data set."""
    found = summary.times_full
    if isinstance(found, Missing):
        return found
    fast, slow, ratios = (
        values.tolist() for values in (found.fast_seconds, found.slow_seconds, found.ratios)
    )
    q1, q2, q3 = found.quartiles
    return Table(
        "times",
        "Seconds of training, from image files to the trained classifier",
        (
            Head("data set"),
            Head("top-tuning", "seconds"),
            Head("fine-tuning", "seconds"),
            Head("ratio", "ratio"),
        ),
        list(zip(found.datasets, fast, slow, ratios, strict=True)),
        f"Quartiles of the ratio {q1:.1f}, {q2:.1f} and {q3:.1f}. Both on the same processor with "
        f"the same number of threads; left out: {found.left_out} pairs without times, "
        f"{found.other_machine} of different machines.",
    )


def losses_table(summary: Summary) -> Table | Missing:
    """List data sets where fine-tuning wins."""
    images = summary.images
    if isinstance(images, Missing):
        return images
    mean = _mean_differences(summary)
    lost = sorted((value, name) for name, value in mean.items() if value < -100 * TIE)
    return Table(
        "fine-tuning-wins",
        "Data sets where fine-tuning is more accurate",
        (
            Head("data set"),
            Head("top-tuning minus fine-tuning, points", "points"),
            Head("95 % interval over test images", "points range"),
            Head("McNemar p", "p"),
            Head("test images", "count"),
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


def _curve_table(
    summary: Summary, name: str, title: str, point: Callable[[Column], str]
) -> Table | Missing:
    found = summary.sizes if name == "sizes" else summary.backbones
    if isinstance(found, Missing):
        return found
    rows = []
    for line, means in zip(found.lines, found.means, strict=True):
        rows.append((_short_title(line[0].method), *means.tolist()))
    heads = [Head(point(column), "score") for column in found.lines[0]]
    return Table(
        name,
        title,
        (Head("head"), *heads),
        rows,
        f"Mean over the same {len(found.datasets)} data sets at every point.",
    )


def sizes_table(summary: Summary) -> Table | Missing:
    """Accuracy against the part of the training images."""
    return _curve_table(
        summary,
        "sizes",
        "Accuracy against the part of the training images",
        lambda column: f"{100 * column.size:g} %",
    )


def backbones_table(summary: Summary) -> Table | Missing:
    """Accuracy against the network."""
    return _curve_table(
        summary, "backbones", "Accuracy against the network", lambda c: c.method.backbone
    )


def leave_one_out_table(summary: Summary) -> Table | Missing:
    """Compare leave-one-out with test accuracy."""
    found = summary.leave_one_out
    if isinstance(found, Missing):
        return found
    return Table(
        "leave-one-out",
        "Leave-one-out minus test accuracy of top-tuning, points",
        (
            Head("bias", "points"),
            Head("95 % interval", "points range"),
            Head("mean absolute difference", "number"),
            Head("data sets", "count"),
        ),
        [
            (
                100 * found.bias,
                _points(found.interval),
                100 * found.mean_absolute,
                len(found.datasets),
            )
        ],
    )


def energy_table(summary: Summary) -> Table | Missing:
    """Estimated energy of each method."""
    totals = energy_totals(summary.cells)
    known = {method: found for method, found in totals.items() if found.known}
    if not known:
        return Missing("no record has an estimate of its energy")
    return Table(
        "energy",
        "Estimated energy of the training processes",
        (
            Head("method"),
            Head("watt-hours", "number"),
            Head("cells with an estimate", "count"),
            Head("cells", "count"),
        ),
        [
            (method_title(m, summary, network=True), 1000 * e.kwh, e.known, e.cells)
            for m, e in sorted(known.items(), key=lambda item: summary.methods.index(item[0]))
        ],
    )


def failures_table(cells: Cells) -> Table | Missing:
    """Cells that failed, by data set, method and error."""
    if not cells.failed:
        return Missing("no cell failed")
    rows = Counter((row["dataset"], Method.of(row).name, str(row["error"])) for row in cells.failed)
    return Table(
        "failures",
        "Cells that failed",
        (Head("data set"), Head("method"), Head("error"), Head("cells", "count")),
        [(*key, count) for key, count in sorted(rows.items())],
    )


def all_tables(summary: Summary) -> dict[str, Table | Missing]:
    """All tables of a report by name."""
    return {
        "methods": methods_table(summary),
        "datasets": attempt(datasets_table, summary),
        "differences": differences_table(summary),
        "ranks": ranks_table(summary),
        "times": times_table(summary),
        "fine-tuning-wins": losses_table(summary),
        "sizes": sizes_table(summary),
        "backbones": backbones_table(summary),
        "leave-one-out": leave_one_out_table(summary),
        "energy": energy_table(summary),
        "failures": failures_table(summary.cells),
    }
