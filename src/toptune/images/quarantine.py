"""What becomes of images that cannot be read: they are listed with the reason, or are an error."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from toptune.errors import DataError, DataWarning
from toptune.images.image_set import ImageSet, Quarantined
from toptune.images.labels import as_text


def strict_error(item: Quarantined) -> DataError:
    """Return the error that an unreadable image is in strict mode."""
    return DataError(f"{item.id}: {item.reason} (unreadable images are errors in strict mode)")


def set_aside(
    images: ImageSet, faults: Mapping[int, str]
) -> tuple[ImageSet, tuple[Quarantined, ...]]:
    """Part images into those that could be read and those that could not.

    Parameters
    ----------
    images : ImageSet
        All of them.
    faults : mapping
        Reason by position.

    Returns
    -------
    kept : ImageSet
    quarantined : tuple of Quarantined
        Those of the listing, then those of `faults`.

    Raises
    ------
    DataError
        If none could be read.
    """
    found = tuple(Quarantined(images.ids[i], faults[i]) for i in sorted(faults))
    quarantined = images.quarantined + found
    if len(faults) == len(images):
        first = quarantined[0]
        raise DataError(
            f"none of the {len(quarantined)} images can be read; the first, {first.id!r}: "
            f"{first.reason}"
        )
    if faults:
        images = images.subset([i for i in range(len(images)) if i not in faults])
    return images, quarantined


def warn_set_aside(
    before: NDArray[Any] | None,
    after: NDArray[Any] | None,
    quarantined: tuple[Quarantined, ...],
    *,
    stacklevel: int,
) -> None:
    """Warn of images that were set aside, and of classes that lost all of theirs.

    Parameters
    ----------
    before, after : ndarray or None
        Labels of all images, and of those that could be read.
    quarantined : tuple of Quarantined
        What was set aside.
    stacklevel : int
        As for `warnings.warn`, seen from the caller.
    """
    if quarantined:
        first = quarantined[0]
        n = len(quarantined)
        warnings.warn(
            f"{n} {'image' if n == 1 else 'images'} could not be read and "
            f"{'is' if n == 1 else 'are'} left out; the first, {first.id}: {first.reason}",
            DataWarning,
            stacklevel=stacklevel + 1,
        )
    if before is not None and after is not None:
        lost = sorted(set(as_text(before)) - set(as_text(after)))
        if lost:
            warnings.warn(
                f"classes without one readable image are left out: {', '.join(lost)}",
                DataWarning,
                stacklevel=stacklevel + 1,
            )
