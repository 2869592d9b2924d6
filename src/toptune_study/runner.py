"""Run a study: workers in processes of their own, processors divided among them; watch and resume.

    STUDY/plan.yaml     what is to be run
    STUDY/records/      one file per cell that has ended
    STUDY/claims/       locks of the cells that run at this moment

Nothing else is kept, so that a study resumes after any end: what has a record is done, what has
none is run. Several runs on one folder, and several machines that share it, divide the cells.

Processes are started here, not by joblib: when one of its processes is killed the whole pool
breaks, with the cells of the others, and it does not tell which cell the process was at.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pandas as pd

from toptune.errors import DataError, StorageError
from toptune_study.datasets import is_here, load_dataset
from toptune_study.plan import PLAN, Cell, read_plan
from toptune_study.records import (
    RECORDS,
    Record,
    forget_failed,
    read_record,
    read_records,
    record_path,
    unpack_results,
    write_record,
)
from toptune_study.worker import NO_STORAGE, blank_record, current_cell

#: A worker that died is started anew, unless so many have died in this run.
_DEATHS = 5
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes
    ----------
    cells : tuple of Cell
        All that the plan asks for.
    records : dict
        Records of these cells by id; those of an older plan are not among them.
    absent : tuple of str
        Data sets of the plan that are not on this machine.
    other : int
        Number of records of cells that the plan no longer asks for.
    """

    cells: tuple[Cell, ...]
    records: dict[str, Record]
    absent: tuple[str, ...]
    other: int

    @property
    def failed(self) -> list[Record]:
        """Records of cells that ended with an error."""
        return [record for record in self.records.values() if record["error"]]

    @property
    def waiting(self) -> list[Cell]:
        """Cells without a record, also those of data sets that are absent."""
        return [cell for cell in self.cells if cell.id not in self.records]

    def counts(self, by: str) -> pd.DataFrame:
        """Count cells `done` without error, `failed`, and all `cells`, by a field of the cell."""
        errors = [self.records.get(cell.id, {"error": None})["error"] for cell in self.cells]
        known = [cell.id in self.records for cell in self.cells]
        table = pd.DataFrame({"failed": map(bool, errors), "done": known, "cells": 1})
        table["done"] &= ~table["failed"]
        key = [str(getattr(cell, by)) for cell in self.cells]
        return table[["done", "failed", "cells"]].groupby(key, sort=False).sum()


def study_status(study: Path) -> StudyStatus:
    """Compare the plan of a study, a folder with ``plan.yaml``, with its records.

    Raises
    ------
    DataError
        If there is no plan, it is invalid, or a record is damaged.
    """
    cells = tuple(read_plan(study / PLAN).cells())
    known = {cell.id for cell in cells}
    records = read_records(study)
    names = dict.fromkeys(cell.dataset for cell in cells)
    return StudyStatus(
        cells=cells,
        records={i: record for i, record in records.items() if i in known},
        absent=tuple(name for name in names if not is_here(name)),
        other=len(records.keys() - known),
    )


def run_study(
    study: Path,
    *,
    workers: int | None = None,
    heads: Sequence[str] = (),
    again: bool = False,
    watch: Callable[[StudyStatus], None] | None = None,
) -> StudyStatus:
    """Run every cell that has no record; those of absent data sets are left.

    Parameters
    ----------
    study : Path
        Folder with ``plan.yaml``.
    workers : int, optional
        Processes; by default one per processor this process may use. Processors are divided
        among them.
    heads : sequence of str
        Only cells with these heads; all by default.
    again : bool
        Also cells whose record says that they failed; that record is deleted first.
    watch : callable, optional
        Called with the status, every second or two.

    Returns
    -------
    StudyStatus
        In the end.

    Raises
    ------
    DataError
        If the plan is invalid, no data set of it is on this machine, or the images of one have
        changed since cells of it ran.
    StorageError
        If a record cannot be written; what runs is stopped, and the study can be resumed.
    """
    unpack_results(study)
    status = study_status(study)
    _check_heads(status, heads)
    todo = [
        cell
        for cell in status.cells
        if cell.dataset not in status.absent
        and (not heads or cell.head in heads)
        and (cell.id not in status.records or (again and status.records[cell.id]["error"]))
    ]
    if not todo:
        return status
    _check_contents(status, dict.fromkeys(cell.dataset for cell in todo))
    if again:
        forget_failed(study, {cell.id for cell in todo})
        status = study_status(study)
    have = _available_processors()
    processors = divided(have, min(workers or len(have), len(todo)))
    _Workers(study, processors, heads=heads, status=status, watch=watch).run()
    return study_status(study)


def _check_heads(status: StudyStatus, heads: Sequence[str]) -> None:
    known = dict.fromkeys(cell.head for cell in status.cells)
    for head in heads:
        if head not in known:
            raise DataError(f"the plan has no head {head!r}; it has {', '.join(known)}")
    if status.cells and len(status.absent) == len({cell.dataset for cell in status.cells}):
        raise DataError(
            f"none of the plan's data sets is on this machine: {', '.join(status.absent)}; "
            "`toptune datasets` says where they are looked for"
        )


def _check_contents(status: StudyStatus, names: Iterable[str]) -> None:
    """Refuse to mix records of different images under one name."""
    for name in names:
        records = [record for record in status.records.values() if record["dataset"] == name]
        seen = {str(record["data_sha256"]) for record in records if record.get("data_sha256")}
        here = load_dataset(name).content_hash() if seen else ""
        if seen - {here}:
            raise DataError(
                f"the images of the data set {name} have changed since {len(records)} cells of it "
                f"ran (SHA-256 {here[:12]}... instead of {min(seen - {here})[:12]}...): bring the "
                "old images back, or give the study a new folder"
            )


def _available_processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def divided(processors: Sequence[int], workers: int) -> list[list[int]]:
    """Divide processors among workers, as evenly as they go; more workers than these share them."""
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if workers >= len(processors):
        return [[processors[k % len(processors)]] for k in range(workers)]
    return [list(processors[k::workers]) for k in range(workers)]


class _Workers:
    """The processes of one run."""

    def __init__(
        self,
        study: Path,
        processors: list[list[int]],
        *,
        heads: Sequence[str],
        status: StudyStatus,
        watch: Callable[[StudyStatus], None] | None,
    ) -> None:
        self.study = study
        self.processors = processors
        self.heads = ",".join(heads)
        self.status = status
        self.watch = watch
        self.deaths = 0
        self.running: dict[int, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def run(self) -> None:
        """Start the processes and stay until all have ended."""
        try:
            for k in range(len(self.processors)):
                self._start(k)
            while self.running:
                time.sleep(_POLL_SECONDS)
                for k, (process, errors) in list(self.running.items()):
                    if process.poll() is not None:
                        del self.running[k]
                        self._ended(k, process, errors)
                if self.watch is not None:
                    self._read_new_records()
                    self.watch(self.status)
        finally:
            for process, _ in self.running.values():
                process.terminate()
            for process, errors in self.running.values():
                process.wait()
                errors.close()

    def _start(self, k: int) -> None:
        own = self.processors[k]
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        # Not a pipe: one that nobody reads fills up. Closed when the worker has ended.
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "toptune_study.worker", str(self.study)]
        process = subprocess.Popen(
            [*command, "--processors", ",".join(map(str, own)), "--heads", self.heads],
            env={**os.environ, **dict.fromkeys(names, str(len(own)))},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        self.running[k] = (process, errors)

    def _ended(self, k: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Read how a worker ended; for one that died its cell failed, and another takes over."""
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        errors.close()
        if process.returncode == 0:
            return
        last = lines[-1] if lines else f"exit code {process.returncode}"
        if process.returncode == NO_STORAGE:
            raise StorageError(f"the study stops, and can be resumed: {last}")
        how = f"signal {-process.returncode}" if process.returncode < 0 else last
        note = current_cell(self.study, process.pid)
        cell_id = note.read_text().strip() if note.exists() else ""
        note.unlink(missing_ok=True)
        cell = next((cell for cell in self.status.cells if cell.id == cell_id), None)
        if cell is not None and not record_path(self.study, cell.id).exists():
            write_record(self.study, blank_record(cell) | {"error": f"its process died: {how}"})
        self.deaths += 1
        if cell is None or self.deaths >= _DEATHS:
            raise DataError(f"{self.deaths} processes of the study died, the last of {how}")
        self._start(k)

    def _read_new_records(self) -> None:
        """Add what was recorded since: cheap enough to be done every second."""
        known = {cell.id for cell in self.status.cells}
        found = {path.stem for path in (self.study / RECORDS).glob("*.json")} & known
        new = found - self.status.records.keys()
        records = {i: read_record(record_path(self.study, i)) for i in new}
        self.status = replace(self.status, records={**self.status.records, **records})
