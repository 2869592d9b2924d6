"""Images in whatever form a user has them -> `ImageSet`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError
from toptune.images.image_set import ImageSet, ImageSource, from_arrays, group_names
from toptune.images.listing import open_images

Images: TypeAlias = str | os.PathLike[str] | Sequence[ImageSource] | NDArray[Any] | ImageSet
"""A folder or manifest, a list of images, one array of images, or an `ImageSet`."""


def labelled_images(
    images: Images,
    labels: ArrayLike | str | os.PathLike[str] | None,
    *,
    split: str | None = None,
    groups: Iterable[object] | None = None,
) -> ImageSet:
    """List images with their labels and groups.

    Parameters
    ----------
    images : Images
        A folder or manifest as for `open_images`, or images given directly.
    labels : array-like, path or None
        One label per image given directly, or one list of labels per image; for a folder, a
        manifest or nothing.
    split : str, optional
        Split of a folder or manifest.
    groups : sequence, optional
        One group per image given directly or in an `ImageSet`, whose own they replace; missing
        ones as for `from_arrays`. A manifest has them in its column ``group``.

    Returns
    -------
    ImageSet
        Its labels are text, or as they were given directly; its groups are text.

    Raises
    ------
    DataError
        If labels or groups and images do not fit each other, or the images cannot be listed.
    """
    if isinstance(images, ImageSet):
        if groups is not None:
            images = replace(images, groups=group_names(groups, images.ids))
        return images
    if isinstance(images, str | os.PathLike):
        if labels is not None and not isinstance(labels, str | os.PathLike):
            raise DataError(
                "labels for a folder must be a manifest file; for a list of labels give a list of "
                "images"
            )
        if groups is not None:
            raise DataError(
                "groups of a folder or manifest come from the column group of a manifest; for a "
                "list of groups give a list of images, or the ImageSet that open_images returns"
            )
        return open_images(images, split=split, labels=labels)
    if labels is None or isinstance(labels, str | os.PathLike):
        raise DataError("a list of images needs a list with one label per image")
    return from_arrays(images, labels, groups=groups)  # type: ignore[arg-type]


def unlabelled_images(images: Images) -> ImageSet:
    """List images without labels: a file, everything below a folder, or images given directly.

    Raises
    ------
    DataError
        If there are none.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | os.PathLike):
        return open_images(images, labelled=False)
    return from_arrays(images)
