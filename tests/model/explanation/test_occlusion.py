"""Covering parts of an image, and where the grid lies in the picture."""

from __future__ import annotations

import numpy as np
import pytest

from toptune.images import Geometry, decode
from toptune.model.explanation import covered, score_drops
from toptune.model.explanation.occlusion import seen_part


@pytest.mark.parametrize(("height", "width", "cells"), [(24, 24, 4), (25, 31, 3), (7, 9, 7)])
def test_every_pixel_is_covered_once(height: int, width: int, cells: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    image[0, 0] = 255
    out = covered(image, cells)
    assert out.shape == (1 + cells**2, height, width, 3)
    np.testing.assert_array_equal(out[0], image)
    colour = np.rint(image.reshape(-1, 3).mean(axis=0))
    times = np.zeros((height, width), dtype=int)
    for i in range(cells):
        for j in range(cells):
            cell = out[1 + i * cells + j]
            rows = slice(round(i * height / cells), round((i + 1) * height / cells))
            columns = slice(round(j * width / cells), round((j + 1) * width / cells))
            assert (cell[rows, columns] == colour).all()
            rest = np.ones((height, width), dtype=bool)
            rest[rows, columns] = False
            np.testing.assert_array_equal(cell[rest], image[rest])
            times += ~rest
    assert (times == 1).all()


@pytest.mark.parametrize("cells", [0, 33, 9])
def test_a_grid_that_cannot_be_is_refused(cells: int) -> None:
    with pytest.raises(ValueError, match=rf"cells must be between 1 and 8, got {cells}"):
        covered(np.zeros((8, 20, 3), dtype=np.uint8), cells)


def test_drops_are_in_the_order_of_the_cells() -> None:
    drops = score_drops(np.array([1.0, 0.5, 1.0, 2.0, 0.0]))
    np.testing.assert_array_equal(drops, [[0.5, 0.0], [-1.0, 1.0]])


def test_all_of_an_image_is_seen_or_its_middle_or_more() -> None:
    whole = Geometry(size=(32, 32), crop_pct=1.0, crop_mode="squash")
    assert seen_part(whole, 50, 80) == pytest.approx((0, 0, 1, 1))
    middle = Geometry(size=(32, 32), crop_pct=0.5, crop_mode="center")
    assert seen_part(middle, 64, 64) == pytest.approx((0.25, 0.25, 0.75, 0.75))
    border = Geometry(size=(32, 32), crop_pct=1.0, crop_mode="border")
    assert seen_part(border, 64, 128) == pytest.approx((0, -0.5, 1, 1.5))


@pytest.mark.parametrize("mode", ["squash", "center"])
def test_the_seen_part_is_what_is_decoded(mode: str) -> None:
    """A white spot that is in the seen part of a black image at (x, y) is there in the pixels."""
    geometry = Geometry(size=(40, 40), crop_pct=0.8, crop_mode=mode)
    image = np.zeros((120, 200, 3), dtype=np.uint8)
    image[58:66, 86:94] = 255
    pixels = decode(image, geometry)[..., 0].astype(float)
    y, x = np.unravel_index(pixels.argmax(), pixels.shape)
    left, upper, right, lower = seen_part(geometry, 120, 200)
    assert (left + (x + 0.5) / 40 * (right - left)) * 200 == pytest.approx(90, abs=3)
    assert (upper + (y + 0.5) / 40 * (lower - upper)) * 120 == pytest.approx(62, abs=3)
