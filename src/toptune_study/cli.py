"""`toptune datasets`, and `toptune study run`, `status` and `report`.

The entry point that adds these commands to `toptune` is in the group `toptune.commands`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from toptune.cli import options, output
from toptune.cli.app import interruptible
from toptune.errors import DataError

if TYPE_CHECKING:
    from toptune_study.runner import StudyStatus

Study = Annotated[Path, typer.Argument(help="Folder with the study's plan.yaml.")]

#: Failed cells listed on the screen; JSON has them all.
_SHOWN = 10
#: Of what the registry says, in JSON.
_DESCRIPTION = {
    *("name", "title", "classes", "images", "split", "flip"),
    *("licence", "source", "citation"),
}


def datasets(
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            help="Download this public data set into the folder that TOPTUNE_DATA names, and list "
            "it alone; may be given several times.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the data sets of studies and where they are. Nothing is downloaded but what you name."""
    from toptune_study.datasets import dataset_info, registry, whereabouts
    from toptune_study.fetching import fetch_dataset

    names = list(fetch or registry())
    for name in names:
        dataset_info(name)  # a slip in the last name is told before the first is fetched
    for name in fetch or ():
        if whereabouts(name).state != "here":
            fetch_dataset(name)
    rows = [(dataset_info(name), whereabouts(name)) for name in names]
    if json:
        found = [info.model_dump(include=_DESCRIPTION) | vars(place) for info, place in rows]
        output.print_json({"datasets": found})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "classes", "images", "split", "licence", "state", "where"):
        side: Any = "right" if column in ("classes", "images") else "left"
        table.add_column(column, justify=side, no_wrap=column in ("name", "state"), overflow="fold")
    for info, place in rows:
        counts = (str(info.classes), str(info.images))
        about = (info.split, escape(info.licence), place.state, escape(place.where))
        table.add_row(info.name, *counts, *about)
    output.console.print(table)
    output.console.print(
        "fetchable: toptune datasets --fetch NAME. missing: put your copy into the folder that "
        "TOPTUNE_DATA names, as NAME/CLASS/FILE or NAME/train/CLASS/FILE and NAME/test/CLASS/FILE.",
        markup=False,
    )


def run(
    folder: Study,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one per processor. They share these."),
    ] = None,
    heads: Annotated[str, typer.Option(help="Only cells with these heads, NAME,NAME.")] = "",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also run again what failed.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Run what the plan asks for and has no record yet; a killed run goes on where it stopped.

    Several runs may work on one folder at a time: they divide the cells.
    """
    from toptune_study.runner import run_study

    names = [name.strip() for name in heads.split(",") if name.strip()]
    console = Console(stderr=True)
    live = Live(console=console, auto_refresh=False, transient=True)
    start, first = time.monotonic(), 0

    def watch(status: StudyStatus) -> None:
        nonlocal first
        first = first or len(status.records)
        rate = (len(status.records) - first) / max(time.monotonic() - start, 1.0)
        live.update(_table(status, rate=rate), refresh=True)

    if console.is_terminal:
        with live:
            found = run_study(folder, workers=workers, heads=names, again=retry_failed, watch=watch)
    else:
        found = run_study(folder, workers=workers, heads=names, again=retry_failed)
    _print_status(found, json=json)


def status(folder: Study, json: options.Json = False) -> None:
    """Say how far a study is, and what failed."""
    from toptune_study.runner import study_status

    _print_status(study_status(folder), json=json)


def report(
    folder: Study,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write to; by default STUDY/report."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare the methods: one page, tables and figures from the records that there are."""
    from toptune_study.report import write_report

    page = write_report(folder, out)
    if json:
        output.print_json({"report": str(page)})
        return
    output.console.print(f"report written to {page}", markup=False, soft_wrap=True)


def status_summary(status: StudyStatus) -> dict[str, Any]:
    """Return what `study status --json` prints."""
    labels = {cell.id: cell.label for cell in status.cells}
    return {
        "cells": len(status.cells),
        "done": len(status.records) - len(status.failed),
        "failed": [
            {"id": record["id"], "cell": labels[record["id"]], "error": record["error"]}
            for record in status.failed
        ],
        "waiting": len(status.waiting),
        "absent_datasets": list(status.absent),
        "records_of_other_plans": status.other,
        "heads": status.counts("head").to_dict("index"),
    }


def _print_status(status: StudyStatus, *, json: bool) -> None:
    summary = status_summary(status)
    if json:
        output.print_json(summary)
        return
    output.console.print(_table(status))
    for record in summary["failed"][:_SHOWN]:
        line = f"failed: {record['cell']}: {record['error']}"
        output.console.print(line, markup=False, soft_wrap=True)
    if len(status.failed) > _SHOWN:
        output.console.print(f"... and {len(status.failed) - _SHOWN} more failed: see --json")
    if status.absent:
        names = ", ".join(status.absent)
        output.console.print(f"not on this machine: {names}", markup=False, soft_wrap=True)
    if status.other:
        output.console.print(f"{status.other} records of cells that the plan no longer asks for")


def _table(status: StudyStatus, *, rate: float = 0.0) -> Table:
    """Numbers of cells by head; with a rate, in cells per second, also how long it will take."""
    table = Table(title_justify="left")
    for column in ("head", "done", "failed", "cells"):
        table.add_column(column, justify="left" if column == "head" else "right")
    counts = status.counts("head")
    for name, *row in counts.itertuples():
        table.add_row(name, *map(str, row))
    done, failed, total = counts.sum().tolist()
    table.add_section()
    table.add_row("all", str(done), str(failed), str(total))
    if rate > 0:
        left = output.seconds((total - done - failed) / rate)
        table.caption = f"{60 * rate:.0f} cells per minute, about {left} to go"
    return table


#: Packages of the extra `study`.
_EXTRA = ("pandas", "scikit_posthocs")


def _needs_extra(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: without the packages of the extra `study` it says how to get them."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        missing = [name for name in _EXTRA if find_spec(name) is None]
        if missing:
            raise DataError(
                "toptune study needs the extra study: pip install 'toptune[study]' "
                f"(missing: {', '.join(missing)})"
            )
        command(*args, **kwargs)

    return run


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application of `toptune`."""
    app.command()(interruptible(datasets, kept="what was fetched as a whole is kept"))
    studies = typer.Typer(
        help="Many training processes over many data sets, resumable, and what they say.",
        no_args_is_help=True,
    )
    for command in (run, status, report):
        kept = "what has ended is recorded, and the same command goes on from there"
        studies.command()(interruptible(_needs_extra(command), kept=kept))
    app.add_typer(studies, name="study")
