"""Records of cells: one JSON file each, written whole or not at all; many together as Parquet.

    STUDY/records/ID.json     written when a cell ends
    STUDY/results.parquet     all of them in one small file, to be kept and shared

The JSON files count where there are any. Where there are none, in a fresh copy of a study, the
table does, and a run unpacks it first: a record that is deleted is then gone, and its cell runs
again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toptune.errors import DataError, StorageError
from toptune.runtime.atomic import write_atomically

Record = dict[str, Any]

RECORDS = "records"
RESULTS = "results.parquet"

# Parts of a record that Parquet keeps as JSON text: their keys differ from record to record.
_AS_TEXT = ("settings", "recalls", "versions", "seconds")


def record_path(study: Path, cell_id: str) -> Path:
    """Return where the record of a cell lies once it has ended."""
    return study / RECORDS / f"{cell_id}.json"


def write_record(study: Path, record: Record) -> None:
    """Write the record of one cell; readers see nothing or the whole of it.

    Raises
    ------
    StorageError
        If it cannot be written, for example because the disk is full.
    """
    path = record_path(study, record["id"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write a record to {path.parent}: {error.strerror}") from error
    write_atomically(path, (json.dumps(record) + "\n").encode(), durable=True)


def read_record(path: Path) -> Record:
    """Read one record.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        if record["id"] != path.stem:
            raise ValueError(f"it is of the cell {record['id']}")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error!r}; delete it, and its cell runs again"
        ) from error
    return record


def read_records(study: Path) -> dict[str, Record]:
    """Read all records of a study by the id of the cell.

    Raises
    ------
    DataError
        If a file is damaged.
    """
    folder, table = study / RECORDS, study / RESULTS
    if folder.is_dir() or not table.is_file():
        return {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}
    try:
        rows = pq.read_table(table).to_pylist()
        for row in rows:
            texts = {key: row[key] for key in _AS_TEXT if row.get(key) is not None}
            row |= {key: json.loads(text) for key, text in texts.items()}
        return {row["id"]: row for row in rows}
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"{table} is damaged: {error}") from error


def unpack_results(study: Path) -> None:
    """Write the records of the table as files of their own, where there are none: all or nothing.

    Raises
    ------
    DataError
        If the table is damaged.
    StorageError
        If they cannot be written.
    """
    folder = study / RECORDS
    if folder.exists() or not (study / RESULTS).is_file():
        return
    records = read_records(study)
    try:
        with tempfile.TemporaryDirectory(dir=study, prefix=f"{RECORDS}-") as part:
            fresh = Path(part) / RECORDS
            fresh.mkdir()
            for i, record in records.items():
                (fresh / f"{i}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
            with suppress(FileExistsError, NotADirectoryError):  # another process was faster
                fresh.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise StorageError(f"cannot write {folder}: {error.strerror}") from error


def forget_failed(study: Path, among: Container[str]) -> int:
    """Delete the records of those failed cells whose ids are in `among`; return their number.

    Raises
    ------
    StorageError
        If a file cannot be deleted.
    """
    failed = [i for i, record in read_records(study).items() if record["error"] and i in among]
    try:
        for cell_id in failed:
            record_path(study, cell_id).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot delete {error.filename}: {error.strerror}") from error
    return len(failed)


def write_results(study: Path, records: Iterable[Record]) -> Path:
    """Write records to one Parquet file, in the order of their ids, and return its path.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    rows = [
        row | {key: json.dumps(row[key], sort_keys=True) for key in _AS_TEXT if key in row}
        for row in sorted(records, key=lambda row: str(row["id"]))
    ]
    # Records of failed cells have fewer keys, and a table has only those of its first row.
    keys = dict.fromkeys(key for row in rows for key in row)
    table = pa.Table.from_pylist([{key: row.get(key) for key in keys} for row in rows])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(study / RESULTS, sink.getvalue().to_pybytes())
    return study / RESULTS
