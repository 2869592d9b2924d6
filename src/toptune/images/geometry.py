"""How an image is cut and resized to a network's input: timm's evaluation transform as arithmetic.

timm resizes the whole image and then takes the central h x w window. Both steps are one linear map,
so here the window is traced back to a box in the image and only that box is resized.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Geometry:
    """The spatial half of a network's preprocessing; the names and meanings are timm's.

    Attributes
    ----------
    size : tuple of int
        Height and width of the network's input, pixels.
    crop_pct : float
        The part of the resized image that the network sees, along each axis; in (0, 1].
    crop_mode : {"center", "squash", "border"}
        Resize to ``floor(size / crop_pct)``: the short side ("center"), both sides and so change
        the aspect ratio ("squash"), or the long side ("border"). The central window of `size` is
        then cut out; in "border" what the image does not cover is filled.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"}
        The resampling filter.
    fill : tuple of int
        Red, green and blue of the filling, 0 to 255. timm takes ``round(255 * mean)`` of the
        network's normalisation; the default is that of ImageNet.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> Geometry(size=(224, 224), crop_pct=0.875).resized(height=480, width=640)
    (256, 341)
    >>> Geometry(size=(224, 224), crop_mode="fit")
    Traceback (most recent call last):
        ...
    ValueError: crop_mode must be one of center, squash, border, got 'fit'
    """

    size: tuple[int, int]
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    fill: tuple[int, int, int] = (124, 116, 104)

    def __post_init__(self) -> None:
        if len(self.size) != 2 or any(s != int(s) or s < 1 for s in self.size):
            raise ValueError(f"size must be two positive whole numbers, got {self.size!r}")
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], got {self.crop_pct!r}")
        for name, known in (("crop_mode", CROP_MODES), ("interpolation", INTERPOLATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if len(self.fill) != 3 or any(f != int(f) or not 0 <= f <= 255 for f in self.fill):
            raise ValueError(f"fill must be three whole numbers in 0..255, got {self.fill!r}")
        object.__setattr__(self, "fill", tuple(int(f) for f in self.fill))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, pixels, that a whole image of `height` x `width` is resized to."""
        goal_h, goal_w = (math.floor(s / self.crop_pct) for s in self.size)
        if self.crop_mode == "squash":
            return goal_h, goal_w
        if self.crop_mode == "center" and goal_h == goal_w:
            # timm has torchvision do the square case, and torchvision rounds down.
            if width <= height:
                return goal_h * height // width, goal_h
            return goal_h, goal_h * width // height
        side = min if self.crop_mode == "center" else max
        ratio = side(height / goal_h, width / goal_w)
        # At least one pixel: "border" would make nothing of an image that is one pixel high.
        return max(1, round(height / ratio)), max(1, round(width / ratio))


@dataclass(frozen=True)
class Window:
    """Which box of an image becomes which part of the output.

    Attributes
    ----------
    box : tuple of float
        Left, upper, right, lower in pixels of the image.
    size : tuple of int
        Width and height, pixels, that the box is resized to.
    offset : tuple of int
        Left and upper edge of that part in the output; (0, 0) where it covers the output.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    offset: tuple[int, int]


def window_of(geometry: Geometry, height: int, width: int) -> Window:
    """Trace the output of `geometry` back to an upright image of `height` x `width` pixels."""
    resized_h, resized_w = geometry.resized(height, width)
    out_h, out_w = geometry.size
    left, right, x = _axis(width, resized_w, out_w)
    upper, lower, y = _axis(height, resized_h, out_h)
    return Window(
        (left, upper, right, lower), (min(resized_w, out_w), min(resized_h, out_h)), (x, y)
    )


def _axis(length: int, resized: int, out: int) -> tuple[float, float, int]:
    """Along one axis: start and end of the box in the image, and its offset in the output."""
    if resized < out:
        return 0.0, float(length), (out - resized) // 2
    start = round((resized - out) / 2)
    # A product of whole numbers before the division: the end is exactly `length` at the far edge.
    return start * length / resized, (start + out) * length / resized, 0
