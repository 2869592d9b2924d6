"""Which parts of an image a score depends on: cover one after the other and score again.

Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks. It takes no gradient,
so it works with whatever runs the network. What is covered takes the mean colour of the image.
Letters: g cells along each side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toptune.images import Geometry
from toptune.images.geometry import window_of

#: Most cells along a side: g^2 + 1 images go through the network at once.
MOST_CELLS = 32


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What covering each cell of a grid takes from a score.

    Attributes
    ----------
    drops : ndarray of shape (g, g)
        Score of the image less its score with the cell covered; the first row is the top. Above
        zero where the cell speaks for the class, below zero where it speaks against it.
    box : tuple of float
        Left, upper, right and lower edge of the grid, in widths and heights of the picture: what
        the network sees of it is (0, 0, 1, 1) if that is all.
    """

    drops: NDArray[np.float64]
    box: tuple[float, float, float, float]


def cell_bounds(length: int, cells: int) -> NDArray[np.intp]:  # (cells + 1,)
    """Edges of the cells along a side of so many pixels."""
    edges: NDArray[np.intp] = np.round(np.linspace(0, length, cells + 1)).astype(np.intp)
    return edges


def covered(
    pixels: NDArray[np.uint8],
    cells: int,
) -> NDArray[np.uint8]:
    """Return an image as it is, and with each cell of a grid covered.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The image as the network is given it.
    cells : int
        Cells along each side.

    Returns
    -------
    ndarray of uint8, shape (1 + cells^2, h, w, 3)
        First the image itself, then row by row.

    Raises
    ------
    ValueError
        If `cells` is out of its range, 1 to 32, or the image has fewer pixels along a side.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((2, 2, 3), dtype=np.uint8)
    >>> image[0, 0] = 200
    >>> covered(image, 2)[1, :, :, 0]
    array([[50,  0],
           [ 0,  0]], dtype=uint8)
    """
    height, width, _ = pixels.shape
    if not 1 <= cells <= min(MOST_CELLS, height, width):
        most = min(MOST_CELLS, height, width)
        raise ValueError(f"cells must be between 1 and {most}, got {cells}")
    colour = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
    rows, columns = cell_bounds(height, cells), cell_bounds(width, cells)
    out = np.repeat(pixels[None], 1 + cells * cells, axis=0)
    for i in range(cells):
        for j in range(cells):
            cell = out[1 + i * cells + j, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            cell[:] = colour
    return out


def score_drops(
    scores: NDArray[np.float64],  # (1 + g^2,), of what `covered` returned
) -> NDArray[np.float64]:  # (g, g)
    """Return what each cell takes from the score of the whole image when it is covered."""
    cells = round((len(scores) - 1) ** 0.5)
    drops: NDArray[np.float64] = (scores[0] - scores[1:]).reshape(cells, cells)
    return drops


def seen_part(geometry: Geometry, height: int, width: int) -> tuple[float, float, float, float]:
    """Edges of the network's input in an upright image: left, upper, right, lower.

    In widths and heights of the image; beyond it where the input has a border around the image.
    """
    window = window_of(geometry, height, width)
    (left, upper, right, lower), (across, down) = window.box, window.size
    x, y = (right - left) / across, (lower - upper) / down  # image pixels for one of the input
    left, upper = left - x * window.offset[0], upper - y * window.offset[1]
    out_height, out_width = geometry.size
    return (
        left / width,
        upper / height,
        (left + x * out_width) / width,
        (upper + y * out_height) / height,
    )
