"""One training process: what it trains on, and what its record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.neighbors import NearestCentroid

from toptune import TopTuner
from toptune.finetuning.training import fitting
from toptune_study.cells import (
    LEAST,
    part_of,
    run_cell,
    study_features,
    tuner_settings,
    unconverged,
)
from toptune_study.datasets import load_dataset
from toptune_study.heads import HEADS
from toptune_study.plan import Cell


def cell(head: str = "gaussian", dataset: str = "animals3", **changes: Any) -> Cell:
    values = {"dataset": dataset, "backbone": "efficientnet_lite0", "layers": "auto", "head": head}
    return Cell(**(values | changes))


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    seed=st.integers(0, 99),
    sizes=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
)
def test_part_of_two_sizes_are_stratified_and_nested(
    counts: list[int], seed: int, sizes: list[float]
) -> None:
    labels = np.repeat(np.arange(len(counts)).astype(str), counts)
    labels = np.random.default_rng(seed).permutation(labels)
    small, large = (part_of(labels, size, seed=seed) for size in sizes)
    assert set(small) <= set(large)
    for size, part in zip(sizes, (small, large), strict=True):
        assert np.array_equal(part, np.unique(part))
        for k, n in enumerate(counts):
            own = int((labels[part] == str(k)).sum())
            assert own == max(round(size * n), min(LEAST, n))
    assert len(part_of(labels, 1.0, seed=seed)) == len(labels)


@pytest.mark.parametrize("layers", ["auto", "last"])
def test_run_cell_kernel_agrees_with_top_tuner(data: Path, layers: str) -> None:
    dataset = load_dataset("monkeys10")
    features = study_features(dataset, "efficientnet_lite0", dataset.content_hash())
    record = run_cell(cell("kernel", "monkeys10", layers=layers), dataset, features)
    tuner = TopTuner(layers=layers, cache=None).fit(data / "monkeys10", split="train")
    found = tuner.evaluate(data / "monkeys10", split="val")
    assert record["accuracy"] == found.accuracy
    assert record["loo_accuracy"] == tuner.loo_.accuracy
    # Features of the last layer alone are in float32, those that the cells share in float16.
    assert record["log_loss"] == pytest.approx(found.log_loss, rel=1e-2)
    assert (record["n_train"], record["n_test"], record["n_classes"]) == (24, 9, 3)


@pytest.mark.parametrize("head", HEADS)
def test_run_cell_every_head_gives_a_whole_record(data: Path, head: str) -> None:
    dataset = load_dataset("animals3")
    trains = head in ("full", "lp-ft", "last-block", "head-only")
    wanted = cell(head, layers=None, settings=(("epochs", 1), ("learning_rate", 0.002)))
    if not trains:
        wanted = cell(head)
    features = (
        None if trains else study_features(dataset, "efficientnet_lite0", dataset.content_hash())
    )
    record = run_cell(wanted, dataset, features)
    true, predicted = np.array(record["true"]), np.array(record["predicted"])
    assert record["accuracy"] == np.mean(true == predicted)
    assert record["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    assert set(record["recalls"]) == {"bright", "dark", "striped"}
    assert record["n_train"] == 21
    assert len(true) == record["n_test"] == 9
    stages = (
        {"decode", "select", "fit", "predict"} if trains else {"decode_extract", "fit", "predict"}
    )
    assert stages <= set(record["seconds"])
    assert all(value >= 0 for value in record["seconds"].values())
    if not trains:
        assert record["accuracy"] == 1.0  # the classes cannot be confused
    if record["log_loss"] is not None:
        assert record["log_loss"] < log_loss([0, 1, 2], np.full((3, 3), 1 / 3)) + 0.5


def test_study_features_are_extracted_once_for_the_same_images(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "cache"))
    dataset = load_dataset("animals3")
    content = dataset.content_hash()
    first = study_features(dataset, "efficientnet_lite0", content)
    folder = tmp_path / "cache" / "studies"
    (path,) = folder.glob("*.safetensors")
    written = path.stat().st_mtime_ns
    again = study_features(dataset, "efficientnet_lite0", content)
    assert path.stat().st_mtime_ns == written
    assert np.array_equal(first.X, again.X)
    assert first.seconds == again.seconds > 0
    study_features(dataset, "efficientnet_lite0", "0" * 64)
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_run_cell_smaller_part_counts_its_share_of_the_extraction(data: Path) -> None:
    dataset = load_dataset("animals3")
    features = study_features(dataset, "efficientnet_lite0", dataset.content_hash())
    whole, half = (
        run_cell(cell("centroid", size=size), dataset, features)["seconds"]["decode_extract"]
        for size in (1.0, 3 / 7)
    )
    assert half == pytest.approx(whole * 3 / 7)
    assert whole == pytest.approx(features.seconds * 21 / 30)


def test_tuner_settings_steps_limit_epochs() -> None:
    given = {"epochs": 10, "steps": 440, "learning_rate": 0.001}
    epochs = {n: tuner_settings(given, n)["epochs"] for n in (100, 704, 1000, 1836, 10**6)}
    assert epochs == {100: 10, 704: 10, 1000: 7, 1836: 4, 10**6: 1}
    assert tuner_settings(given, 100).keys() == {"epochs", "learning_rate"}
    assert tuner_settings({"steps": 440, "batch_size": 32}, 1836)["epochs"] == 8
    assert tuner_settings({}, 100) == {}


def test_run_cell_damaged_checkpoint_starts_anew(data: Path, tmp_path: Path) -> None:
    """Found in use: a cell whose checkpoint did not fit failed, and failed again when retried."""
    dataset = load_dataset("animals3")
    settings = (("epochs", 1), ("learning_rate", 0.01))
    wanted = cell("head-only", layers=None, settings=settings)
    checkpoint = tmp_path / "cell.checkpoint"
    plain = run_cell(wanted, dataset, None, checkpoint=checkpoint)
    checkpoint.write_bytes(b"of something else")
    again = run_cell(wanted, dataset, None, checkpoint=checkpoint)
    assert again["predicted"] == plain["predicted"]
    assert not again["resumed"]
    assert not checkpoint.exists()


def test_run_cell_killed_training_resumes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset("animals3")
    settings = (("epochs", 3), ("learning_rate", 0.01))
    wanted = cell("head-only", layers=None, settings=settings)
    whole = run_cell(wanted, dataset, None)
    checkpoint = tmp_path / "cell.checkpoint"
    write = fitting.save_tensors

    def write_and_die(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_tensors", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_cell(wanted, dataset, None, checkpoint=checkpoint)
    monkeypatch.setattr(fitting, "save_tensors", write)
    resumed = run_cell(wanted, dataset, None, checkpoint=checkpoint)
    assert resumed["resumed"]
    assert not whole["resumed"]
    assert resumed["predicted"] == whole["predicted"]
    assert resumed["log_loss"] == pytest.approx(whole["log_loss"], rel=1e-6)


def test_run_cell_groups_of_test_images_are_recorded(data: Path) -> None:
    dataset = load_dataset("animals3")
    features = study_features(dataset, "efficientnet_lite0", dataset.content_hash())
    assert run_cell(cell("centroid"), dataset, features)["groups"] is None
    names = np.array([f"shot {i // 2}" for i in range(len(dataset.images))])
    grouped = replace(dataset, images=replace(dataset.images, groups=names))
    record = run_cell(cell("centroid"), grouped, replace(features, groups=names))
    _, test = grouped.split(seed=0)
    assert len(record["groups"]) == len(test)
    same = names[test][:, None] == names[test]
    codes = np.array(record["groups"])
    assert np.array_equal(codes[:, None] == codes, same)


def test_unconverged_stopped_model_is_named() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    assert unconverged(LogisticRegression(max_iter=1).fit(X, y)) == ", not converged"
    assert unconverged(LogisticRegression(max_iter=300).fit(X, y)) == ""
    assert unconverged(NearestCentroid().fit(X, y)) == ""
