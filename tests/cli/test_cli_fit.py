"""`toptune fit` and `toptune evaluate` on data that is as it should be."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toptune import TopTuner

Toptune = Callable[..., Any]

FIT_KEYS = {
    "task",
    "loo_accuracy",
    "loo_log_loss",
    "n",
    "n_features",
    "classes",
    "kernel",
    "bandwidth",
    "penalty",
    "backbone",
    "layer_weights",
    "n_centers",
    "refresh",
    "seconds",
    "quarantined",
}
EVALUATE_KEYS = {
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "ece",
    "n",
    "classes",
    "confusion_matrix",
    "per_class",
    "reliability",
}


def write_manifest(path: Path, rows: list[tuple[str, ...]], *columns: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows_below(root: Path, *splits: str) -> list[tuple[str, ...]]:
    """Path, label and split of every image below root/split/class."""
    return [
        (p.relative_to(root).as_posix(), p.parent.name, p.parent.parent.name)
        for split in splits
        for p in sorted((root / split).rglob("*.png"))
    ]


def test_fit_json_has_the_agreed_keys(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "kinds.toptune"
    done = toptune("fit", tree, "-o", out, "--json")
    summary = done.json
    assert done.err == ""
    assert summary.keys() == FIT_KEYS
    assert summary["n"] == summary["n_centers"] == 24
    assert summary["n_features"] == 15304
    assert summary["backbone"] == "efficientnet_lite0"
    assert next(iter(summary["layer_weights"])) == "last"
    assert len(summary["layer_weights"]) == 6
    assert sum(summary["layer_weights"].values()) == pytest.approx(1)
    assert summary["classes"] == ["bright", "dark", "striped"]
    assert summary["loo_accuracy"] == 1.0
    assert 0 < summary["loo_log_loss"] < 0.5
    assert summary["bandwidth"] > 0
    assert summary["penalty"] > 0
    assert summary["quarantined"] == []
    assert summary["seconds"].keys() == {"decode_extract", "select", "fit"}
    assert all(value > 0 for value in summary["seconds"].values())

    kept = TopTuner.load(out)
    assert kept.loo_.accuracy == summary["loo_accuracy"]
    assert kept.loo_.log_loss == pytest.approx(summary["loo_log_loss"], rel=1e-12)


def test_fit_takes_the_training_split(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "kinds.toptune"
    assert toptune("fit", split_tree, "-o", out, "--json").json["n"] == 24
    assert all(name.startswith("train/") for name in TopTuner.load(out).ids_)
    again = toptune("fit", split_tree, "-o", out, "--split", "test", "--overwrite", "--json")
    assert again.json["n"] == 9


def test_evaluate_json_has_the_agreed_keys(
    toptune: Toptune, model_file: Path, original_split_tree: Path
) -> None:
    done = toptune("evaluate", model_file, original_split_tree, "--json")
    found = done.json
    assert done.err == ""
    assert found.keys() == EVALUATE_KEYS
    assert found["n"] == 9  # those of the test split
    assert found["accuracy"] == found["balanced_accuracy"] == 1.0
    assert found["classes"] == ["bright", "dark", "striped"]
    assert found["confusion_matrix"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    perfect = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 3}
    assert found["per_class"] == dict.fromkeys(found["classes"], perfect)
    assert 0 < found["log_loss"] < 0.7


def test_evaluate_takes_the_split_that_is_named(
    toptune: Toptune, model_file: Path, split_tree: Path
) -> None:
    named = toptune("evaluate", model_file, split_tree, "--split", "train", "--json")
    assert named.json["n"] == 24
    (split_tree / "test").rename(split_tree / "validation")
    assert toptune("evaluate", model_file, split_tree, "--json").json["n"] == 9
    shutil.rmtree(split_tree / "validation")
    assert toptune("evaluate", model_file, split_tree, "--json").json["n"] == 24
    assert toptune("evaluate", model_file, split_tree / "train", "--json").json["n"] == 24


def test_a_manifest_with_splits(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    rows = rows_below(split_tree, "train", "test")
    table = write_manifest(split_tree / "list.csv", rows, "image_path", "label", "split")
    out = tmp_path / "kinds.toptune"
    assert toptune("fit", table, "-o", out, "--json").json["n"] == 24
    found = toptune("evaluate", out, table, "--json").json
    assert (found["n"], found["accuracy"]) == (9, 1.0)


def test_labels_from_a_file_with_splits(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    """The split column of the label file decides, whatever the folders are called."""
    rows = [
        (f"{path}", label.upper(), {"train": "test", "test": "train"}[split])
        for path, label, split in rows_below(split_tree, "train", "test")
    ]
    table = write_manifest(tmp_path / "labels.csv", rows, "file_name", "label", "split")
    out = tmp_path / "kinds.toptune"
    summary = toptune("fit", split_tree, "--labels", table, "-o", out, "--json").json
    assert (summary["n"], summary["classes"]) == (9, ["BRIGHT", "DARK", "STRIPED"])
    found = toptune("evaluate", out, split_tree, "--labels", table, "--json").json
    assert found["n"] == 24


def test_labels_from_a_file_without_splits(
    toptune: Toptune, split_tree: Path, model_file: Path, tmp_path: Path
) -> None:
    """Folders called train and test do not matter where a file names the images."""
    rows = [row[:2] for row in rows_below(split_tree, "train", "test")]
    table = write_manifest(tmp_path / "labels.csv", rows, "image_path", "label")
    found = toptune("evaluate", model_file, split_tree, "--labels", table, "--json").json
    assert found["n"] == 33


def test_the_seed_and_the_backbone_are_kept(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "kinds.toptune"
    done = toptune("fit", tree, "-o", out, "--seed", "7", "--backbone", "efficientnet_lite0")
    assert done.code == 0, done.err
    model = TopTuner.load(out)
    assert (model.random_state, model.backbone) == (7, "efficientnet_lite0")
    assert model.provenance_["versions"]["toptune"]


def test_fit_for_people(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    (split_tree / "train" / "dark" / "a:key:b.png").write_bytes(b"")
    out = tmp_path / ("a long folder name " * 5).strip() / "kinds.toptune"
    out.parent.mkdir()
    done = toptune("fit", split_tree, "-o", out)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "1 image set aside:"
    assert lines[1] == "  train/dark/a:key:b.png: empty file"  # no key is drawn
    said = " ".join(done.out.split())
    for part in (
        "leave-one-out accuracy 1.0000",
        "images 24, 3 classes",
        "15304 features",
        "weights of layers last 0.",
    ):
        assert part in said
    assert lines[-1] == f"model written to {out}"  # in one line, however long


def test_evaluate_for_people(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    """Names of classes are shown as they are, brackets and all."""
    for split in ("train", "test"):
        (split_tree / split / "dark").rename(split_tree / split / "[red]dark[cell]")
    out = tmp_path / "kinds.toptune"
    assert toptune("fit", split_tree, "-o", out).code == 0
    done = toptune("evaluate", out, split_tree)
    assert done.code == 0
    assert "balanced accuracy 1.0000" in " ".join(done.out.split())
    assert done.out.count("[red]dark[cell]") == 2  # a row and a column
    assert "recall" in done.out


def test_many_classes_are_left_to_json(
    toptune: Toptune, model_file: Path, original_split_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toptune.evaluation.classification import evaluate_probabilities

    found = evaluate_probabilities(range(21), np.eye(21), range(21))
    monkeypatch.setattr("toptune.tuner.TopTuner.evaluate", lambda *_, **__: found)
    done = toptune("evaluate", model_file, original_split_tree)
    assert "confusion matrix of 21 classes: see --json" in done.out
    assert len(toptune("evaluate", model_file, original_split_tree, "--json").json["classes"]) == 21
