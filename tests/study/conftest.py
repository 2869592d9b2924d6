"""Small data sets under names of the registry, and studies on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

#: Names of the registry: one with its own split, one that is split at random.
OWN, RANDOM = "monkeys10", "animals3"
CLASSES = ("bright", "dark", "striped")


def draw(folder: Path, n: int, first: int) -> None:
    """Write `n` images of each of three classes that nothing should confuse."""
    for k, kind in enumerate(CLASSES):
        (folder / kind).mkdir(parents=True)
        for i in range(first, first + n):
            rng = np.random.default_rng(100 * i + k)
            pixels = rng.integers(0, 90, size=(40, 48, 3), dtype=np.uint8)
            pixels += 160 * (kind == "bright")
            if kind == "striped":
                pixels[:, ::4] += 160
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")


@pytest.fixture(scope="session")
def study_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all of these tests: converting the network takes seconds."""
    return tmp_path_factory.mktemp("study-cache")


@pytest.fixture
def data(tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of local copies, with two data sets."""
    folder = tmp_path / "data"
    draw(folder / OWN / "train", 8, 0)
    draw(folder / OWN / "val", 3, 50)
    draw(folder / RANDOM, 10, 0)
    monkeypatch.setenv("TOPTUNE_DATA", str(folder))
    monkeypatch.setenv("TOPTUNE_CACHE", str(study_cache))
    return folder


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a plan into a new folder and return the folder."""

    def make(*parts: dict[str, object], name: str = "study") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "plan.yaml").write_text(yaml.safe_dump({"name": name, "parts": list(parts)}))
        return folder

    return make
