"""Handwritten digits as images, and what may be said of them."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

N = 80
DIGITS = load_digits()
PICTURES = (np.kron(DIGITS.images[:N], np.ones((4, 4))) / 16).astype(np.float32)  # 32 x 32
MORE = (np.kron(DIGITS.images[N : 2 * N], np.ones((4, 4))) / 16).astype(np.float32)


def ink(pictures: np.ndarray) -> list[float]:
    """Mean brightness of each picture, in percent."""
    return [float(100 * picture.mean()) for picture in pictures]


def names(digits: np.ndarray) -> list[list[str]]:
    """What may be said of each digit; of 7 nothing."""
    words = {"even": (0, 2, 4, 6, 8), "round": (0, 3, 6, 8, 9), "small": (0, 1, 2)}
    return [[word for word, those in words.items() if d in those] for d in digits.tolist()]
