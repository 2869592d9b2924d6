"""Run a study: workers in processes of their own, processors divided among them; watch and resume.

    STUDY/plan.yaml     what is to be run
    STUDY/records/      one file per cell that has ended
    STUDY/claims/       locks of the cells that run at this moment

Nothing else is kept, so that a study resumes after any end: what has a record is done, what has
none is run. Several runs on one folder, and several machines that share it, divide the cells.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from toptune.errors import DataError, StorageError
from toptune_study.datasets import is_here, load_dataset
from toptune_study.plan import Cell, read_plan
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
class Status:
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

    def by(self, name: str) -> dict[str, tuple[int, int, int]]:
        """Numbers of cells done without error, failed, and in all, by an attribute of the cell."""
        done, failed, total = Counter[str](), Counter[str](), Counter[str]()
        for cell in self.cells:
            key = str(getattr(cell, name))
            total[key] += 1
            record = self.records.get(cell.id)
            if record is not None:
                (failed if record["error"] else done)[key] += 1
        return {key: (done[key], failed[key], total[key]) for key in total}


def study_status(study: Path) -> Status:
    """Compare the plan of a study with its records.

    Parameters
    ----------
    study : Path
        Folder with ``plan.yaml``.

    Raises
    ------
    DataError
        If there is no plan, it is invalid, or a record is damaged.
    """
    cells = tuple(read_plan(study / "plan.yaml").cells())
    known = {cell.id for cell in cells}
    records = read_records(study)
    names = dict.fromkeys(cell.dataset for cell in cells)
    return Status(
        cells=cells,
        records={i: record for i, record in records.items() if i in known},
        absent=tuple(name for name in names if not is_here(name)),
        other=len(records.keys() - known),
    )


def with_new_records(status: Status, study: Path) -> Status:
    """Return the status with what was recorded since: cheap enough to be asked all the time."""
    known = {cell.id for cell in status.cells}
    found = {path.stem for path in (study / RECORDS).glob("*.json")} & known
    new = {i: read_record(record_path(study, i)) for i in found - status.records.keys()}
    return replace(status, records={**status.records, **new})


def run_study(
    study: Path,
    *,
    workers: int | None = None,
    heads: Sequence[str] = (),
    again: bool = False,
    watch: Callable[[Status], None] | None = None,
) -> Status:
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
    Status
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
    processors = _divided(min(workers or len(_processors()), len(todo)))
    _Crew(study, processors, heads=heads, status=status, watch=watch).work()
    return study_status(study)


def _check_heads(status: Status, heads: Sequence[str]) -> None:
    known = dict.fromkeys(cell.head for cell in status.cells)
    for head in heads:
        if head not in known:
            raise DataError(f"the plan has no head {head!r}; it has {', '.join(known)}")
    if status.cells and len(status.absent) == len({cell.dataset for cell in status.cells}):
        raise DataError(
            f"none of the plan's data sets is on this machine: {', '.join(status.absent)}; "
            "`toptune datasets` says where they are looked for"
        )


def _check_contents(status: Status, names: Sequence[str] | dict[str, None]) -> None:
    """Refuse to mix records of different images under one name."""
    for name in names:
        seen = {
            str(record["data_sha256"])
            for record in status.records.values()
            if record["dataset"] == name and record.get("data_sha256")
        }
        here = load_dataset(name).content_hash() if seen else ""
        if seen - {here}:
            count = sum(record["dataset"] == name for record in status.records.values())
            raise DataError(
                f"the images of the data set {name} have changed since {count} cells of it ran "
                f"(SHA-256 {here[:12]}... instead of {min(seen - {here})[:12]}...): bring the old "
                "images back, or give the study a new folder"
            )


def _processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _divided(workers: int) -> list[list[int]]:
    """Processors of each worker: as even as they go; shared where there are more workers."""
    have = _processors()
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if workers >= len(have):
        return [[have[k % len(have)]] for k in range(workers)]
    return [have[k::workers] for k in range(workers)]


class _Crew:
    """The workers of one run."""

    def __init__(
        self,
        study: Path,
        processors: list[list[int]],
        *,
        heads: Sequence[str],
        status: Status,
        watch: Callable[[Status], None] | None,
    ) -> None:
        self.study = study
        self.processors = processors
        self.heads = ",".join(heads)
        self.status = status
        self.watch = watch
        self.deaths = 0
        self.at_work: dict[int, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def work(self) -> None:
        """Start the workers and stay until all have ended."""
        try:
            for k in range(len(self.processors)):
                self._start(k)
            while self.at_work:
                time.sleep(_POLL_SECONDS)
                for k, (process, errors) in list(self.at_work.items()):
                    if process.poll() is not None:
                        del self.at_work[k]
                        self._ended(k, process, errors)
                if self.watch is not None:
                    self.status = with_new_records(self.status, self.study)
                    self.watch(self.status)
        finally:
            self._stop()

    def _start(self, k: int) -> None:
        own = self.processors[k]
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        # Not a pipe: one that nobody reads fills up. Closed when the worker has ended.
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "toptune_study.worker", str(self.study)),
                *("--processors", ",".join(map(str, own)), "--heads", self.heads),
            ],
            env={**os.environ, **dict.fromkeys(names, str(len(own)))},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        self.at_work[k] = (process, errors)

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

    def _stop(self) -> None:
        for process, _ in self.at_work.values():
            process.terminate()
        for process, errors in self.at_work.values():
            process.wait()
            errors.close()
