"""Write what a study found: tables, figures and one page that works offline.

    STUDY/report/index.html             the page, with everything in it
    STUDY/report/tables/NAME.md .csv .tex
    STUDY/report/figures/NAME.svg .png
    STUDY/results.parquet               the records, to be kept and shared

The same records give the same bytes.
"""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toptune.errors import DataError, StorageError
from toptune.reports.html.drawing import inline_svg, png_bytes, svg_text
from toptune.reports.html.rendering import render
from toptune_study.analysis import Cells, column_table
from toptune_study.contents import all_tables, method_title
from toptune_study.figures import FIGURES
from toptune_study.inference import bootstrap_interval
from toptune_study.methods import Column, Method
from toptune_study.records import Record, read_records, write_results
from toptune_study.summary import Missing, Summary
from toptune_study.tables import Head, Table, shown

PLAN = "plan.yaml"
REPORT = "report"


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of a report come from.

    Attributes
    ----------
    name : str
        Of the study.
    plan_sha256 : str or None
        Hash of the plan; None where the folder has no plan.
    planned : int or None
        Cells that the plan asks for.
    done, failed, other : int
        Cells that ended well, that failed, and records that the plan does not ask for.
    versions, processors, threads : tuple of str
        Of what ran the cells.
    first, last : str
        When the first and the last of them started.
    """

    name: str
    plan_sha256: str | None
    planned: int | None
    done: int
    failed: int
    other: int
    versions: tuple[str, ...]
    processors: tuple[str, ...]
    threads: tuple[str, ...]
    first: str
    last: str

    @property
    def missing(self) -> int | None:
        """Cells that have no record yet."""
        return None if self.planned is None else self.planned - self.done - self.failed


def open_study(study: Path) -> tuple[Summary, Provenance]:
    """Read the records that the plan of a study asks for; all of them where there is no plan.

    Raises
    ------
    DataError
        If there are no records, all of them failed, or the plan or a record cannot be read.
    """
    records = read_records(study)
    if not records:
        raise DataError(f"{study} has no records: run the study first")
    name, digest, planned, other = study.resolve().name, None, None, 0
    if (study / PLAN).is_file():
        from toptune_study.plan import read_plan

        plan = read_plan(study / PLAN)
        ids = {cell.id for cell in plan.cells()}
        name, planned = plan.name, len(ids)
        digest = hashlib.sha256((study / PLAN).read_bytes()).hexdigest()
        other = len(records.keys() - ids)
        records = {key: row for key, row in records.items() if key in ids}
    cells = Cells(records)
    summary = Summary(cells)
    times = sorted(str(row["started"]) for row in cells.done)
    provenance = Provenance(
        name=name,
        plan_sha256=digest,
        planned=planned,
        done=len(cells.done),
        failed=len(cells.failed),
        other=other,
        versions=_versions(cells.done),
        processors=_distinct(cells.done, "processor"),
        threads=_distinct(cells.done, "threads"),
        first=times[0],
        last=times[-1],
    )
    return summary, provenance


def _distinct(rows: list[Record], key: str) -> tuple[str, ...]:
    return tuple(sorted({str(row[key]) for row in rows if row.get(key) is not None}))


def _versions(rows: list[Record]) -> tuple[str, ...]:
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, version in (row.get("versions") or {}).items():
            found.setdefault(name, set()).add(str(version))
    return tuple(f"{name} {', '.join(sorted(v))}" for name, v in sorted(found.items()))


def write_report(study: Path, out: Path | None = None) -> Path:
    """Write the report of a study, and its records to ``results.parquet``.

    Parameters
    ----------
    study : Path
        Folder with records, and the plan they belong to. It need not be complete: sections whose
        records are not there say what is missing.
    out : Path, optional
        Folder to write to, ``STUDY/report`` by default.

    Returns
    -------
    Path
        The page, ``index.html``.

    Raises
    ------
    DataError
        If there are no records, all of them failed, or the plan or a record cannot be read.
    StorageError
        If a file cannot be written.
    """
    study = Path(study)
    folder = study / REPORT if out is None else Path(out)
    summary, provenance = open_study(study)
    tables, pictures = all_tables(summary), _pictures(summary)
    page = _page(summary, provenance, tables, pictures)
    write_results(study, read_records(study).values())
    files: dict[str, bytes] = {"index.html": page.encode()}
    for name, table in tables.items():
        if isinstance(table, Table):
            files[f"tables/{name}.md"] = f"{table.markdown()}\n{table.note}\n".encode()
            files[f"tables/{name}.csv"] = table.csv().encode()
            files[f"tables/{name}.tex"] = table.latex().encode()
    for name, picture in pictures.items():
        if not isinstance(picture, Missing):
            files[f"figures/{name}.svg"] = picture.svg.encode()
            files[f"figures/{name}.png"] = picture.png
    try:
        for place, content in files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)
        _remove_old(folder, files, [*tables, *pictures])
    except OSError as error:
        raise StorageError(f"cannot write the report to {folder}: {error.strerror}") from error
    return folder / "index.html"


def _remove_old(folder: Path, kept: dict[str, bytes], names: list[str]) -> None:
    """Remove tables and figures of an earlier report that this one has not."""
    for part, endings in (("tables", (".md", ".csv", ".tex")), ("figures", (".svg", ".png"))):
        for place in (f"{part}/{name}{ending}" for name in names for ending in endings):
            if place not in kept:
                (folder / place).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Picture:
    title: str
    svg: str
    png: bytes
    inline: str


def _pictures(summary: Summary) -> dict[str, _Picture | Missing]:
    found: dict[str, _Picture | Missing] = {}
    for name, (draw, title) in FIGURES.items():
        figure = draw(summary)
        if isinstance(figure, Missing):
            found[name] = figure
            continue
        svg = svg_text(figure)
        found[name] = _Picture(
            title, svg, png_bytes(figure), inline_svg(svg, name, html.escape(title))
        )
    return found


def _page(
    summary: Summary,
    provenance: Provenance,
    tables: dict[str, Table | Missing],
    pictures: dict[str, _Picture | Missing],
) -> str:
    from markupsafe import Markup

    figures = {
        name: p if isinstance(p, Missing) else {"title": p.title, "svg": Markup(p.inline)}
        for name, p in pictures.items()
    }
    rows = {
        name: [[Markup(cell) for cell in row] for row in table.html_rows()]
        for name, table in tables.items()
        if isinstance(table, Table)
    }
    content = {
        "cards": headline(summary, provenance),
        "provenance": provenance,
        "summary": summary,
        "tables": tables,
        "rows": rows,
        "figures": figures,
        "missing": lambda thing: isinstance(thing, Missing),
    }
    return render("toptune_study", "report.html.j2", content)


def headline(summary: Summary, provenance: Provenance) -> list[dict[str, str]]:
    """Return the first numbers of a report: value, what it is, and what to mind."""
    cards = [
        _card(f"{provenance.done:,}", "training processes", f"{len(summary.methods)} methods"),
        _card(str(len(summary.datasets)), "data sets", _extent(provenance)),
    ]
    versus, times = summary.versus_full, summary.times_full
    if isinstance(versus, Missing):
        cards.append(_card("–", "points against fine-tuning", versus.why))
    else:
        interval = _in_brackets(versus.interval, 100, "points range")
        p = shown(versus.p_value, "p")
        detail = f"{interval}{len(versus.datasets)} data sets, Wilcoxon p {p}"
        cards.append(
            _card(
                shown(100 * versus.mean, "points"),
                "points of accuracy against fine-tuning all weights",
                "; ".join(filter(None, (detail, versus.note))),
            )
        )
    if isinstance(times, Missing):
        cards.append(_card("–", "times faster than fine-tuning", times.why))
    else:
        detail = f"{_in_brackets(times.interval, 1, 'range')}geometric mean"
        cards.append(
            _card(
                shown(times.geometric_mean, "ratio"),
                "times faster to train than fine-tuning",
                f"{detail}; {shown(times.least[1], 'ratio')} to "
                f"{shown(times.largest[1], 'ratio')} on {len(times.datasets)} data sets",
            )
        )
    return cards


def _card(value: str, what: str, detail: str) -> dict[str, str]:
    return {"value": value, "what": what, "detail": detail}


def _in_brackets(interval: tuple[float, float] | None, factor: float, kind: Any) -> str:
    if interval is None:
        return ""
    return f"95 % interval {shown((factor * interval[0], factor * interval[1]), kind)}; "


def _extent(provenance: Provenance) -> str:
    if provenance.missing:
        return f"{provenance.missing:,} of {provenance.planned:,} cells still to run"
    return "" if provenance.planned is None else "all cells have run"


def readme_table(study: Path) -> str:
    """Return the headline and the main methods of a study as Markdown.

    Parameters
    ----------
    study : Path
        Folder with records.

    Raises
    ------
    DataError
        As `write_report`.
    """
    summary, provenance = open_study(Path(study))
    first = (
        f"A study of {provenance.done:,} training processes on {len(summary.datasets)} data sets. "
        f"{_sentence(summary)}\n\n{_other_ways(summary)}"
    )
    methods = [
        *summary.heads(),
        *([summary.last] if summary.cells.has(summary.last) else []),
        *([] if isinstance(summary.full, Missing) else [summary.full]),
    ]
    return first + _common_table(summary, methods)


def _sentence(summary: Summary) -> str:
    versus, times = summary.versus_full, summary.times_full
    if isinstance(versus, Missing) or isinstance(times, Missing):
        return f"Top-tuning is the {method_title(summary.reference, summary)}."
    points = shown(100 * versus.mean, "points")
    faster = shown(times.geometric_mean, "ratio")
    between = _in_brackets(versus.interval, 100, "points range")
    ratio = _in_brackets(times.interval, 1, "range").rstrip("; ")
    return (
        f"Top-tuning ({method_title(summary.reference, summary)}) against fine-tuning all weights "
        f"of the same network{_as_given(summary)} on {len(versus.datasets)} of them: {points} "
        "points of accuracy"
        f" ({between}Wilcoxon p {shown(versus.p_value, 'p')})"
        f", better on {versus.wins} and worse on {versus.losses}, "
        f"trained {faster} times faster" + (f" ({ratio})" if ratio else "") + "."
    )


def _other_ways(summary: Summary) -> str:
    """List what other ways to fine-tune gave, each on the data sets that it was run on."""
    lines = []
    for method in summary.tuned:
        versus, times = summary.versus(method), summary.times(method)
        if method == summary.full or isinstance(versus, Missing) or isinstance(times, Missing):
            continue
        points = shown(100 * versus.mean, "points")
        between = _in_brackets(versus.interval, 100, "points range").rstrip("; ")
        lines.append(
            f"- {method_title(method, summary)}, on {len(versus.datasets)} data sets: {points} "
            f"points{f' ({between})' if between else ''}, and it took "
            f"{shown(times.geometric_mean, 'ratio')} times as long as top-tuning\n"
        )
    if not lines:
        return ""
    return "Top-tuning minus other ways to fine-tune:\n\n" + "".join(lines) + "\n"


def _as_given(summary: Summary) -> str:
    """Return the settings of fine-tuning, which nobody searched for better ones."""
    full = summary.full
    if isinstance(full, Missing) or not full.settings:
        return ""
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in full.settings)
    return f" ({given}; no search for better ones)"


def _common_table(summary: Summary, methods: list[Method]) -> str:
    """Accuracy of methods on the data sets that all of them have, and what top-tuning gains."""
    if summary.reference not in methods:
        return f"No records of {method_title(summary.reference, summary)} yet.\n"
    found = column_table(summary.cells, [Column(m) for m in methods]).complete()
    n = len(found.datasets)
    if not n:
        return "No data set has records of all methods yet.\n"
    heads = (
        Head("method"),
        Head(f"accuracy, mean of {n} data sets", "score"),
        Head("top-tuning minus it, points", "points"),
        Head("95 % interval", "points range"),
    )
    best = found.scores[:, methods.index(summary.reference)]
    rows: list[tuple[Any, ...]] = []
    for method, scores in zip(methods, found.scores.T, strict=True):
        gain = None if method == summary.reference else 100 * (best - scores)
        rows.append(
            (
                method_title(method, summary),
                float(scores.mean()),
                None if gain is None else float(gain.mean()),
                None if gain is None else bootstrap_interval(gain),
            )
        )
    return Table("readme", "", heads, rows).markdown()
