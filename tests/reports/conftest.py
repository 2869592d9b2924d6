"""Handwritten digits as files, some with a wrong label, and a model of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from toptune import TopTuner
from toptune.reports.model import Report, build_report


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noughts, ones and fours: 16 of each to train on, two of them in a wrong folder; 8 to test."""
    root = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for digit in (0, 1, 4):
        pictures = digits.images[digits.target == digit]
        for split, first, end in (("train", 0, 16), ("test", 16, 24)):
            for k in range(first, end):
                label = {(0, 0): 1, (1, 1): 0}.get((digit, k), digit)
                name = f"{k:02d}.png" if label != digit or k > 1 else f"own{k}.png"
                folder = root / split / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.round(pictures[k] * 255 / 16).astype(np.uint8)
                Image.fromarray(pixels).resize((48, 48)).save(folder / name)
    return root


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all of these tests: converting the network takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tuner(digit_files: Path, tiny_name: str, kept: Path) -> TopTuner:
    return TopTuner(backbone=tiny_name, layers="last", cache=kept).fit(digit_files)


@pytest.fixture(scope="session")
def left_out(tuner: TopTuner) -> Report:
    return build_report(tuner)


@pytest.fixture(scope="session")
def on_data(tuner: TopTuner, digit_files: Path) -> Report:
    return build_report(tuner, digit_files)
