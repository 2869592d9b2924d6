from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from toptune.images import Geometry, decode
from toptune.images.geometry import CROP_MODES, INTERPOLATIONS, window_of

geometries = st.builds(
    Geometry,
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    crop_pct=st.floats(0.05, 1.0),
    crop_mode=st.sampled_from(CROP_MODES),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
sides = st.integers(1, 20_000)


def timm_transform(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    create_transform = pytest.importorskip("timm.data").create_transform
    transform = create_transform(
        (3, *geometry.size),
        is_training=False,
        crop_pct=geometry.crop_pct,
        crop_mode=geometry.crop_mode,
        interpolation=geometry.interpolation,
        normalize=False,
    )
    return transform(Image.fromarray(pixels)).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "hamming"])
@pytest.mark.parametrize("size", [(224, 224), (97, 97), (96, 160), (160, 96)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
def test_geometry_any_equals_timm_transform(
    astronaut: np.ndarray,
    chelsea: np.ndarray,
    crop_mode: str,
    interpolation: str,
    size: tuple[int, int],
    crop_pct: float,
) -> None:
    geometry = Geometry(size, crop_pct, crop_mode, interpolation)
    portrait = np.ascontiguousarray(chelsea.transpose(1, 0, 2))
    for pixels in (astronaut, chelsea, portrait, chelsea[:60, :200], chelsea[:3, :100]):
        expected = timm_transform(pixels, geometry).astype(int)
        difference = np.abs(decode(pixels, geometry) - expected)
        # Pillow resizes one axis after the other and rounds after each; which one comes first
        # depends on the box. So a pixel may differ by two roundings, and few do.
        assert difference.max() <= 2
        assert difference.mean() < 0.3


@pytest.mark.parametrize("interpolation", ["nearest", "box"])
def test_geometry_box_filters_equal_timm_except_ties(
    chelsea: np.ndarray, interpolation: str
) -> None:
    for crop_mode in CROP_MODES:
        geometry = Geometry((101, 97), 0.9, crop_mode, interpolation)
        same = decode(chelsea, geometry) == timm_transform(chelsea, geometry)
        assert same.mean() > 0.97


def test_geometry_border_fills_with_given_colour(chelsea: np.ndarray) -> None:
    pixels = decode(chelsea, Geometry((90, 90), 1.0, "border", fill=(1, 2, 3)))
    # 300 x 451 becomes 60 x 90: 15 rows above and below.
    np.testing.assert_array_equal(pixels[:15], np.broadcast_to([1, 2, 3], (15, 90, 3)))
    np.testing.assert_array_equal(pixels[75:], np.broadcast_to([1, 2, 3], (15, 90, 3)))
    assert (pixels[15:75] != [1, 2, 3]).any(axis=2).mean() > 0.99


def test_geometry_squash_keeps_whole_image() -> None:
    assert window_of(Geometry((50, 70), 1.0, "squash"), 300, 451).box == (0, 0, 451, 300)


@given(geometry=geometries, height=sides, width=sides)
def test_window_of_any_lies_in_image_and_output(
    geometry: Geometry, height: int, width: int
) -> None:
    window = window_of(geometry, height, width)
    left, upper, right, lower = window.box
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    for axis, out in enumerate((geometry.size[1], geometry.size[0])):
        assert 1 <= window.size[axis] <= out
        assert 0 <= window.offset[axis] <= out - window.size[axis]
    if geometry.crop_mode != "border":
        assert window.size == (geometry.size[1], geometry.size[0])


@given(geometry=geometries, height=sides, width=sides)
def test_window_of_center_keeps_aspect_ratio(geometry: Geometry, height: int, width: int) -> None:
    geometry = Geometry(geometry.size, geometry.crop_pct, "center")
    goal_h, goal_w = (math.floor(s / geometry.crop_pct) for s in geometry.size)
    scale = max(goal_h / height, goal_w / width)
    resized_h, resized_w = geometry.resized(height, width)
    assert abs(resized_h - height * scale) < 1
    assert abs(resized_w - width * scale) < 1


def test_geometry_size_is_stored_as_ints() -> None:
    geometry = Geometry(size=np.array([8, 9]))  # type: ignore[arg-type]
    assert geometry == Geometry((8, 9))
    assert hash(geometry) == hash(Geometry((8, 9)))
    assert all(type(s) is int for s in geometry.size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 5)}, "size must be two positive whole numbers"),
        ({"size": (5,)}, "size must be"),
        ({"size": (5.5, 5)}, "size must be"),
        ({"crop_pct": 0}, r"crop_pct must be in \(0, 1\], got 0"),
        ({"crop_pct": 1.1}, "crop_pct"),
        ({"crop_pct": float("nan")}, "crop_pct"),
        ({"crop_mode": "middle"}, "crop_mode must be one of center, squash, border"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, .*, got 'cubic'"),
        ({"fill": (0, 0, 256)}, "fill must be"),
        ({"fill": (0, 0)}, "fill must be"),
    ],
)
def test_geometry_bad_value_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Geometry(**{"size": (8, 8), **options})  # type: ignore[arg-type]
