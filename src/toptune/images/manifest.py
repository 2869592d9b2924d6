"""Tables that name images, labels, splits and groups, CSV or Parquet -> `ImageSet`."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toptune.errors import DataError, DataWarning
from toptune.images.folder_tree import SPLITS, absent_split, canonical_split
from toptune.images.image_set import ImageSet, Quarantined, group_names, is_missing
from toptune.images.labels import kind_of_column
from toptune.images.reading import file_fault, printable

_PATH_COLUMNS = ("image_path", "file_name")
_SUFFIXES = frozenset({".csv", ".parquet", ".pq"})

_Column = Sequence["str | None"]


@dataclass(frozen=True)
class Manifest:
    """The columns used here, all of one length; None for a column that the table lacks.

    `columns` are the names of all columns, `path` is the table's own.
    """

    path: Path
    columns: tuple[str, ...]
    images: _Column | None
    labels: _Column | None
    splits: _Column | None
    groups: _Column | None

    def split_names(self) -> tuple[str, ...]:
        """Return the splits present, in the order train, val, test."""
        present = {canonical_split(s) for s in self.splits or () if s}
        return tuple(s for s in SPLITS if s in present)

    def column(self, values: _Column | None, wanted: str) -> _Column:
        """Return `values`, or raise the error that names the columns found."""
        if values is None:
            raise DataError(
                f"manifest {printable(str(self.path))} has no column {wanted}; "
                f"its columns are: {', '.join(self.columns)}"
            )
        return values


def is_manifest_name(path: Path) -> bool:
    """Return whether the extension is that of a table."""
    return path.suffix.lower() in _SUFFIXES


def read_manifest(path: Path) -> Manifest:
    """Read ``image_path`` (or ``file_name``), ``label``, ``split`` and ``group`` as text.

    A split or group column without any value counts as none.

    Raises
    ------
    DataError
        If the file cannot be read, is no table, or names one of these columns twice.
    """
    import pyarrow as pa

    name = printable(str(path))
    if not is_manifest_name(path):
        raise DataError(f"{name} is no manifest: give a .csv or .parquet file")
    try:
        with path.open("rb") as file:
            read = _csv_columns if path.suffix.lower() == ".csv" else _parquet_columns
            names, columns = read(file)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"cannot read manifest {name}: {reason}") from error
    images = next((columns[c] for c in _PATH_COLUMNS if c in columns), None)
    splits = columns.get("split")
    groups = [g and g.strip() for g in columns.get("group", ())]
    return Manifest(
        path,
        tuple(names),
        images,
        columns.get("label"),
        splits if splits and any(splits) else None,
        None if all(map(is_missing, groups)) else groups,
    )


_Columns = tuple["list[str]", "dict[str, _Column]"]  # all names, the columns wanted


def _wanted(names: list[str]) -> list[str]:
    wanted = [c for c in (*_PATH_COLUMNS, "label", "split", "group") if c in names]
    for c in wanted:
        if names.count(c) > 1:
            raise DataError(f"the manifest has {names.count(c)} columns called {c}: keep one")
    return wanted


def _csv_columns(file: Any) -> _Columns:
    import pyarrow as pa
    from pyarrow import csv

    data = pa.py_buffer(file.read())
    names: list[str] = csv.open_csv(pa.BufferReader(data)).schema.names
    wanted = _wanted(names)
    if not wanted:
        return names, {}
    # As text: a label 007 stays 007. The other columns are not converted at all.
    options = csv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())
    )
    table = csv.read_csv(pa.BufferReader(data), convert_options=options)
    return names, {c: table.column(c).to_pylist() for c in wanted}


def _parquet_columns(file: Any) -> _Columns:
    import pyarrow as pa
    from pyarrow import parquet

    # ParquetFile: read_table would take a folder called split=train for a column.
    table = parquet.ParquetFile(file)
    names: list[str] = table.schema_arrow.names
    wanted = _wanted(names)
    columns: dict[str, _Column] = {}
    for c, column in zip(wanted, table.read(columns=wanted).columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns[c] = column.cast(pa.string()).to_pylist()
    return names, columns


def manifest_images(
    path: Path,
    roots: Sequence[Path],
    *,
    split: str | None,
    labelled: bool,
    prefix: str = "",
) -> ImageSet:
    """List the images that the table at `path` names.

    Parameters
    ----------
    path : Path
        The table.
    roots : sequence of Path
        Folders that relative paths are looked up in, the first that has the file.
    split, labelled
        As for `toptune.images.open_images`.
    prefix : str
        Put before the paths in the ids.

    Returns
    -------
    ImageSet
        In the order of the table. An image without label, with contradictory labels or groups, or
        without a file is quarantined, once for all its rows. One without group is its own group.
        Its `label_kind` follows from the labels that are left.

    Raises
    ------
    DataError
        If a column or the split is missing, or no image can be used.
    """
    manifest = read_manifest(path)
    images = manifest.column(manifest.images, " or ".join(_PATH_COLUMNS))
    labels = manifest.column(manifest.labels, "label") if labelled else None
    groups = manifest.groups if labelled else None
    name = printable(str(path))
    unusable: list[Quarantined] = []
    rows_of: dict[str, list[int]] = {}  # the same file may be spelled ./a.jpg and a.jpg
    for row in _rows(manifest, split, labelled):
        given = images[row]
        if given:
            rows_of.setdefault(os.path.normpath(roots[0] / given), []).append(row)
        else:
            unusable.append(Quarantined(f"row {row + 1}", "no path in the manifest"))
    ids: list[str] = []
    sources: list[str] = []
    chosen: list[str] = []
    together: list[str | None] = []
    repeats = 0
    conflicts: Counter[str] = Counter()
    for rows in rows_of.values():
        given = images[rows[0]] or ""
        known = _distinct(labels, rows)
        named = _distinct(groups, rows)
        file, fault = _find(given, roots)
        for what, values in (("groups", named), ("labels", known)):
            if len(values) > 1:
                fault = f"contradictory {what}: {' and '.join(map(repr, values))}"
                conflicts[what] += 1
        if labels and not known:
            fault = "no label"
        id_ = given if Path(given).is_absolute() else prefix + given
        if fault is not None:
            unusable.append(Quarantined(id_, fault))
            continue
        repeats += len(rows) - 1
        ids.append(id_)
        sources.append(str(file))
        chosen.extend(known)
        together.append(named[0] if named else None)
    _warn(name, repeats, conflicts)
    if not ids:
        raise _nothing_left(name, roots, unusable)
    return ImageSet(
        tuple(ids),
        tuple(sources),
        np.array(chosen, np.str_) if labels else None,
        tuple(unusable),
        group_names(together, ids) if groups else None,
        kind_of_column(chosen) if labels else "class",
    )


def _rows(manifest: Manifest, split: str | None, labelled: bool) -> Sequence[int]:
    """Rows of `split`; its name is canonical, or None for the default."""
    n = len(manifest.images or ())
    if split is None and (manifest.splits is None or not labelled):
        return range(n)
    wanted = split or "train"
    if wanted not in manifest.split_names():
        raise absent_split(manifest.path, wanted, manifest.split_names())
    names = [canonical_split(s or "") for s in manifest.splits or ()]
    other = Counter(s for s, known in zip(manifest.splits or (), names, strict=True) if not known)
    if other:
        warnings.warn(
            f"{printable(str(manifest.path))}: left out {other.total()} rows of no known split "
            f"({', '.join(repr(s or '') for s in other)}); known are {', '.join(SPLITS)}",
            DataWarning,
            stacklevel=4,
        )
    return [row for row, s in enumerate(names) if s == wanted]


def _find(given: str, roots: Sequence[Path]) -> tuple[Path, str | None]:
    """Where the file is, and what is wrong with it; the fault is that of the first root."""
    faults = []
    for root in roots:
        fault = file_fault(root / given)
        if fault is None:
            return root / given, None
        faults.append(fault)
    return roots[0] / given, faults[0]


def _distinct(values: _Column | None, rows: list[int]) -> list[str]:
    """Return the distinct values in the rows of one image, sorted, without missing ones."""
    if values is None:
        return []
    return sorted({str(values[r]) for r in rows if not is_missing(values[r])})


def _warn(name: str, repeats: int, conflicts: Counter[str]) -> None:
    if repeats:
        warnings.warn(
            f"{name}: {repeats} rows repeat an image with the same label; each was kept once",
            DataWarning,
            stacklevel=4,
        )
    for what, n in conflicts.items():
        warnings.warn(
            f"{name}: {n} images are named with contradictory {what} and were set aside",
            DataWarning,
            stacklevel=4,
        )


def _nothing_left(name: str, roots: Sequence[Path], unusable: list[Quarantined]) -> DataError:
    if not unusable:
        return DataError(f"manifest {name} names no images")
    if all(q.reason == "no such file" for q in unusable):
        places = " and ".join(printable(str(root)) for root in roots)
        return DataError(
            f"none of the {len(unusable)} files that manifest {name} names exists, such as "
            f"{unusable[0].id!r}: relative paths are looked up in {places}"
        )
    return DataError(
        f"manifest {name} names {len(unusable)} images and none can be used; "
        f"the first, {unusable[0].id!r}: {unusable[0].reason}"
    )
