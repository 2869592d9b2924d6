"""Pictures inside a page, as data of their own."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toptune.images import ImageSource, UnreadableImage, decode_within, read_source

#: Longer side of a thumbnail, pixels; it is shown at about half of that.
THUMBNAIL = 208

# Pictures smaller than this keep every pixel.
_SMALL = 64


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return pixels of shape (h, w, 3) as what the src of an image may be.

    Examples
    --------
    >>> import numpy as np
    >>> data_uri(np.zeros((2, 2, 3), dtype=np.uint8))[:22]
    'data:image/png;base64,'
    """
    kind = "PNG" if max(pixels.shape) < _SMALL else "JPEG"
    buffer = io.BytesIO()
    options = {} if kind == "PNG" else {"quality": 85}
    Image.fromarray(pixels).save(buffer, kind, **options)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"


def thumbnail(source: ImageSource | None) -> str | None:
    """Return a small copy of an image for the src of an image; None where it cannot be read."""
    if source is None:
        return None
    try:
        return data_uri(decode_within(read_source(source), THUMBNAIL))
    except UnreadableImage:
        return None
