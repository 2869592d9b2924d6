"""Images that cannot be read: they are left out and reported, or are an error."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

from toptune.errors import DataError, DataWarning
from toptune.images.image_set import ImageSet, Quarantined
from toptune.images.labels import as_text


def strict_error(item: Quarantined) -> DataError:
    """Return the error that an unreadable image is in strict mode."""
    return DataError(f"{item.id}: {item.reason} (unreadable images are errors in strict mode)")


def quarantine(images: ImageSet, faults: Mapping[int, str]) -> ImageSet:
    """Move unreadable images to `quarantined`, after those of the listing.

    Parameters
    ----------
    images : ImageSet
        All of them.
    faults : mapping of int to str
        Reason by position.

    Raises
    ------
    DataError
        If none is left.
    """
    unreadable = (Quarantined(images.ids[i], faults[i]) for i in sorted(faults))
    quarantined = (*images.quarantined, *unreadable)
    if len(faults) == len(images):
        first = quarantined[0]
        raise DataError(
            f"none of the {len(quarantined)} images can be read; the first, {first.id!r}: "
            f"{first.reason}"
        )
    rows = [i for i in range(len(images)) if i not in faults]
    return replace(images.subset(rows), quarantined=quarantined)


def warn_of_quarantine(images: ImageSet, kept: ImageSet, *, stacklevel: int) -> None:
    """Warn of images that are left out, and of classes that lost all of theirs.

    Parameters
    ----------
    images, kept : ImageSet
        All that were listed, and what `quarantine` returned.
    stacklevel : int
        As for `warnings.warn`, seen from the caller.
    """
    if not kept.quarantined:
        return
    n, first = len(kept.quarantined), kept.quarantined[0]
    messages = [
        f"{n} {'image' if n == 1 else 'images'} could not be read and "
        f"{'is' if n == 1 else 'are'} left out; the first, {first.id}: {first.reason}"
    ]
    # A number or a set may well occur once.
    if images.label_kind == "class" and images.labels is not None and kept.labels is not None:
        lost = sorted(set(as_text(images.labels)) - set(as_text(kept.labels)))
        if lost:
            messages.append(f"classes without one readable image are left out: {', '.join(lost)}")
    for message in messages:
        warnings.warn(message, DataWarning, stacklevel=stacklevel + 1)
