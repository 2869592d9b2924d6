"""`toptune audit`: what it prints, its JSON and its page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Toptune = Callable[..., Any]
KEYS = {
    *(
        "n",
        "classes",
        "splits",
        "loo_accuracy",
        "n_suspects",
        "weak_evidence",
        "suspects",
        "conflicts",
        "leaks",
    ),
    *("n_near_duplicates", "quarantined"),
}


@pytest.fixture
def faulty(split_tree: Path) -> Path:
    """One label is wrong, one image is in both splits, and one file is none."""
    train, test = split_tree / "train", split_tree / "test"
    shutil.move(train / "bright" / "0.png", train / "dark" / "bright [0].png")
    shutil.copy(train / "striped" / "1.png", test / "striped" / "copy.png")
    (train / "dark" / "text.png").write_text("no image")
    return split_tree


def test_audit_json_and_page(toptune: Toptune, faulty: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    done = toptune("audit", faulty, "-o", page, "--json")
    found = done.json
    assert found.keys() == KEYS
    assert found["n"] == 34
    assert found["splits"] == {"train": 24, "test": 10}
    first = found["suspects"][0]
    assert (first["id"], first["split"]) == ("train/dark/bright [0].png", "train")
    assert (first["label"], first["suggested"]) == ("dark", "bright")
    assert [near["label"] for near in first["neighbours"]] == ["bright"] * 4
    leaking = [{image["id"] for image in group} for group in found["leaks"]]
    assert any({"train/striped/1.png", "test/striped/copy.png"} <= group for group in leaking)
    assert [item["id"] for item in found["quarantined"]] == ["train/dark/text.png"]
    text = page.read_text(encoding="utf-8")
    assert "train/dark/bright [0].png" in text
    assert "data:image/" in text
    again = toptune("audit", faulty, "-o", page)
    assert again.error == f"{page} exists already: choose another name, or give --overwrite"


def test_audit_prints_findings(toptune: Toptune, faulty: Path) -> None:
    done = toptune("audit", faulty, "--limit", "1")
    lines = done.out.splitlines()
    place = lines.index("suspected labels, the most suspect first:")
    assert lines[place + 1].startswith("  train/dark/bright [0].png: labelled dark (0.0")
    assert "suggested bright (0.9" in lines[place + 1]
    assert lines[place + 1].endswith("most alike: bright, bright, bright, bright")
    assert "copies in several splits:" in lines
    assert any("test/striped/copy.png (test, striped)" in line for line in lines)
    assert lines[-1] == "  train/dark/text.png: not an image, or its header is damaged"


def test_audit_mistakes_are_errors(toptune: Toptune, faulty: Path) -> None:
    assert toptune("audit", faulty, "--backbone", "auto").error.startswith(
        'an audit compares no networks: name one instead of backbone="auto"'
    )
    strict = toptune("audit", faulty, "--strict").error
    assert strict.startswith("train/dark/text.png: not an image")
