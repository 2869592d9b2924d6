"""Pictures of a face somewhere on gravel."""

from __future__ import annotations

import numpy as np

SIDE = 160


def scene(backdrop: np.ndarray, face: np.ndarray, row: int, column: int) -> np.ndarray:
    """A photograph of a face, 64 pixels wide, on a photograph of gravel."""
    picture = backdrop.copy()
    picture[row : row + 64, column : column + 64] = face
    return picture
