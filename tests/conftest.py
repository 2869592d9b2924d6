"""Small images on disk and in memory, for all tests."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# Before anything imports the hub's client, which reads them once: no test may reach for the
# network, find what the user has fetched, or keep anything.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="toptune-hub-")
# The tests' matrices are small: a second thread saves nothing, and where the machine is busy the
# threads wait for each other, twenty times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF", ".pgm": "PPM"}


def encode_image(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """The bytes of a file in `format`, a name that Pillow knows."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def synthetic_image(name: str, *, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """An image of `size` (width, height) whose pixels depend on `name` alone."""
    generator = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape")))
    coarse = generator.integers(0, 256, size=(3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encode_image


@pytest.fixture
def image_tree(tmp_path: Path) -> Callable[..., Path]:
    """Write the images named, such as "cat/1.jpg", below a new folder; return the folder."""

    def write(names: Iterable[str], *, root: str = "images") -> Path:
        folder = tmp_path / root
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            suffix = path.suffix.lower()
            path.write_bytes(
                encode_image(synthetic_image(name), _FORMATS.get(suffix, suffix[1:].upper()))
            )
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """timm's smallest residual network with random weights, as the name of a backbone."""
    import timm
    import torch
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet").state_dict(), path)
    return f"test_resnet={path}"


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A portrait photograph, uint8, (512, 512, 3)."""
    from skimage import data

    pixels: np.ndarray = data.astronaut()
    return pixels


@pytest.fixture(scope="session")
def chelsea() -> np.ndarray:
    """A photograph of a cat, uint8, (300, 451, 3)."""
    from skimage import data

    pixels: np.ndarray = data.chelsea()
    return pixels
