"""Where networks come from: names, files, folders, the hub's cache; and what is said when not."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from features_helpers import save_tiny
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from toptune.errors import BackboneError
from toptune.features import Backbone, backbones, list_backbones, load_backbone


def outputs(backbone: Backbone) -> np.ndarray:
    _, side = backbone.preprocessing.geometry.size
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    features: np.ndarray = backbone.module(x).numpy()
    return features


@pytest.mark.parametrize(
    ("name", "size", "crop_pct"),
    [
        ("efficientnet_lite0", 224, 0.875),
        ("efficientnet_lite1", 240, 0.882),
        ("efficientnet_lite2", 260, 0.890),
    ],
)
def test_load_backbone_embedded_has_size_and_crop(name: str, size: int, crop_pct: float) -> None:
    backbone = load_backbone(name)
    assert backbone.architecture == f"tf_{name}"
    assert backbone.layers == {"last": 1280}
    assert backbone.n_features == 1280
    preprocessing = backbone.preprocessing
    assert preprocessing.mean == preprocessing.std == (0.5, 0.5, 0.5)
    geometry = preprocessing.geometry
    assert (geometry.size, geometry.crop_pct) == ((size, size), crop_pct)
    assert geometry.interpolation == "bicubic"
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())


def test_load_backbone_file_gives_the_same_features(tiny: Backbone, tiny_file: Path) -> None:
    source = timm.create_model("test_resnet")
    source.load_state_dict(load_file(tiny_file))
    x = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    expected = source.eval().forward_head(source.forward_features(x), pre_logits=True)
    assert tiny.n_features == expected.shape[1]
    np.testing.assert_array_equal(outputs(tiny), expected.detach().numpy())


def test_load_backbone_pth_file_equals_safetensors(
    tiny: Backbone, tiny_file: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": load_file(tiny_file)}, tmp_path / "tiny.pth")
    other = load_backbone(f"test_resnet={tmp_path / 'tiny.pth'}")
    assert other.weights_sha256 == tiny.weights_sha256
    assert other.spec() == tiny.spec()


def test_hash_tensors_one_value_changed_differs(
    tiny: Backbone, tiny_file: Path, tmp_path: Path
) -> None:
    tensors = load_file(tiny_file)
    key = sorted(k for k in tensors if k.startswith("layer1"))[0]
    tensors[key].view(-1)[0] += 1e-6
    save_file(tensors, tmp_path / "other.safetensors")
    other = load_backbone(f"test_resnet={tmp_path / 'other.safetensors'}")
    assert other.weights_sha256 != tiny.weights_sha256
    assert other.spec()["architecture"] == tiny.spec()["architecture"]


def test_hash_tensors_other_order_is_equal(tiny: Backbone, tiny_file: Path, tmp_path: Path) -> None:
    # A .pth file keeps the order of its tensors.
    turned = dict(reversed(load_file(tiny_file).items()))
    torch.save(turned, tmp_path / "turned.pth")
    other = load_backbone(f"test_resnet={tmp_path / 'turned.pth'}")
    assert other.weights_sha256 == tiny.weights_sha256
    assert backbones.hash_tensors(turned) == backbones.hash_tensors(load_file(tiny_file))


def test_backbone_spec_other_architecture_differs(lite0: Backbone) -> None:
    """The two padding variants of EfficientNet have the same tensors."""
    module = timm.create_model("efficientnet_lite0", num_classes=0)
    module.load_state_dict(lite0.module.state_dict())
    other = backbones.build_backbone("other", "efficientnet_lite0", module)
    assert other.weights_sha256 == lite0.weights_sha256
    assert other.spec() != lite0.spec()


def test_load_backbone_timm_folder_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = timm.create_model("test_resnet", num_classes=7)
    save_for_hf(module, tmp_path / "net", safe_serialization=True)
    backbone = load_backbone(f"local-dir:{tmp_path / 'net'}")
    module.reset_classifier(0)
    x = torch.rand(1, 3, 160, 160)
    assert torch.equal(backbone.module(x), module.eval()(x).detach())
    # Which of its forms the same network is given in makes no difference to cache and models.
    same = load_backbone(f"test_resnet={tmp_path / 'net' / 'model.safetensors'}")
    assert backbone.spec() == same.spec()


def test_load_backbone_folder_with_arguments_names_them(tmp_path: Path) -> None:
    module = timm.create_model("test_resnet", act_layer="silu")
    save_for_hf(module, tmp_path / "net", safe_serialization=True, model_args={"act_layer": "silu"})
    backbone = load_backbone(f"local-dir:{tmp_path / 'net'}")
    plain = load_backbone(f"test_resnet={tmp_path / 'net' / 'model.safetensors'}")
    assert backbone.weights_sha256 == plain.weights_sha256
    assert "silu" in backbone.architecture
    assert backbone.spec() != plain.spec()


def bad_file(kind: str, tiny_file: Path, folder: Path) -> Path:
    path = folder / f"{kind}.safetensors"
    if kind == "missing":
        return path
    if kind == "text":
        path.write_text("these are no weights")
        return path
    if kind == "truncated":
        path.write_bytes(tiny_file.read_bytes()[:1000])
        return path
    tensors = load_file(tiny_file)
    if kind == "lacks":
        del tensors["layer2.0.conv1.weight"]
    elif kind == "unknown":
        tensors["surplus.weight"] = torch.zeros(3)
    elif kind == "shape":
        tensors["layer2.0.conv1.weight"] = torch.zeros(2, 2)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no weights file at .*missing.safetensors"),
        ("text", "cannot read weights from .*text.safetensors"),
        ("truncated", "cannot read weights from .*truncated.safetensors"),
        ("lacks", "does not fit test_resnet: it lacks tensors 'layer2.0.conv1.weight'"),
        ("unknown", "does not fit test_resnet: it has unknown tensors 'surplus.weight'"),
        ("shape", "it has other shapes for tensors 'layer2.0.conv1.weight'"),
    ],
)
def test_load_backbone_unfit_file_is_named(
    kind: str, message: str, tiny_file: Path, tmp_path: Path
) -> None:
    path = bad_file(kind, tiny_file, tmp_path)
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"test_resnet={path}")


class _Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.victim,))


def test_load_backbone_pickle_is_not_executed(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    for writer in (lambda obj, file: pickle.dump(obj, file, protocol=2), torch.save):
        path = tmp_path / "evil.pth"
        with path.open("wb") as file:
            writer({"state_dict": _Malicious(victim)}, file)
        with pytest.raises(BackboneError, match="cannot read weights"):
            load_backbone(f"test_resnet={path}")
        assert not victim.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_light0", "unknown network 'efficientnet_light0': give efficientnet_lite0"),
        ("no_such_net=weights.pth", "'no_such_net' in .* is no timm architecture"),
        ("local-dir:nowhere", "no config.json in nowhere"),
        ("resnet18.no_such_tag", "no pretrained weights for 'resnet18.no_such_tag'; it has: .*a1"),
    ],
)
def test_load_backbone_unknown_name_raises(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(name)


@pytest.mark.parametrize(
    "fault",
    ["no JSON", "no object", "no text", "unknown", "another", "no weights", "cut", "other shapes"],
)
def test_load_backbone_damaged_folder_is_named(fault: str, tmp_path: Path) -> None:
    save_for_hf(timm.create_model("test_resnet"), tmp_path / "net", safe_serialization=True)
    config, weights = tmp_path / "net" / "config.json", tmp_path / "net" / "model.safetensors"
    described = json.loads(config.read_text())
    if fault == "no JSON":
        config.write_text("{")
    elif fault == "no object":
        config.write_text("[]")
    elif fault == "no text":
        config.write_bytes(b"\xff\xfe")
    elif fault == "unknown":
        config.write_text(json.dumps({**described, "architecture": "no_such_network"}))
    elif fault == "another":
        config.write_text(json.dumps({**described, "architecture": "test_vit"}))
    elif fault == "no weights":
        weights.unlink()
    elif fault == "cut":
        weights.write_bytes(weights.read_bytes()[:500])
    else:
        tensors = load_file(weights)
        tensors["layer2.0.conv1.weight"] = torch.zeros(2, 2)
        save_file(tensors, weights)
    with pytest.raises(BackboneError, match=f"cannot load a network from {tmp_path / 'net'}: "):
        load_backbone(f"local-dir:{tmp_path / 'net'}")


# ------------------------------------------------------------------------------------- the hub

HUB_NAME = "test_resnet.r160_in1k"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the hub's cache."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def put_into(cache: Path) -> None:
    snapshot = cache / f"models--timm--{HUB_NAME}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_tiny(snapshot / "model.safetensors")
    described = timm.get_pretrained_cfg(HUB_NAME).to_dict()
    config = {"architecture": "test_resnet", "num_features": 64, "pretrained_cfg": described}
    (snapshot / "config.json").write_text(json.dumps(config))
    reference = snapshot.parent.parent / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("0" * 40)


def test_load_backbone_offline_without_weights_tells_the_ways(hub_cache: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        load_backbone(HUB_NAME)
    text = str(caught.value)
    assert HUB_NAME in text
    assert "not on this machine" in text
    assert "HF_HUB_OFFLINE is set" in text
    assert f"{HUB_NAME}=FILE" in text
    assert "\n" not in text


def test_load_backbone_without_connection_fails_at_once(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **named: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(BackboneError, match=r"not on this machine.*cannot be reached"):
        load_backbone(HUB_NAME)


def test_load_backbone_hub_cache_is_used_offline(hub_cache: Path, tmp_path: Path) -> None:
    assert HUB_NAME not in {row.name for row in list_backbones() if row.available}
    put_into(hub_cache)
    backbone = load_backbone(HUB_NAME)
    same = load_backbone(f"test_resnet={save_tiny(tmp_path / 'tiny.safetensors')}")
    assert backbone.weights_sha256 == same.weights_sha256
    row = next(row for row in list_backbones() if row.name == HUB_NAME)
    assert row.available
    assert (row.n_features, row.input_size) == (backbone.n_features, (160, 160))


def test_load_backbone_damaged_hub_file_raises(hub_cache: Path) -> None:
    put_into(hub_cache)
    (path,) = hub_cache.rglob("model.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BackboneError, match=HUB_NAME):
        load_backbone(HUB_NAME)


def test_load_backbone_any_cached_repository_is_loaded(hub_cache: Path) -> None:
    put_into(hub_cache)
    named, other = load_backbone(HUB_NAME), load_backbone(f"hf-hub:timm/{HUB_NAME}")
    assert other.weights_sha256 == named.weights_sha256
    assert other.architecture == named.architecture


def test_list_backbones_default_comes_first(hub_cache: Path) -> None:
    rows = list_backbones()
    assert rows[0].name == "efficientnet_lite0"
    assert rows[0].note == "default"
    by_name = {row.name: row for row in rows}
    assert by_name["efficientnet_lite2"].input_size == (260, 260)
    assert not by_name["resnet50.a1_in1k"].available
    assert by_name["resnet50.a1_in1k"].n_features == 2048
    shutil.rmtree(hub_cache)
    assert [row.name for row in list_backbones()] == [row.name for row in rows]
