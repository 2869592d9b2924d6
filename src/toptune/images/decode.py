"""One image file, Pillow image or array -> the pixels a network is given.

The order of work is chosen for speed: decode a large JPEG at a fraction of its size, resize only
the box that is seen, and change colour mode and orientation on the small result.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from toptune.images.geometry import Geometry, Window, window_of
from toptune.images.reading import LoadedImage, UnreadableImage, exif_orientation

# Tried in this order. A closed list keeps Pillow from handing a file to a rarely used parser, or
# to an outside program (EPS), because of what a file called .jpg happens to contain.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")

# A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves this many times the pixels that the resize
# needs along each axis. At 1 the features of natural images fell to cosine 0.988 of those from the
# full decode (the scaled inverse transform is a blunter filter than the resize); from 1.4 on they
# stayed above 0.994.
DRAFT_MARGIN = 1.4

# Pillow first averages whole blocks of pixels where that leaves this many times the pixels needed.
# Four times faster from a short side of 6 times the target on, and within 0.2 grey levels of 255.
REDUCING_GAP = 3.0

# What Pillow's parsers raise on damaged files; mutated files of every format were tried.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
)

# EXIF orientation -> what makes the picture upright, and the same in the upright picture's own
# coordinates: whether x, then y is mirrored, and whether the axes are swapped.
_Turn = tuple[Image.Transpose, bool, bool, bool]
_TURNS: dict[int, _Turn] = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False, False),
    3: (Image.Transpose.ROTATE_180, True, True, False),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True, False),
    5: (Image.Transpose.TRANSPOSE, False, False, True),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, False, True, True),
}


def decode(source: LoadedImage, geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Decode, turn upright, crop and resize one image.

    The result is that of timm's evaluation transform up to rounding, except that a JPEG of at least
    2.8 times the resized size is decoded at a fraction of its own size. Safe to call from many
    threads; Pillow lets go of the interpreter lock for most of the work.

    Parameters
    ----------
    source : bytes, PIL.Image.Image or ndarray
        The bytes of a JPEG, PNG, GIF, BMP, WebP, TIFF or PNM file, of which the first frame is
        taken; a Pillow image; or an array of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) of
        uint8, uint16 (65535 is white), bool, or floats in 0..1. Transparent parts become white.
    geometry : Geometry
        Size of the output and how the image is fitted to it.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Red, green, blue; C-contiguous and writable.

    Raises
    ------
    UnreadableImage
        If the image is damaged, of no known format or pixel type, or declares more than twice
        ``PIL.Image.MAX_IMAGE_PIXELS`` pixels.

    Examples
    --------
    >>> import numpy as np
    >>> decode(np.full((48, 64), 0.5), Geometry(size=(32, 32)))[0, 0]
    array([128, 128, 128], dtype=uint8)
    """
    return _decode(source, lambda height, width: geometry)


def decode_within(source: LoadedImage, longest: int) -> npt.NDArray[np.uint8]:
    """Decode all of one image, turned upright, for people to look at.

    Parameters
    ----------
    source : bytes, PIL.Image.Image or ndarray
        As for `decode`.
    longest : int
        Pixels that the longer side has at most; smaller images stay as they are.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    UnreadableImage
        As for `decode`.

    Examples
    --------
    >>> import numpy as np
    >>> decode_within(np.zeros((400, 200)), 100).shape
    (100, 50, 3)
    """

    def fit(height: int, width: int) -> Geometry:
        ratio = min(1.0, longest / max(height, width))
        size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
        return Geometry(size=size, crop_pct=1.0, crop_mode="squash")

    return _decode(source, fit)


#: What geometry an upright image of a height and width is given.
_Fit = Callable[[int, int], Geometry]


def _decode(source: LoadedImage, fit: _Fit) -> npt.NDArray[np.uint8]:
    try:
        if isinstance(source, bytes):
            return _decode_bytes(source, fit)
        if isinstance(source, Image.Image):
            return _render(source, fit)
        if isinstance(source, np.ndarray):
            return _render(_image_of_array(source), fit)
    except UnreadableImage:
        raise
    except _FAULTS as error:
        raise UnreadableImage(_reason(error)) from error
    raise TypeError(f"source must be bytes, a Pillow image or an array, got {type(source)}")


def _decode_bytes(data: bytes, fit: _Fit) -> npt.NDArray[np.uint8]:
    if not data:
        raise UnreadableImage("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _render(image, fit, owned=True)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow only warns up to twice its limit; the warning arrives here if it is made an error.
        raise UnreadableImage(_bomb_reason(data, error)) from error


def _render(image: Image.Image, fit: _Fit, *, owned: bool = False) -> npt.NDArray[np.uint8]:
    """Pixels of `image` under the geometry that fits it; `owned`: it may be decoded smaller."""
    draft = owned and isinstance(image, JpegImagePlugin.JpegImageFile)
    if not draft:
        image.load()  # Before the orientation is read: Pillow itself turns a TIFF on loading it.
    turn = _TURNS.get(exif_orientation(image))
    width, height = image.size
    if turn is not None and turn[3]:
        width, height = height, width
    geometry = fit(height, width)
    window = window_of(geometry, height, width)
    box, size = _unturned(window, (width, height), turn)
    if draft:
        box = _shrink_decoding(image, box, size)
    resample = Image.Resampling[geometry.interpolation.upper()]
    small = _resizable(image).resize(size, resample, box=box, reducing_gap=REDUCING_GAP)
    if turn is not None:
        small = small.transpose(turn[0])
    small = _opaque(small)
    if small.size != (geometry.size[1], geometry.size[0]):
        canvas = Image.new("RGB", (geometry.size[1], geometry.size[0]), geometry.fill)
        canvas.paste(small, window.offset)
        small = canvas
    return np.array(small)


_Box = tuple[float, float, float, float]


def _unturned(
    window: Window,
    upright: tuple[int, int],  # width, height
    turn: _Turn | None,
) -> tuple[_Box, tuple[int, int]]:
    """Box and size of `window` in the coordinates of the image as it is stored."""
    if turn is None:
        return window.box, window.size
    _, mirror_x, mirror_y, swap = turn
    (left, upper, right, lower), (width, height) = window.box, upright
    if mirror_x:
        left, right = width - right, width - left
    if mirror_y:
        upper, lower = height - lower, height - upper
    if swap:
        return (upper, left, lower, right), (window.size[1], window.size[0])
    return (left, upper, right, lower), window.size


def _shrink_decoding(image: Image.Image, box: _Box, size: tuple[int, int]) -> _Box:
    """Have a JPEG decoded as small as is good enough; return `box` in its new coordinates."""
    width, height = image.size
    least_w = math.ceil(width * size[0] / (box[2] - box[0]) * DRAFT_MARGIN)
    least_h = math.ceil(height * size[1] / (box[3] - box[1]) * DRAFT_MARGIN)
    drafted = image.draft(None, (least_w, least_h))
    if drafted is None:
        return box
    # The drafted size is rounded up; the box it returns is not, and gives the exact scale.
    scale = drafted[1][2] / width
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _resizable(image: Image.Image) -> Image.Image:
    """`image` in a mode whose values may be averaged: L, LA, RGB or RGBA."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_uint8(_wide_values(image)))
    if image.mode in ("L", "RGB", "LA", "RGBA") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _wide_values(image: Image.Image) -> npt.NDArray[Any]:
    values = np.asarray(image)
    if image.mode != "I":
        return values
    # Pillow keeps some 16-bit files as 32-bit integers.
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnreadableImage(f"whole-number pixels must lie in 0..65535, found {low}..{high}")
    return values.astype(np.uint16)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _image_of_array(array: npt.NDArray[Any]) -> Image.Image:
    known_type = array.dtype.kind in "bf" or array.dtype.newbyteorder("=") in (np.uint8, np.uint16)
    known_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not known_type or not known_shape or array.size == 0:
        raise UnreadableImage(
            f"array of shape {array.shape} and dtype {array.dtype}: give (h, w), (h, w, 1), "
            "(h, w, 3) or (h, w, 4) of uint8, uint16, bool, or floats in 0..1"
        )
    pixels = _to_uint8(array)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _to_uint8(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale the range of the type, or 0..1 for floats, to 0..255."""
    if values.dtype == np.uint8:
        scaled = values
    elif values.dtype == np.bool_:
        scaled = values * np.uint8(255)
    elif values.dtype.kind == "u":
        scaled = np.rint(values / np.float32(257))
    else:
        low, high = float(values.min()), float(values.max())
        slack = 1e-6  # what float32 arithmetic on values in 0..1 may add
        if not (-slack <= low and high <= 1 + slack):  # so written, NaN fails too
            raise UnreadableImage(f"float pixels must lie in 0..1, found {low:g}..{high:g}")
        scaled = np.rint(np.clip(values, 0, 1) * 255)
    pixels: npt.NDArray[np.uint8] = scaled.astype(np.uint8, copy=False)
    return pixels


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its text holds an address in memory
        return "not an image, or its header is damaged"
    return f"{'truncated' if 'truncated' in text.lower() else 'damaged'}: {text}"


def _bomb_reason(data: bytes, error: Exception) -> str:
    limit = int(2 * (Image.MAX_IMAGE_PIXELS or 0))
    size = _declared_size(data)
    if size is None:
        return str(error)
    return (
        f"{size[0]} x {size[1]} = {size[0] * size[1]} pixels is over the limit of {limit} "
        "(Pillow's decompression bomb guard; --max-pixels or PIL.Image.MAX_IMAGE_PIXELS raises it)"
    )


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a file that Pillow refuses; its error tells only their product."""
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is not None and accept is not None and accept(data[:16]) is True:
            try:
                size: tuple[int, int] = factory(io.BytesIO(data), "").size
            except (Image.DecompressionBombError, *_FAULTS):
                return None
            return size
    return None
