"""A model that tells a cat from an astronaut, wherever they are in the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explain_helpers import SIDE, scene
from toptune import TopTuner


@pytest.fixture(scope="session")
def faces(astronaut: np.ndarray, chelsea: np.ndarray) -> dict[str, np.ndarray]:
    cuts = {"astronaut": astronaut[20:220, 120:320], "cat": chelsea[30:230, 120:320]}
    return {name: np.asarray(Image.fromarray(cut).resize((64, 64))) for name, cut in cuts.items()}


@pytest.fixture(scope="session")
def gravel() -> np.ndarray:
    from skimage import data

    grey: np.ndarray = data.gravel()
    return np.repeat(grey[:SIDE, :SIDE, None], 3, axis=2)


@pytest.fixture(scope="session")
def face_files(
    tmp_path_factory: pytest.TempPathFactory, faces: dict[str, np.ndarray], gravel: np.ndarray
) -> Path:
    """Twelve pictures of each face, at places drawn at random."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for name, face in faces.items():
        (root / name).mkdir()
        for k in range(12):
            place = rng.integers(0, SIDE - 64, 2)
            Image.fromarray(scene(gravel, face, *place)).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="session")
def tuner(face_files: Path, tiny_name: str) -> TopTuner:
    return TopTuner(backbone=tiny_name, layers="last", cache=None).fit(face_files)
