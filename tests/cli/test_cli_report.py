"""`toptune report` and `toptune explain`: pages, JSON, and mistakes in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page_checks import Page

Toptune = Callable[..., Any]

REPORT_KEYS = {
    *("source", "evaluation", "interval", "recalls", "n_groups", "errors", "n_errors"),
    *(
        "suspected",
        "n_suspected",
        "weak_evidence",
        "no_leave_one_out",
        "curve",
        "no_curve",
        "feature_map",
    ),
    *("seconds", "energy_kwh", "n_images", "n_centers", "n_features", "head", "layer_weights"),
    *("provenance", "data", "quarantined"),
}
EXPLAIN_KEYS = {
    *("id", "label", "predicted", "probability", "score", "supporting", "opposing"),
    *("supporting_rest", "opposing_rest", "n_supporting", "n_opposing", "classes", "occlusion"),
    *("n_images", "n_centers"),
}


def test_report_without_data_is_leave_one_out(
    toptune: Toptune, model_file: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    found = toptune("report", model_file, "-o", page, "--no-curve", "--json").json
    assert found.keys() == REPORT_KEYS
    assert found["source"] == "leave-one-out"
    assert found["evaluation"]["n"] == 24
    assert found["no_curve"] == "it was not asked for"
    written = Page(page.read_text(encoding="utf-8"))
    written.check_alone()
    assert "Report on kinds.toptune" in written.text


def test_report_on_data_prints_numbers(
    toptune: Toptune, model_file: Path, original_split_tree: Path
) -> None:
    outcome = toptune("report", model_file, "--data", original_split_tree, "--no-curve")
    assert outcome.code == 0, outcome.err
    for line in ("measured on", "accuracy", "95 % interval", "suspected labels", "9"):
        assert line in outcome.out


def test_explain_json_and_page(
    toptune: Toptune, model_file: Path, original_split_tree: Path, tmp_path: Path
) -> None:
    image = original_split_tree / "test" / "dark" / "0.png"
    page = tmp_path / "why.html"
    arguments = ("explain", model_file, image, "-o", page, "--cells", "2", "--n-images", "3")
    found = toptune(*arguments, "--json").json
    assert found.keys() == EXPLAIN_KEYS
    assert found["label"] == "dark"
    assert len(found["supporting"]) == 3
    assert found["supporting"][0].keys() == {"id", "label", "contribution", "similarity"}
    assert [len(row) for row in found["occlusion"]["drops"]] == [2, 2]
    written = Page(page.read_text(encoding="utf-8"))
    written.check_alone()
    assert "file not there" not in written.text
    outcome = toptune(*arguments, "--overwrite", "--label", "bright")
    assert outcome.code == 0, outcome.err
    for line in ("bright", "more probable", "dark", "for it", "against it", "page written to"):
        assert line in outcome.out


def test_explain_moved_images_are_found(
    toptune: Toptune, original_split_tree: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(original_split_tree / "train", first)
    model, page = tmp_path / "m.toptune", tmp_path / "why.html"
    assert toptune("fit", first, "-o", model, "--layers", "last").code == 0
    first.rename(second)
    image = second / "dark" / "0.png"
    explain = ("explain", model, image, "-o", page, "--cells", "1", "--overwrite")
    assert toptune(*explain).code == 0
    assert "file not there" in page.read_text(encoding="utf-8")
    assert toptune(*explain, "--images", second).code == 0
    assert "file not there" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["explain", "report"])
def test_page_existing_file_is_kept(
    toptune: Toptune,
    model_file: Path,
    original_split_tree: Path,
    tmp_path: Path,
    command: str,
) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    image = [original_split_tree / "test" / "dark" / "0.png"] if command == "explain" else []
    error = toptune(command, model_file, *image, "-o", page).error
    assert "exists already" in error
    assert page.read_text() == "mine"


def test_report_and_explain_mistakes_are_errors(
    toptune: Toptune, model_file: Path, original_split_tree: Path, tmp_path: Path
) -> None:
    image = original_split_tree / "test" / "dark" / "0.png"
    unknown = toptune("explain", model_file, image, "--label", "green").error
    assert unknown == "the model has no class 'green': it knows bright, dark, striped"
    absent = toptune("explain", model_file, tmp_path / "no.png").error
    assert "no such file" in absent
    several = toptune("explain", model_file, original_split_tree / "test" / "dark").error
    assert several == "one image can be explained at a time, got 3"
    assert "no such file" in toptune("report", model_file, "--data", tmp_path / "none").error
