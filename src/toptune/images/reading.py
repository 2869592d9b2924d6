"""Read what an image is given as: a path, the bytes of a file, a Pillow image or an array."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from toptune.errors import DataError

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
"""A path, the bytes of an image file, a Pillow image or an array of pixels."""

LoadedImage: TypeAlias = bytes | Image.Image | npt.NDArray[Any]
"""What `read_source` returns: an `ImageSource` that is no longer a path."""


class UnreadableImage(DataError):
    """One image cannot be read or decoded.

    Attributes
    ----------
    reason : str
        Why, in one line without the path, so that equal faults count as equal in a report.
    """

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)


def printable(path: str) -> str:
    r"""Return `path` with bytes that are not UTF-8 written as ``\xNN``, fit to be stored."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_fault(path: Path) -> str | None:
    """Return the reason why `path` is unreadable, or None."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "broken symbolic link" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:
        return _os_reason(error)
    if stat.S_ISDIR(mode):
        return "is a directory"
    # Reading a named pipe or a device could wait for ever.
    return None if stat.S_ISREG(mode) else "not a regular file"


def _os_reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"  # without the path that str(error) names
    return f"cannot be read: {error}"


def read_source(source: ImageSource) -> LoadedImage:
    """Read the file if `source` is a path; return anything else unchanged.

    Parameters
    ----------
    source : ImageSource
        A path, bytes, a Pillow image or an array.

    Returns
    -------
    bytes, PIL.Image.Image or ndarray
        For a path, the file's bytes, read once.

    Raises
    ------
    UnreadableImage
        If the file is missing, empty, a broken link, a folder, or may not be read.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    fault = file_fault(path)
    if fault is not None:
        raise UnreadableImage(fault)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(_os_reason(error)) from error
    if not data:
        raise UnreadableImage("empty file")
    return data


def content_hash(source: ImageSource) -> bytes:
    """Return a digest that changes whenever the decoded pixels could.

    Parameters
    ----------
    source : ImageSource
        A path is read first; the bytes of a file and the file itself have the same digest.

    Returns
    -------
    bytes
        32 bytes of SHA-256: over the file's bytes; over mode, size, palette, transparency, EXIF
        orientation and pixels of a Pillow image; over dtype, shape and values of an array.

    Raises
    ------
    UnreadableImage
        If a path or a Pillow image cannot be read, or an array holds Python objects.

    Examples
    --------
    >>> content_hash(b"the bytes of a file").hex()[:16]
    '0f599b9451f725bf'
    """
    loaded = read_source(source)
    if isinstance(loaded, bytes):
        return hashlib.sha256(loaded).digest()
    if isinstance(loaded, Image.Image):
        return _hash_image(loaded)
    if loaded.dtype.hasobject:
        raise UnreadableImage(f"array of shape {loaded.shape} and dtype {loaded.dtype}")
    digest = hashlib.sha256(f"array {loaded.dtype.str} {loaded.shape}\n".encode())
    digest.update(np.ascontiguousarray(loaded).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _hash_image(image: Image.Image) -> bytes:
    try:
        pixels = image.tobytes()
    except (OSError, SyntaxError, ValueError) as error:  # a lazily opened file may be damaged
        raise UnreadableImage(f"damaged: {error}") from error
    palette = image.getpalette("RGBA") if image.mode in ("P", "PA") else None
    header = (
        image.mode,
        image.size,
        palette,
        image.info.get("transparency"),
        exif_orientation(image),
    )
    digest = hashlib.sha256(f"image {header}\n".encode())
    digest.update(pixels)
    return digest.digest()


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where there is none or it is nonsense."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError):
        return 1  # Damaged metadata does not spoil the pixels.
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
