"""Every pixel type that a file, a Pillow image or an array may come with."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from toptune.images import Geometry, UnreadableImage, decode

G64 = Geometry((64, 64))
Encode = Callable[..., bytes]


def assert_close(pixels: np.ndarray, expected: np.ndarray, *, levels: float = 1.0) -> None:
    """Assert a maximal difference in grey levels."""
    assert np.abs(pixels.astype(int) - expected).max() <= levels


@pytest.fixture(scope="module")
def grey(chelsea: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(chelsea).convert("L"))


def test_decode_grey_has_equal_channels(grey: np.ndarray, encode: Encode) -> None:
    pixels = decode(encode(grey, "PNG"), G64)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert_close(pixels, decode(np.repeat(grey[..., None], 3, axis=2), G64), levels=0)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_decode_sixteen_bits_scales_full_range(
    grey: np.ndarray, encode: Encode, format: str
) -> None:
    deep = grey.astype(np.uint16) * 257  # 255 -> 65535
    assert_close(decode(encode(deep, format), G64), decode(grey, G64))


def test_decode_sixteen_bits_other_byte_order_is_equal(grey: np.ndarray) -> None:
    deep = (grey.astype(np.uint16) * 257).astype(">u2")
    height, width = grey.shape
    image = Image.frombytes("I;16B", (width, height), deep.tobytes())
    assert_close(decode(image, G64), decode(grey, G64))
    assert_close(decode(deep, G64), decode(grey, G64))


def test_decode_32_bit_integers_hold_sixteen_bits(grey: np.ndarray) -> None:
    assert_close(decode(Image.fromarray(grey.astype(np.int32) * 257), G64), decode(grey, G64))
    for outside in (-1, 65536):
        with pytest.raises(UnreadableImage, match=r"must lie in 0\.\.65535, found"):
            decode(Image.fromarray(np.array([[5, outside]], dtype=np.int32)), G64)


def test_decode_floats_outside_unit_interval_raise(grey: np.ndarray, encode: Encode) -> None:
    unit = (grey / 255).astype(np.float32)
    assert_close(decode(encode(unit, "TIFF"), G64), decode(grey, G64))
    for outside in (-0.1, 1.1, 200.0, float("nan"), float("inf")):
        unit[3, 4] = outside
        with pytest.raises(UnreadableImage, match=r"float pixels must lie in 0\.\.1, found"):
            decode(encode(unit, "TIFF"), G64)


def test_decode_one_bit_is_averaged(grey: np.ndarray, encode: Encode) -> None:
    image = Image.fromarray(grey).convert("1")
    pixels = decode(encode(image, "PNG"), G64)
    assert_close(pixels, decode(image.convert("L"), G64), levels=0)
    assert len(np.unique(pixels)) > 2


def test_decode_palette_is_applied_before_resizing(chelsea: np.ndarray, encode: Encode) -> None:
    image = Image.fromarray(chelsea).quantize(64)
    assert_close(decode(encode(image, "PNG"), G64), decode(image.convert("RGB"), G64), levels=0)


def half_transparent(mode: str) -> Image.Image:
    """Left half opaque and dark, right half transparent and, underneath, black."""
    image = Image.new("RGBA", (64, 64), (10, 20, 30, 255))
    image.paste((0, 0, 0, 0), (32, 0, 64, 64))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [(mode, format) for mode in ("RGBA", "LA") for format in ("PNG", "WEBP", "TIFF", None)]
    + [("P", "PNG"), ("P", "WEBP"), ("P", None), ("PA", None)],
)
def test_decode_transparency_shows_white(encode: Encode, mode: str, format: str | None) -> None:
    image = half_transparent(mode)
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = decode(encode(image, format, **options) if format else image, Geometry((64, 64), 1.0))
    np.testing.assert_array_equal(pixels[:, 40:], 255)
    dark = [18, 18, 18] if mode == "LA" else [10, 20, 30]
    assert_close(pixels[:, :24], np.broadcast_to(dark, (64, 24, 3)), levels=3)


def test_decode_transparent_colours_do_not_bleed() -> None:
    image = half_transparent("RGBA")
    pixels = decode(image, Geometry((16, 16), 1.0))
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image)
    # Bicubic resampling overshoots at the edge, and opacity is cut off where colour is not.
    assert_close(pixels, decode(opaque.convert("RGB"), Geometry((16, 16), 1.0)), levels=4)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (1, 2, 3)), ("L", 7), ("1", 0)])
def test_decode_transparent_colour_key_is_white(
    encode: Encode, mode: str, colour: int | tuple[int, ...]
) -> None:
    data = encode(Image.new(mode, (20, 20), colour), "PNG", transparency=colour)
    np.testing.assert_array_equal(decode(data, G64), 255)


def test_decode_palette_transparent_entry_is_white(encode: Encode) -> None:
    image = Image.new("P", (20, 20), 3)
    image.putpalette([0, 0, 0] * 4)
    np.testing.assert_array_equal(decode(encode(image, "PNG", transparency=3), G64), 255)
    np.testing.assert_array_equal(decode(encode(image, "GIF", transparency=3), G64), 255)


def test_decode_cmyk_jpeg_is_rgb(chelsea: np.ndarray, encode: Encode) -> None:
    data = encode(Image.fromarray(chelsea).convert("CMYK"), "JPEG", quality=95)
    pixels = decode(data, G64).astype(int)
    assert np.abs(pixels - decode(chelsea, G64)).mean() < 3


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB"])
def test_decode_other_colour_spaces_are_rgb(chelsea: np.ndarray, mode: str) -> None:
    image = Image.fromarray(chelsea)
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
        assert converted is not None
    else:
        converted = image.convert(mode)
    assert np.abs(decode(converted, G64).astype(int) - decode(chelsea, G64)).mean() < 3


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_decode_several_frames_takes_the_first(encode: Encode, format: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    np.testing.assert_array_equal(decode(data, G64), np.full((64, 64, 3), [255, 0, 0]))


def test_decode_mpo_takes_first_jpeg(chelsea: np.ndarray, encode: Encode) -> None:
    first, second = Image.fromarray(chelsea), Image.new("RGB", (451, 300))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data, G64), decode(encode(first, "JPEG"), G64))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_decode_one_pixel_fills_output(encode: Encode, format: str) -> None:
    data = encode(Image.new("RGB", (1, 1), (255, 255, 255)), format)
    assert_close(decode(data, G64), np.full((64, 64, 3), 255))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "bool"])
def test_decode_array_shapes_and_types_agree(channels: int | None, dtype: str) -> None:
    white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    array = np.zeros((32, 32) if channels is None else (32, 32, channels), dtype=dtype)
    array[:16] = white
    if channels == 4:
        array[..., 3] = white
    pixels = decode(array, Geometry((32, 32), 1.0))
    np.testing.assert_array_equal(pixels[:15], 255)
    np.testing.assert_array_equal(pixels[17:], 0)


def test_decode_array_fourth_channel_is_opacity() -> None:
    array = np.zeros((32, 32, 4))
    np.testing.assert_array_equal(decode(array, G64), 255)


def test_decode_array_not_contiguous_is_read(chelsea: np.ndarray) -> None:
    view = chelsea[::-1, ::2]
    np.testing.assert_array_equal(decode(view, G64), decode(view.copy(), G64))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 32, 32), dtype=np.uint8),
        np.zeros(32, dtype=np.uint8),
        np.zeros((1, 32, 32, 3), dtype=np.uint8),
        np.zeros((0, 32, 3), dtype=np.uint8),
        np.zeros((32, 32), dtype=np.int64),
        np.zeros((32, 32), dtype=complex),
        np.full((32, 32), "a"),
        np.full((32, 32), None),
    ],
)
def test_decode_array_other_type_names_shape_and_dtype(array: np.ndarray) -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(array, G64)
    assert str(array.shape) in caught.value.reason
    assert str(array.dtype) in caught.value.reason
