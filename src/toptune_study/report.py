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
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from toptune.errors import DataError, StorageError
from toptune.reports.html.drawing import inline_svg, png_bytes, svg_text
from toptune.reports.html.rendering import render
from toptune_study.figures import FIGURES
from toptune_study.frames import records_frame
from toptune_study.inference import Interval
from toptune_study.plan import PLAN, read_plan
from toptune_study.records import read_records, write_results
from toptune_study.summary import Missing, Summary, attempt
from toptune_study.tables import Format, Table, all_tables, shown

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
        Cells that ended without error, that failed, and records that the plan does not ask for.
    versions, processors, threads : list of str
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
    versions: list[str]
    processors: list[str]
    threads: list[str]
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
        plan = read_plan(study / PLAN)
        ids = {cell.id for cell in plan.cells()}
        name, planned = plan.name, len(ids)
        digest = hashlib.sha256((study / PLAN).read_bytes()).hexdigest()
        other = len(records.keys() - ids)
        records = {key: row for key, row in records.items() if key in ids}
    summary = Summary(records_frame(records))
    done = summary.done
    versions: dict[str, set[str]] = {}
    for row in done.get("versions", pd.Series()).dropna():
        for package, version in row.items():
            versions.setdefault(package, set()).add(str(version))
    provenance = Provenance(
        name=name,
        plan_sha256=digest,
        planned=planned,
        done=len(done),
        failed=len(summary.frame) - len(done),
        other=other,
        versions=[f"{key} {', '.join(sorted(versions[key]))}" for key in sorted(versions)],
        processors=sorted(map(str, done["processor"].dropna().unique())),
        threads=sorted(f"{n:g}" for n in done["threads"].dropna().unique()),
        first=str(done["started"].min()),
        last=str(done["started"].max()),
    )
    return summary, provenance


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
    context = {
        "cards": headline(summary, provenance),
        "provenance": provenance,
        "summary": summary,
        "tables": tables,
        "figures": pictures,
        "missing": lambda thing: isinstance(thing, Missing),
        "minus": lambda text: re.sub(r"(?<![\w.])-(?=\d)", "−", text),
    }
    page = render("toptune_study", "report.html.j2", context)
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
    inline: Markup


def _pictures(summary: Summary) -> dict[str, _Picture | Missing]:
    found: dict[str, _Picture | Missing] = {}
    for name, (draw, title) in FIGURES.items():
        figure = attempt(partial(draw, summary))
        if isinstance(figure, Missing):
            found[name] = figure
            continue
        svg = svg_text(figure)
        inline = Markup(inline_svg(svg, name, html.escape(title)))
        found[name] = _Picture(title, svg, png_bytes(figure), inline)
    return found


def headline(summary: Summary, provenance: Provenance) -> list[dict[str, str]]:
    """Return the first numbers of a report: value, what it is, and what to mind."""
    extent = "" if provenance.planned is None else "all cells have run"
    if provenance.missing:
        extent = f"{provenance.missing:,} of {provenance.planned:,} cells still to run"
    cards = [
        (f"{provenance.done:,}", "training processes", f"{len(summary.methods)} methods"),
        (str(len(summary.datasets)), "data sets", extent),
    ]
    versus = attempt(lambda: summary.versus_full)
    times = attempt(lambda: summary.times_full)
    if isinstance(versus, Missing):
        cards.append(("–", "points against fine-tuning", versus.why))
    else:
        interval = interval_text(versus.interval, 100, "points range")
        p = shown(versus.p_value, "p")
        detail = f"{interval}{len(versus.differences)} data sets, Wilcoxon p {p}"
        cards.append(
            (
                shown(100 * versus.mean, "points"),
                "points of accuracy against fine-tuning all weights",
                "; ".join(filter(None, (detail, versus.note))),
            )
        )
    if isinstance(times, Missing):
        cards.append(("–", "times faster than fine-tuning", times.why))
    else:
        ratios = times.seconds["ratio"]
        cards.append(
            (
                shown(times.geometric_mean, "ratio"),
                "times faster to train than fine-tuning",
                f"{interval_text(times.interval, 1, 'range')}geometric mean; "
                f"{shown(ratios.min(), 'ratio')} to {shown(ratios.max(), 'ratio')} "
                f"on {len(ratios)} data sets",
            )
        )
    return [dict(zip(("value", "what", "detail"), card, strict=True)) for card in cards]


def interval_text(interval: Interval | None, factor: float, kind: Format) -> str:
    """Return the words for an interval, scaled by a factor, with a semicolon after them."""
    if interval is None:
        return ""
    return f"95 % interval {shown((factor * interval[0], factor * interval[1]), kind)}; "
