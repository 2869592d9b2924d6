"""The file of all records keeps what only some of them have."""

from __future__ import annotations

from pathlib import Path

from making import failed_record, make_record

from toptune_study.records import read_records, write_results


def test_a_failed_record_before_the_others_takes_nothing_from_them(tmp_path: Path) -> None:
    records = [failed_record(dataset="a"), make_record("b", energy_kwh=0.5), make_record("c")]
    write_results(tmp_path, records)
    found = read_records(tmp_path)
    for record in records:
        assert record.items() <= found[record["id"]].items()
