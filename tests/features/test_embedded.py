"""The embedded weights: what they are checked against, and what they recognise."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy.special import log_softmax, logsumexp

from toptune.errors import BackboneError
from toptune.features import list_backbones, load_backbone
from toptune.features.backbones import EMBEDDED, load_embedded
from toptune.images import Geometry, decode

#: ImageNet classes that are right for each photograph.
RIGHT = {
    "chelsea": (281, 282, 283, 284, 285),  # domestic cats
    "coffee": (504, 967, 968),  # mug, espresso, cup
    "rocket": (657, 744, 812),  # missile, projectile, space shuttle
}
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean, standard deviation
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@cache
def chosen_geometry() -> Geometry:
    return load_backbone("efficientnet_lite0").preprocessing.geometry


def views(name: str, size: tuple[int, int]) -> np.ndarray:
    """The photograph of that name, its mirror image and crops, uint8 (10, h, w, 3)."""
    from skimage import data

    image: np.ndarray = getattr(data, name)()
    height, width = image.shape[:2]
    geometry = dataclasses.replace(chosen_geometry(), size=size)
    crops = [image]
    for fraction in (0.9, 0.8):
        h, w = int(height * fraction), int(width * fraction)
        crops += [image[:h, :w], image[height - h :, width - w :]]
    both = [view for crop in crops for view in (crop, crop[:, ::-1])]
    return np.stack([decode(np.ascontiguousarray(view), geometry) for view in both])


def log_probabilities(
    module: torch.nn.Module, statistics: Statistics, pixels: np.ndarray
) -> np.ndarray:
    """Of the 1000 classes, (n, 1000)."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in statistics)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return log_softmax(module.eval()((x - mean) / std).double().numpy(), axis=1)


def mean_loss(module: torch.nn.Module, statistics: Statistics) -> float:
    """Mean log-loss of the right groups of classes over all views of all photographs."""
    losses = []
    for name, right in RIGHT.items():
        log_p = log_probabilities(module, statistics, views(name, (224, 224)))
        losses.append(-logsumexp(log_p[:, right], axis=1).mean())
    return float(np.mean(losses))


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_load_embedded_photographs_are_recognised(name: str) -> None:
    """Wrong padding, normalisation or order of tensors would not get these right."""
    preprocessing = load_backbone(name).preprocessing
    module = load_embedded(name, num_classes=1000)
    for photograph, right in RIGHT.items():
        pixels = views(photograph, preprocessing.geometry.size)[:1]
        (log_p,) = log_probabilities(module, (preprocessing.mean, preprocessing.std), pixels)
        best = np.argsort(-log_p)
        assert set(best[:5]) & set(right), photograph
        # The rocket stands on its launch pad, which some networks name first.
        assert photograph == "rocket" or best[0] in right, photograph
        # Guessing gives log(1000 / 3) = 5.8.
        assert -logsumexp(log_p[list(right)]) < 2, photograph


def test_load_embedded_padding_and_normalisation_beat_others() -> None:
    """On 30 views of three photographs; docs/concepts/networks.md has 727 pictures."""
    chosen = load_embedded("efficientnet_lite0", num_classes=1000)
    symmetric = timm.create_model("efficientnet_lite0")
    symmetric.load_state_dict(chosen.state_dict())
    found = {
        (padding, statistics): mean_loss(module, statistics)
        for padding, module in (("same", chosen), ("symmetric", symmetric))
        for statistics in (HALF, IMAGENET)
    }
    assert min(found, key=lambda key: found[key]) == ("same", HALF), found


def fake_package(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Make the package of lite0's weights hold `content` instead."""
    known = EMBEDDED["efficientnet_lite0"]
    path = folder / "fake_weights" / known.file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (folder / "fake_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    fake = dataclasses.replace(known, package="fake_weights")
    monkeypatch.setitem(EMBEDDED, "efficientnet_lite0", fake)


def test_load_embedded_changed_file_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = EMBEDDED["efficientnet_lite0"].path()
    assert path is not None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    fake_package(tmp_path, monkeypatch, bytes(content))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("read before it was checked"))
    with pytest.raises(BackboneError, match=r"have SHA-256 .*expected 579344248a93e230"):
        load_backbone("efficientnet_lite0")


def test_load_embedded_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(EMBEDDED["efficientnet_lite1"], package="no_such_package")
    monkeypatch.setitem(EMBEDDED, "efficientnet_lite1", known)
    assert "no_such_package" not in sys.modules
    with pytest.raises(BackboneError, match="lite1 are missing: pip install no-such-package"):
        load_backbone("efficientnet_lite1")
    row = next(row for row in list_backbones() if row.name == "efficientnet_lite1")
    assert not row.available


def test_load_embedded_other_architecture_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(EMBEDDED["efficientnet_lite0"], architecture="tf_efficientnet_b0")
    monkeypatch.setitem(EMBEDDED, "efficientnet_lite0", known)
    with pytest.raises(BackboneError, match=r"timm .* is not supported"):
        load_backbone("efficientnet_lite0")
