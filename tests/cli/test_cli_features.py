"""`toptune features`, `backbones`, `demo` and `doctor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from toptune import Features, TopTuner

Toptune = Callable[..., Any]


def test_features_json_and_file(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    (split_tree / "train" / "dark" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "kinds.safetensors"
    summary = toptune("features", split_tree, "-o", out, "--json").json
    assert summary.keys() == {"n", "n_features", "seconds", "provenance", "quarantined"}
    assert (summary["n"], summary["n_features"]) == (24, 15304)
    layers = dict(summary["provenance"]["layers"])
    assert (next(iter(layers)), sum(layers.values())) == ("last", 15304)
    assert summary["seconds"].keys() == {"decode_extract"}
    assert summary["provenance"]["backbone"] == "efficientnet_lite0"
    assert len(summary["provenance"]["weights_sha256"]) == 64
    assert summary["quarantined"] == [
        {"id": "train/dark/broken.png", "reason": "not an image, or its header is damaged"}
    ]
    features = Features.load(out)
    assert features.labels is not None
    assert features.ids[0] == "train/bright/0.png"
    assert features.labels[0] == "bright"
    np.testing.assert_array_equal(load_file(out)["features"], features.X)
    assert np.isfinite(features.X).all()


def test_features_are_what_fit_trains_on(
    toptune: Toptune, split_tree: Path, model_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kinds.safetensors"
    assert toptune("features", split_tree, "-o", out).code == 0
    model = TopTuner().fit_features(Features.load(out))
    # The search for the weights of the layers amplifies rounding.
    expected = TopTuner.load(model_file).loo_.log_loss
    assert model.loo_.log_loss == pytest.approx(expected, rel=1e-3)


def test_features_of_one_split_for_people(
    toptune: Toptune, split_tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kinds.safetensors"
    done = toptune("features", split_tree, "-o", out, "--split", "test")
    assert done.code == 0
    assert "images 9 features 15304 per image" in " ".join(done.out.split())
    assert done.out.endswith(f"features written to {out}\n")


def test_a_feature_file_is_no_model(toptune: Toptune, split_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "kinds.safetensors"
    assert toptune("features", split_tree, "-o", out).code == 0
    message = toptune("evaluate", out, split_tree).error
    assert message == f"{out} holds toptune features, but a model file is needed"


def test_backbones(toptune: Toptune) -> None:
    rows = toptune("backbones", "--json").json["backbones"]
    assert [row["name"] for row in rows[:3]] == [f"efficientnet_lite{i}" for i in range(3)]
    for row in rows:
        assert row.keys() == {"name", "available", "n_features", "input_size", "where", "note"}
    assert rows[0] == {
        "name": "efficientnet_lite0",
        "available": True,
        "n_features": 1280,
        "input_size": [224, 224],
        "where": "installed package",
        "note": "default",
    }
    done = toptune("backbones")
    assert done.code == 0
    assert "HF_HUB_OFFLINE=1" in done.out
    assert "local-dir:FOLDER" in done.out


DOCTOR_KEYS = {
    "versions",
    "backbone",
    "engine",
    "device",
    "precision",
    "batch_size",
    "threads",
    "cache",
    "cache_megabytes",
    "seconds_to_start",
    "images_per_second",
}


def test_doctor(toptune: Toptune, model_file: Path, cache_folder: Path) -> None:
    report = toptune("doctor", "--json").json
    assert report.keys() == DOCTOR_KEYS
    assert report["cache"] == str(cache_folder)
    assert report["cache_megabytes"] > 5  # the converted network is there
    assert report["images_per_second"] > 0


def test_doctor_for_people(toptune: Toptune, monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "versions": {"python": "3.11.7"},
        "engine": "OpenVINO",
        "cache": "/home/[me]/cache",
        "images_per_second": 238.1,
    }
    monkeypatch.setattr("toptune.reports.diagnosis.diagnose", lambda backbone: report)
    done = toptune("doctor")
    assert [line.split() for line in done.out.splitlines()] == [
        ["python", "3.11.7"],
        ["engine", "OpenVINO"],
        ["cache", "/home/[me]/cache"],
        ["images", "per", "second", "238.1"],
    ]


def test_doctor_of_an_unknown_network(toptune: Toptune) -> None:
    message = toptune("doctor", "--backbone", "resnet5").error
    assert message.startswith("unknown network 'resnet5': give efficientnet_lite0")


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration on 48 of its pictures, 12 of each grade."""
    from toptune.images import demo

    cells = demo.solar_cells()
    assert cells.labels is not None
    grades = np.unique(cells.labels)
    chosen = np.concatenate([np.flatnonzero(cells.labels == grade)[:12] for grade in grades])
    monkeypatch.setattr(demo, "solar_cells", lambda: cells.subset(chosen))


def test_demo_json(
    toptune: Toptune, few_cells: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = toptune("demo", "--json")
    assert done.json.keys() == {"fit", "evaluate"}
    assert done.json["fit"]["n"] == 36
    assert done.json["fit"]["model"] == "solar-cells.toptune"
    assert done.json["evaluate"]["n"] == 12
    assert done.json["evaluate"]["classes"] == ["0.00", "0.33", "0.67", "1.00"]
    model = TopTuner.load("solar-cells.toptune")
    assert model.loo_.accuracy == done.json["fit"]["loo_accuracy"]
    assert toptune("demo").error == (
        "solar-cells.toptune exists already: choose another name, or give --overwrite"
    )


def test_demo_for_people(
    toptune: Toptune, few_cells: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = toptune("demo", "-o", "cells.toptune", "--seed", "1")
    assert done.code == 0
    said = " ".join(done.out.split())
    for part in (
        "36 to train on, 12 held out",
        "leave-one-out accuracy 0.",
        "held-out accuracy 0.",
        "true class (rows) and predicted class (columns)",
        "decoding and extraction",
        "selection",
        "toptune predict cells.toptune IMAGE",
    ):
        assert part in said
    assert Path("cells.toptune").is_file()


def test_demo_without_its_pictures(
    toptune: Toptune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toptune.images.demo.find_spec", lambda name: None)
    message = toptune("demo", "-o", tmp_path / "cells.toptune").error
    assert message.endswith('the package elpv-dataset: pip install "toptune[demo]"')


@pytest.mark.slow
def test_the_whole_demo(toptune: Toptune, tmp_path: Path) -> None:
    found = toptune("demo", "-o", tmp_path / "cells.toptune", "--json").json
    assert (found["fit"]["n"], found["evaluate"]["n"]) == (1968, 656)
    assert found["evaluate"]["accuracy"] > 0.73  # the largest class alone is 0.575
    assert abs(found["fit"]["loo_accuracy"] - found["evaluate"]["accuracy"]) < 0.05


def test_doctor_plans_a_fit(toptune: Toptune) -> None:
    plan = toptune("doctor", "--plan", "100000,1280,10", "--memory", "2", "--json").json
    assert plan["solver"] in ("direct", "falkon")
    assert 1000 < plan["centers"] <= 5059
    assert 0 < plan["peak_gigabytes"] <= plan["budget_gigabytes"] == 2.0
    assert plan["seconds"] > 0
    few = toptune("doctor", "--plan", "100000,1280,10", "--centers", "500", "--json").json
    assert few["centers"] == 500
    assert few["seconds"] < plan["seconds"]
    shown = toptune("doctor", "--plan", "500,1280,10").out
    assert "exact" in shown
    assert "peak gigabytes" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "100,20"], "three whole numbers"),
        (["--plan", "100,20,-3"], "three whole numbers"),
        (["--plan", "100000,1280,10", "--centers", "50000", "--memory", "1"], "50000 centers"),
        (["--plan", "100,20,3", "--centers", "0"], "> 0"),
        (["--plan", "100,20,3", "--memory", "-1"], "> 0"),
    ],
)
def test_a_plan_that_cannot_be_is_an_error(
    toptune: Toptune, arguments: list[str], message: str
) -> None:
    assert message in toptune("doctor", *arguments).error


def test_features_in_half_precision(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    toptune("features", tree, "-o", whole)
    toptune("features", tree, "-o", half, "--half")
    X, Y = Features.load(whole).X, Features.load(half).X
    assert Y.dtype == np.float16
    np.testing.assert_array_equal(Y, X.astype(np.float16))


def test_features_keep_the_groups_of_a_manifest(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    (tree / "dark" / "broken.png").write_bytes(b"no image")
    files = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*.png"))
    rows = [f"{f},{Path(f).parent},object {Path(f).stem}" for f in files]
    table = tree / "list.csv"
    table.write_text("\n".join(["image_path,label,group", *rows]))
    out, plain = tmp_path / "grouped.safetensors", tmp_path / "plain.safetensors"
    assert toptune("features", table, "-o", out, "--json").json["n"] == 24
    features = Features.load(out)
    assert features.groups is not None
    assert features.groups.tolist() == [f"object {Path(i).stem}" for i in features.ids]
    assert "image_groups" in load_file(out)
    toptune("features", tree, "-o", plain)
    assert Features.load(plain).groups is None
