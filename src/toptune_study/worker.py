"""One process of a study: takes cells nobody else has taken, runs them, writes their records.

    python -m toptune_study.worker STUDY --processors 0,1

A cell is taken by a lock on a file, which the system lets go when the process ends, however it
ends: a killed cell is free again. Nothing that computes is imported before the process has been
given its processors, because libraries count them once.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toptune.features import Features
    from toptune_study.datasets import Dataset
    from toptune_study.plan import Cell

CLAIMS = "claims"
#: Exit code of a worker that could not write.
NO_STORAGE = 3


def current_cell(study: Path, pid: int) -> Path:
    """Return the file in which this machine's worker with a process id names the cell it runs."""
    return study / CLAIMS / f"worker-{platform.node()}-{pid}"


def work(study: Path, cells: Sequence[Cell]) -> None:
    """Run all cells, in this order, that have no record and that no other process runs.

    Those of data sets that are not on this machine are passed over.

    Raises
    ------
    StorageError
        If a record cannot be written.
    """
    from filelock import FileLock, Timeout

    from toptune_study.datasets import is_here
    from toptune_study.records import read_records, record_path, unpack_results

    unpack_results(study)
    here = {name for name in {cell.dataset for cell in cells} if is_here(name)}
    done = read_records(study).keys()
    parent = os.getppid()
    last_used = _LastUsed()
    claims = study / CLAIMS
    claims.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if os.getppid() != parent:
            return  # who started this process has been killed
        path, lock = record_path(study, cell.id), claims / f"{cell.id}.lock"
        if cell.dataset not in here or cell.id in done or path.exists():
            continue
        try:
            with FileLock(lock, timeout=0):
                if path.exists():
                    continue  # another process ended it while this one looked
                current_cell(study, os.getpid()).write_text(cell.id)
                _run(study, cell, last_used)
                with suppress(OSError):  # who still holds or awaits this lock will see the record
                    lock.unlink()
        except Timeout:
            continue
    current_cell(study, os.getpid()).unlink(missing_ok=True)


class _LastUsed:
    """The last data set and features that were used: neighbouring cells share them."""

    def __init__(self) -> None:
        self.dataset = lru_cache(maxsize=1)(self._dataset)
        self.features = lru_cache(maxsize=1)(self._features)

    def _dataset(self, name: str) -> tuple[Dataset, str]:
        """Return a data set and the hash of its images."""
        from toptune_study.datasets import load_dataset

        found = load_dataset(name)
        return found, found.content_hash()

    def _features(self, name: str, backbone: str) -> Features:
        """Return the features of a data set."""
        from toptune_study.cells import study_features

        dataset, content = self.dataset(name)
        return study_features(dataset, backbone, content)


def blank_record(cell: Cell) -> dict[str, Any]:
    """Return the part of a record that is known before the cell runs."""
    specification = cell.model_dump(mode="json") | {"settings": dict(cell.settings)}
    return {
        "id": cell.id,
        **specification,
        "error": None,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _run(study: Path, cell: Cell, last_used: _LastUsed) -> None:
    """Run one cell and write its record, also if it fails."""
    from toptune.errors import StorageError
    from toptune.runtime import memory
    from toptune.runtime.energy import EnergyMeter
    from toptune.runtime.versions import library_versions
    from toptune_study import cells
    from toptune_study.records import write_record

    record = blank_record(cell) | {
        "processor": memory.processor(),
        "threads": cells.threads(),
        "versions": library_versions(),
    }
    memory.reset_peak_memory()
    start = time.perf_counter()
    try:
        dataset, content = last_used.dataset(cell.dataset)
        record["data_sha256"] = content
        features = None if cell.fine_tuning else last_used.features(cell.dataset, cell.backbone)
        start = time.perf_counter()
        with EnergyMeter() as meter:
            state = study / CLAIMS / f"{cell.id}-{content[:12]}.checkpoint"
            found = cells.run_cell(cell, dataset, features, checkpoint=state)
        extraction_kwh = found.pop("extraction_kwh")
        # What a training took before it was killed is not known.
        kwh = None if found.pop("resumed") else _total(meter.kwh, extraction_kwh)
        record |= found | {"energy_kwh": kwh}
    except Exception as error:  # whatever it is, the other cells go on
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or isinstance(error, StorageError):
            raise  # the next cell could not be stored either
        record["error"] = f"{type(error).__name__}: {error}"
    record["wall_seconds"] = time.perf_counter() - start
    record["peak_memory"] = memory.peak_memory()
    write_record(study, record)


def _total(*parts: float | None) -> float | None:
    """Sum of energies, None if one is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--processors", required=True)
    parser.add_argument("--heads", default="")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(k) for k in given.processors.split(",")})
    warnings.filterwarnings("ignore")  # of the methods that are compared
    from toptune.errors import ToptuneError
    from toptune_study.plan import read_plan

    wanted = set(filter(None, given.heads.split(",")))
    cells = read_plan(given.study / "plan.yaml").cells()
    try:
        work(given.study, [c for c in cells if not wanted or c.head in wanted])
    except (ToptuneError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(NO_STORAGE)


if __name__ == "__main__":
    main()
