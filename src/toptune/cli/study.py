"""`toptune study run`, `status` and `report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune_study.runner import Status

Study = Annotated[Path, typer.Argument(help="Folder with the study's plan.yaml.")]

#: Failed cells listed on the screen; JSON has them all.
_SHOWN = 10


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

    def watch(status: Status) -> None:
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


def status_summary(status: Status) -> dict[str, Any]:
    """Return what `study status --json` prints."""
    return {
        "cells": len(status.cells),
        "done": len(status.records) - len(status.failed),
        "failed": [
            {"id": record["id"], "cell": _label(status, record["id"]), "error": record["error"]}
            for record in status.failed
        ],
        "waiting": len(status.waiting),
        "absent_datasets": list(status.absent),
        "records_of_other_plans": status.other,
        "heads": {
            name: {"done": done, "failed": failed, "cells": total}
            for name, (done, failed, total) in status.by("head").items()
        },
    }


def _print_status(status: Status, *, json: bool) -> None:
    if json:
        output.print_json(status_summary(status))
        return
    output.console.print(_table(status))
    for record in status.failed[:_SHOWN]:
        line = f"failed: {_label(status, record['id'])}: {record['error']}"
        output.console.print(line, markup=False, soft_wrap=True)
    if len(status.failed) > _SHOWN:
        output.console.print(f"... and {len(status.failed) - _SHOWN} more failed: see --json")
    if status.absent:
        names = ", ".join(status.absent)
        output.console.print(f"not on this machine: {names}", markup=False, soft_wrap=True)
    if status.other:
        output.console.print(f"{status.other} records of cells that the plan no longer asks for")


def _label(status: Status, cell_id: str) -> str:
    return next(cell.label for cell in status.cells if cell.id == cell_id)


def _table(status: Status, *, rate: float = 0.0) -> Table:
    """Numbers of cells by head; with a rate, in cells per second, also how long it will take."""
    table = Table(title_justify="left")
    for column in ("head", "done", "failed", "cells"):
        table.add_column(column, justify="left" if column == "head" else "right")
    rows = status.by("head")
    for name, row in rows.items():
        table.add_row(name, *map(str, row))
    done, failed, total = (sum(row[k] for row in rows.values()) for k in range(3))
    table.add_section()
    table.add_row("all", str(done), str(failed), str(total))
    if rate > 0:
        left = output.seconds((total - done - failed) / rate)
        table.caption = f"{60 * rate:.0f} cells per minute, about {left} to go"
    return table
