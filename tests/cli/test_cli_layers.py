"""Options that say what the network computes, and what leave-one-out keeps together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toptune import Features, TopTuner

Toptune = Callable[..., Any]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 images of a few large patches, each twice with slight noise, in two folders by chance."""
    root = tmp_path_factory.mktemp("twins")
    rng = np.random.default_rng(0)
    for k, label in enumerate(rng.permutation(["a", "b"] * 8)):
        (root / label).mkdir(exist_ok=True)
        patches = rng.integers(0, 240, (4, 4, 3), dtype=np.uint8)
        image = patches.repeat(10, axis=0).repeat(10, axis=1)
        for twin in range(2):
            noisy = image + rng.integers(0, 4, image.shape, dtype=np.uint8)
            Image.fromarray(noisy).save(root / label / f"{k:02d}-{twin}.png")
    return root


def test_fit_on_layers_by_name(
    toptune: Toptune, twins: Path, tiny_name: str, tmp_path: Path
) -> None:
    out = tmp_path / "m.toptune"
    options = ["--backbone", tiny_name, "--layers", "last, layer4:2x2,layer3:std"]
    done = toptune("fit", twins, "-o", out, *options, "--json")
    summary = done.json
    assert done.err == ""
    assert summary["backbone"] == tiny_name
    assert summary["n_features"] == 96 + 4 * 96 + 192
    assert list(summary["layer_weights"]) == ["last", "layer4:2x2", "layer3:std"]
    assert sum(summary["layer_weights"].values()) == pytest.approx(1)
    model = TopTuner.load(out)
    assert model.layer_weights_ == pytest.approx(summary["layer_weights"])
    assert toptune("evaluate", out, twins, "--json").json["n"] == 32


def test_weights_of_layers_for_people(
    toptune: Toptune, twins: Path, tiny_name: str, tmp_path: Path
) -> None:
    options = ["--backbone", tiny_name, "--layers"]
    done = toptune("fit", twins, "-o", tmp_path / "several", *options, "last,layer3:std")
    assert done.code == 0, done.err
    assert "weights of layers last 0." in " ".join(done.out.split())
    done = toptune("fit", twins, "-o", tmp_path / "one", *options, "last")
    assert done.code == 0, done.err
    assert "weights of layers" not in done.out


def test_view_and_resolution(toptune: Toptune, twins: Path, tiny_name: str, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    options = ["--backbone", tiny_name, "--layers", "last", "--view", "mirrored"]
    summary = toptune("features", twins, "-o", out, *options, "--resolution", "64", "--json").json
    assert summary["n_features"] == 96
    assert summary["provenance"]["preprocessing"]["view"] == "mirrored"
    assert summary["provenance"]["preprocessing"]["geometry"]["size"] == [64, 64]
    model = tmp_path / "m.toptune"
    fit = ["fit", twins, "-o", model, *options, "--resolution", "64", "--json"]
    assert toptune(*fit).json["layer_weights"] == {"last": pytest.approx(1)}
    loaded = TopTuner.load(model)
    assert (loaded.view, loaded.resolution) == ("mirrored", 64)
    loaded.evaluate_features(Features.load(out))  # they are of the same network


def test_near_duplicates(toptune: Toptune, twins: Path, tiny_name: str, tmp_path: Path) -> None:
    """Labels are by chance: nothing but its twin tells the label of an image."""
    options = ["--backbone", tiny_name, "--layers", "last", "--json"]
    apart = toptune("fit", twins, "-o", tmp_path / "apart", *options).json
    whole = toptune("fit", twins, "-o", tmp_path / "whole", *options, "--near-duplicates").json
    assert apart["loo_accuracy"] > 0.95
    # 16 fair coins: a share of 0.9 and more has probability 0.0003.
    assert whole["loo_accuracy"] < 0.9
    assert whole["n"] == apart["n"] == 32


def test_a_network_within_a_budget(
    toptune: Toptune,
    twins: Path,
    tiny_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from toptune.features.catalogue import BackboneInfo
    from toptune.model import backbone_selection as backbone_choice

    row = BackboneInfo(tiny_name, True, 96, (160, 160), "file")
    monkeypatch.setattr(backbone_choice, "list_backbones", lambda: [row])
    out = tmp_path / "m.toptune"
    options = ["--backbone", "auto", "--layers", "last", "--time-budget", "1e-9", "--json"]
    done = toptune("fit", twins, "-o", out, *options)
    assert done.json["backbone"] == tiny_name
    assert done.err.startswith("warning: no network extracts the features within 1e-09 s")
    assert toptune("evaluate", out, twins, "--json").json["n"] == 32


@pytest.mark.parametrize("command", ["fit", "features"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--layers", "layer9"], "the network has no layer 'layer9'; its stages are last, act1, "),
        (["--layers", "layer4,layer4:mean"], "the layer 'layer4:mean' is named twice"),
        (["--layers", "layer4:median"], "pooling of 'layer4:median' must be one of mean, std, "),
        (["--layers", "layer4,"], "the network has no layer ''"),
        (["--layers", ""], "the network has no layer ''"),
        (["--layers", "fc"], "the layer 'fc' takes no part in the features"),
        (["--layers", "global_pool"], "the layer 'global_pool' gives an array of shape (1, 96)"),
        (["--view", "left"], "view must be one of center, whole, mirrored, crops, got 'left'"),
        (["--resolution", "31"], "resolution must be at least 32 pixels, got 31"),
    ],
)
def test_options_that_make_no_sense(
    toptune: Toptune,
    twins: Path,
    tiny_name: str,
    tmp_path: Path,
    command: str,
    options: list[str],
    error: str,
) -> None:
    out = tmp_path / "out"
    done = toptune(command, twins, "-o", out, "--backbone", tiny_name, *options)
    assert done.error.startswith(error)
    assert done.out == ""
    assert not out.exists()


def test_a_time_budget_without_a_choice_does_nothing(
    toptune: Toptune, twins: Path, tiny_name: str, tmp_path: Path
) -> None:
    options = ["--backbone", tiny_name, "--layers", "last", "--time-budget", "1e-9"]
    done = toptune("fit", twins, "-o", tmp_path / "m", *options)
    assert (done.code, done.err) == (0, "")


def test_features_have_no_network_to_choose(toptune: Toptune, twins: Path, tmp_path: Path) -> None:
    done = toptune("features", twins, "-o", tmp_path / "out", "--backbone", "auto")
    assert done.error.startswith("unknown network 'auto'")
