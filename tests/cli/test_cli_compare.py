"""`toptune compare`: what is printed where, JSON, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page_checks import Page
from toptune.finetuning.training.trial import Speed
from toptune.reports.comparison import fine_tuning as fine_module

Toptune = Callable[..., Any]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_compare_prints_tables(toptune: Toptune, split_tree: Path, tiny_name: str) -> None:
    found = toptune("compare", split_tree, "--backbone", tiny_name, "--epochs", 1)
    assert found.code == 0, found.err
    assert "24 images to train on, 9 to compare on (the test split)\n" in found.err
    assert "fine-tuning: about " in found.err
    for row in ("accuracy", "choosing hyperparameters", "training, in all", "memory at the peak"):
        assert f"\n{row} " in found.out
    assert "\ndifference " in found.out
    assert "over 9 images\n" in found.out
    assert "top-tuning on leave-one-out test images" in flat(found.out)
    assert "learning curve: " in found.out
    assert "Fine-tuning" in found.out.splitlines()[-2] + found.out.splitlines()[-3]
    assert "energy" in found.out


@pytest.mark.parametrize("installed", [True, False])
def test_compare_energy_is_estimated_or_missing(
    toptune: Toptune,
    split_tree: Path,
    tiny_name: str,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
) -> None:
    monkeypatch.setattr("toptune.runtime.energy.energy_available", lambda: installed)
    found = toptune("compare", split_tree, "--backbone", tiny_name, "--no-fine-tuning")
    line = next(line for line in found.out.splitlines() if line.startswith("energy"))
    if installed:
        assert line.startswith("energy, estimated")
    else:
        assert line == "energy: not measured, codecarbon is not installed"


def test_compare_json_is_alone(
    toptune: Toptune, split_tree: Path, tiny_name: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    more = ("--backbone", tiny_name, "--no-fine-tuning", "--json", "--seed", 3, "-o", page)
    document = toptune("compare", split_tree, *more).json
    assert (document["split"], document["n_train"], document["n_test"]) == ("test", 24, 9)
    assert document["fine_tuning"] is None
    assert set(document["top_tuning"]) == {
        "accuracy",
        "seconds",
        "predict_seconds",
        "peak_memory",
        "energy_kwh",
        "total_seconds",
    }
    written = Page(page.read_text(encoding="utf-8"))
    written.check_alone()
    assert document["verdict"] in written.text


def test_compare_options_are_passed(
    toptune: Toptune, split_tree: Path, tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def noting(data: str, labels: Any, **more: Any) -> None:
        given.update(more, data=data, labels=labels)
        raise SystemExit(0)

    monkeypatch.setattr("toptune.reports.comparison.compare", noting)
    options = ("--budget", 2.5, "--epochs", 4, "--no-flip", "--seed", 7, "--labels", "l.csv")
    toptune("compare", split_tree, *options)
    given.pop("report")
    assert given == {
        "data": str(split_tree),
        "labels": Path("l.csv"),
        "backbone": "efficientnet_lite0",
        "budget": 2.5,
        "epochs": 4,
        "flip": False,
        "fine_tuning": True,
        "random_state": 7,
    }


def test_compare_short_budget_skips_fine_tuning(
    toptune: Toptune, split_tree: Path, tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_module, "measure_speed", lambda *a, **m: Speed(0.0, 100.0))
    found = toptune("compare", split_tree, "--backbone", tiny_name, "--budget", 1)
    assert found.code == 0
    assert (
        "fine-tuning was skipped: 3 epochs at one learning rate would have taken about 2.0 hours"
        in (flat(found.out))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", 0], "budget must be > 0 minutes, got 0.0"),
        (["--epochs", 0], "epochs must be a whole number >= 1, got 0"),
        (["--backbone", "auto"], 'backbone must be the name of one network, got "auto"'),
    ],
)
def test_compare_bad_options_are_errors(
    toptune: Toptune, split_tree: Path, options: list[Any], message: str
) -> None:
    assert toptune("compare", split_tree, *options).error == message


def test_compare_one_class_is_an_error(toptune: Toptune, split_tree: Path) -> None:
    for kind in ("dark", "striped"):
        for path in (split_tree / "test" / kind).iterdir():
            path.unlink()
        (split_tree / "test" / kind).rmdir()
    error = toptune("compare", split_tree).error
    assert error.startswith("the images to compare on are of one class: at least two are needed")


def test_compare_interrupted_exits_130(
    toptune: Toptune, split_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toptune.reports.comparison.compare", interrupted)
    found = toptune("compare", split_tree)
    assert found.code == 130
    assert found.err.strip().endswith("goes on from the last epoch of fine-tuning")
