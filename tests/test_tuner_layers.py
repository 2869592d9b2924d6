"""TopTuner: several layers and their weights, groups of images, and the network it ends up with."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from toptune import DataError, TopTuner
from toptune.errors import BackboneError, DataWarning
from toptune.evaluation.near_duplicates import with_near_duplicates
from toptune.features import Features, load_backbone
from toptune.images import from_arrays

N_PAIRS = 20


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module: converting the network takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


def coarse(n: int, seed: int = 0) -> np.ndarray:
    """Images of a few large patches, uint8 (n, 40, 40, 3); no two are alike."""
    patches = np.random.default_rng(seed).integers(0, 240, (n, 4, 4, 3), dtype=np.uint8)
    return patches.repeat(10, axis=1).repeat(10, axis=2)


def twins(noise: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each image twice with slight noise, labels by chance, and the groups of twins."""
    rng = np.random.default_rng(1)
    both = np.repeat(coarse(N_PAIRS), 2, axis=0)
    both += rng.integers(0, noise, both.shape, dtype=np.uint8)
    labels = np.repeat(rng.permutation(["a", "b"] * (N_PAIRS // 2)), 2)
    return both, labels, [f"object {k // 2}" for k in range(2 * N_PAIRS)]


def tuner(name: str, **parameters: Any) -> TopTuner:
    return TopTuner(**{"backbone": name, "layers": "last", **parameters})


# ----------------------------------------------------------------------------------------- groups


def test_twins_vouch_for_each_other_unless_they_are_a_group(tiny_name: str) -> None:
    """Labels are by chance: nothing but its twin tells the label of an image."""
    images, labels, groups = twins()
    apart = tuner(tiny_name).fit(images, labels=labels)
    listed = tuner(tiny_name).fit(images, labels=labels, groups=groups)
    found = tuner(tiny_name).fit(images, labels=labels, groups="near-duplicates")
    assert apart.loo_.accuracy > 0.95
    # 20 fair coins: a share of 0.85 and more has probability 0.0013.
    assert listed.loo_.accuracy < 0.85
    # The groups that are found are the twins, so both leave out the same.
    assert found.loo_.accuracy == listed.loo_.accuracy
    assert found.loo_.log_loss == pytest.approx(listed.loo_.log_loss, rel=1e-3)


def test_near_duplicates_go_by_the_networks_own_output(tiny_name: str) -> None:
    """Other layers come along, before and after it, and change nothing of the groups."""
    images, labels, groups = twins()
    layers = ["layer3:cov", "last", "layer4:max"]
    listed = tuner(tiny_name, layers=layers).fit(images, labels=labels, groups=groups)
    found = tuner(tiny_name, layers=layers).fit(images, labels=labels, groups="near-duplicates")
    assert found.loo_.log_loss == pytest.approx(listed.loo_.log_loss, rel=1e-3)
    without = tuner(tiny_name, layers=["layer4:2x2"])
    without.fit(images, labels=labels, groups="near-duplicates")
    assert without.loo_.accuracy < 0.85


def test_groups_of_a_manifest(tiny_name: str, tmp_path: Path) -> None:
    images, labels, groups = twins()
    rows = []
    for k, (image, label, group) in enumerate(zip(images, labels, groups, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{k:02d}.png")
        rows.append(f"{k:02d}.png,{label},{group}")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["image_path,label,group", *rows]))
    listed = tuner(tiny_name).fit(images, labels=labels, groups=groups)
    from_table = tuner(tiny_name).fit(table)
    assert from_table.loo_.log_loss == pytest.approx(listed.loo_.log_loss, rel=1e-3)
    joined = tuner(tiny_name).fit(table, groups="near-duplicates")
    assert joined.loo_.log_loss == pytest.approx(listed.loo_.log_loss, rel=1e-3)
    with pytest.raises(DataError, match="groups of a folder or manifest come from the column"):
        tuner(tiny_name).fit(table, groups=groups)


def test_near_duplicates_are_joined_with_given_groups(tiny_name: str) -> None:
    images, labels, _ = twins()
    pairs_of_twins = [f"set {k // 4}" for k in range(2 * N_PAIRS)]
    image_set = from_arrays(list(images), labels.tolist(), groups=pairs_of_twins)
    fitted = tuner(tiny_name).fit(image_set)
    features = fitted.extract(image_set)
    groups = with_near_duplicates(features).groups
    assert groups is not None
    assert len(set(groups.tolist())) == N_PAIRS // 2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("duplicates", "groups must be names or \"near-duplicates\", got 'duplicates'"),
        ("", "groups must be names or \"near-duplicates\", got ''"),
        (["a"] * 39, "40 images but 39 groups: give one group per image"),
        (["a"] * 40, "all images belong to one group"),
    ],
)
def test_groups_that_are_none(groups: Any, message: str, tiny_name: str) -> None:
    images, labels, _ = twins()
    warnings.simplefilter("default", DataWarning)  # of classes in one group, before the error
    with pytest.raises(DataError, match=message):
        tuner(tiny_name).fit(images, labels=labels, groups=groups)


# ---------------------------------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def layered(cache: Path, tiny_name: str) -> TopTuner:
    """A model on three layers; not to be changed."""
    labels = np.where(coarse(30)[:, 0, 0, 0] > 120, "red", "dark")
    layers = ["last", "layer3:2x2", "layer4:std"]
    return tuner(tiny_name, layers=layers, cache=cache).fit(coarse(30), labels=labels)


def test_weights_add_up_and_are_parts_of_the_mean_squared_distance(layered: TopTuner) -> None:
    weights = layered.layer_weights_
    assert list(weights) == ["last", "layer3:2x2", "layer4:std"]
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())
    # All images are centers: the distances themselves, pair by pair, in float64.
    head = layered.head_
    Z = head.centers_.astype(np.float64)
    assert len(Z) == 30
    pairs = (Z[:, None] - Z[None]) ** 2
    shares = head._feature_scale_array() ** 2 * pairs.mean((0, 1))
    ends = np.cumsum([96, 4 * 192, 96])
    expected = [part.sum() / shares.sum() for part in np.split(shares, ends[:-1])]
    np.testing.assert_allclose(list(weights.values()), expected, rtol=1e-5)


def test_one_layer_has_all_of_the_weight(tiny_name: str) -> None:
    images, labels, _ = twins()
    fitted = tuner(tiny_name).fit(images, labels=labels)
    assert fitted.layer_weights_ == {"last": pytest.approx(1)}


def test_weights_and_answers_survive_the_file(layered: TopTuner, tmp_path: Path) -> None:
    path = tmp_path / "m.toptune"
    layered.save(path)
    loaded = TopTuner.load(path)
    new = coarse(10, seed=3)
    np.testing.assert_array_equal(loaded.predict_proba(new), layered.predict_proba(new))
    np.testing.assert_array_equal(loaded.head_.centers_, layered.head_.centers_)
    assert loaded.layer_weights_ == layered.layer_weights_
    assert loaded.backbone_ == layered.backbone_ == layered.backbone
    assert loaded.loo_.to_dict() == layered.loo_.to_dict()
    with safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["toptune"])
        assert file.get_tensor("center_features").dtype == np.float16
    assert document["format_version"] == 3
    assert document["normalizer"]["groups"] == [96, 4 * 192, 96]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"layers": ["layer9"]}, BackboneError, "no layer 'layer9'"),
        ({"layers": []}, BackboneError, "at least one name"),
        ({"view": "left"}, ValueError, "view must be one of"),
        ({"resolution": 8}, ValueError, "at least 32 pixels"),
    ],
)
def test_networks_that_cannot_be_built(
    parameters: dict[str, Any], error: type[Exception], message: str, tiny_name: str
) -> None:
    images, labels, _ = twins()
    with pytest.raises(error, match=message):
        tuner(tiny_name, **parameters).fit(images, labels=labels)


def test_view_and_resolution_reach_the_network(tiny_name: str, tmp_path: Path) -> None:
    images, labels, _ = twins()
    fitted = tuner(tiny_name, view="mirrored", resolution=64).fit(images, labels=labels)
    assert fitted.provenance_["preprocessing"]["geometry"]["size"] == [64, 64]
    P = fitted.predict_proba(images)
    # Rounding of sums over the positions of a map, in another order.
    np.testing.assert_allclose(fitted.predict_proba(images[:, :, ::-1]), P, atol=1e-3)
    fitted.save(tmp_path / "m.toptune")
    loaded = TopTuner.load(tmp_path / "m.toptune")
    assert (loaded.view, loaded.resolution) == ("mirrored", 64)
    np.testing.assert_array_equal(loaded.predict_proba(images), P)


# ------------------------------------------------------------------------------ which network it is


def features_of(name: str, images: np.ndarray, labels: np.ndarray) -> Features:
    return tuner(name).extract(from_arrays(list(images), labels.tolist()))


def test_features_of_another_network_after_set_params(tiny_name: str, tmp_path: Path) -> None:
    """What was fitted before is of no account."""
    images, labels, _ = twins()
    features = features_of(tiny_name, images, labels)
    path = shutil.copy(tiny_name.partition("=")[2], tmp_path / "other.safetensors")
    other = tuner(f"test_resnet={path}", layers=["layer4:std"]).fit(images, labels=labels)
    other.set_params(backbone=tiny_name, layers="last").fit_features(features)
    assert other.backbone_ == tiny_name
    assert list(other.layer_weights_) == ["last"]
    assert other.predict(images).shape == (40,)


def test_a_model_goes_by_its_own_name_of_the_network(tiny_name: str, tmp_path: Path) -> None:
    """Not by that of the features it was trained on, which may be of another machine."""
    images, labels, _ = twins()
    features = features_of(tiny_name, images, labels)
    features.provenance["backbone"] = "test_resnet=elsewhere.safetensors"
    fitted = tuner(tiny_name).fit_features(features)
    fitted.save(tmp_path / "m.toptune")
    loaded = TopTuner.load(tmp_path / "m.toptune")
    assert loaded.backbone_ == tiny_name
    # Nor is a model that was moved, and saved there, led back to where it came from.
    path = shutil.copy(tiny_name.partition("=")[2], tmp_path / "moved.safetensors")
    TopTuner.load(tmp_path / "m.toptune", backbone=f"test_resnet={path}").save(tmp_path / "moved")
    assert TopTuner.load(tmp_path / "moved").backbone_ == f"test_resnet={path}"


def test_automatic_layers_stay_what_they_were_under_another_name(tmp_path: Path) -> None:
    """The embedded network has its own choice of layers; the same weights in a file have not."""
    images = twins()[0]
    fitted = TopTuner().fit(images[:8], labels=["a", "b"] * 4)
    fitted.save(tmp_path / "m.toptune")
    weights = tmp_path / "lite0.safetensors"
    save_file(load_backbone().module.state_dict(), weights)
    name = f"tf_efficientnet_lite0={weights}"
    loaded = TopTuner.load(tmp_path / "m.toptune", backbone=name)
    assert loaded.provenance_["layers"] == fitted.provenance_["layers"]
    np.testing.assert_array_equal(loaded.predict(images), fitted.predict(images))
