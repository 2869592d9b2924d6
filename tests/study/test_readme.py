"""The words and the table that the README has of a study."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from study_records import make_record, make_study

from toptune_study.records import Record, write_results

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def update_readme(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "common", raising=False)
    return pytest.importorskip("update_readme")


def text_of(update_readme: ModuleType, folder: Path, records: list[Record]) -> str:
    write_results(folder, records)
    text = update_readme.study_text(folder)
    assert isinstance(text, str)
    return text


def test_study_text_whole_study_has_headline_and_table(
    update_readme: ModuleType, tmp_path: Path
) -> None:
    text = text_of(update_readme, tmp_path, make_study())
    assert text.startswith(f"A study of {len(make_study())} training processes on 7 data sets.")
    assert "points of accuracy (95 % interval" in text
    assert "times faster" in text
    assert ".\n\n| method" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert "accuracy, mean of 7 data sets" in table[0]
    assert len(table) == 2 + 5 + 1 + 1  # heads, the last layer, fine-tuning


def test_study_text_other_ways_to_fine_tune_are_on_their_data_sets(
    update_readme: ModuleType, tmp_path: Path
) -> None:
    other = {
        "settings": {"learning_rate": "auto"},
        "right": 40,
        "n_test": 40,
        "classes": ("a", "b", "c"),
        "seconds": {"decode": 1.0, "select": 100.0, "fit": 59.0},
    }
    names = ("set0", "set1", "set2")
    records = [*make_study(), *(make_record(n, "full", layers=None, **other) for n in names)]
    text = text_of(update_readme, tmp_path, records)
    (line,) = [line for line in text.splitlines() if "learning_rate auto" in line]
    assert "on 3 data sets: -" in line
    assert "it took 40.0 times as long" in line  # (1 + 100 + 59) / (3 + 1)


@pytest.mark.parametrize(
    "records",
    [
        [make_record()],
        make_study(fine_tuning=False),
        [row for row in make_study() if row["head"] == "full"],
        [row for row in make_study() if row["size"] < 1],
        [row for row in make_study() if row["head"] == "svc"],
    ],
    ids=["one record", "no fine-tuning", "fine-tuning alone", "parts alone", "another head"],
)
def test_study_text_partial_study_is_text(
    update_readme: ModuleType, tmp_path: Path, records: list[Record]
) -> None:
    assert text_of(update_readme, tmp_path, records).startswith(f"A study of {len(records)} ")
