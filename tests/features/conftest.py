"""Networks for the tests of this folder: the embedded one, and a tiny one with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from features_helpers import save_tiny
from PIL import Image

from toptune.features import Backbone, load_backbone


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """On a busy machine PyTorch's threads wait for each other five times longer than they work."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def tiny(tiny_file: Path) -> Backbone:
    return load_backbone(f"test_resnet={tiny_file}")


@pytest.fixture(scope="session")
def lite0() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the networks that tests convert on their way: it takes seconds each."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Colour photographs, uint8."""
    from skimage import data

    return [getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]


@pytest.fixture
def photo_files(tmp_path: Path, photographs: list[np.ndarray]) -> Path:
    """A folder of 24 different JPEG crops of the photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(24):
        image = Image.fromarray(photographs[k % 4])
        left, top = rng.integers(0, 150, 2)
        crop = image.crop((left, top, left + 140, top + 120))
        crop.save(folder / f"{k:02d}.jpg", quality=90)
    return folder
