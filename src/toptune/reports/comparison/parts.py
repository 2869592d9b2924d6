"""Which images are trained on, and which the methods are compared on."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError, DataWarning
from toptune.features import Features
from toptune.images import (
    Images,
    ImageSet,
    Quarantined,
    labelled_images,
    splits_of,
    stratified_split,
)
from toptune.tasks import check_classes, training_labels


@dataclass(frozen=True, eq=False)
class Parts:
    """Images to train on and to compare on, where the latter came from, what was set aside."""

    train: ImageSet
    test: ImageSet
    split: str
    quarantined: tuple[Quarantined, ...]


def training_and_test(
    data: Images, labels: ArrayLike | str | os.PathLike[str] | None, test_size: float, seed: int
) -> Parts:
    """List training and test images."""
    present: tuple[str, ...] = ()
    if isinstance(data, str | os.PathLike):
        table = labels if isinstance(labels, str | os.PathLike) else None
        present = splits_of(data, labels=table)
    own = next((name for name in ("test", "val") if name in present), None)
    if own is None or present == (own,):
        images, _ = labelled_images(data, labels, split=own)
        check_classes(images)
        rows, held_out = stratified_split(
            images.labels, test_size=test_size, random_state=seed, groups=images.groups
        )
        train, test = images.subset(rows), images.subset(held_out)
        parts = Parts(train, test, "random", images.quarantined)
    else:
        train, test = (labelled_images(data, labels, split=s)[0] for s in ("train", own))
        parts = Parts(train, test, own, ())
        if train.groups is not None and test.groups is not None:
            _warn_of_shared_groups(train.groups, test.groups)
    y = training_labels(parts.train, {})
    check_tests(parts.test.labels, parts.test.groups)
    unknown = sorted(set(test.labels.tolist() if test.labels is not None else ()) - set(y.tolist()))
    if unknown:
        raise DataError(
            f"test images have classes that no training image has: {', '.join(unknown)}; add "
            "training images of them, or leave them out"
        )
    return parts


def _warn_of_shared_groups(train: NDArray[np.str_], test: NDArray[np.str_]) -> None:
    if shared := sorted(set(train.tolist()) & set(test.tolist())):
        warnings.warn(
            f"{len(shared)} groups have both training and test images, the first is {shared[0]}: "
            "accuracies on the test images are too good",
            DataWarning,
            stacklevel=5,
        )


def check_tests(labels: NDArray[np.str_] | None, groups: NDArray[np.str_] | None) -> None:
    """Refuse test images that a comparison would say nothing on."""
    n_classes = 0 if labels is None else len(np.unique(labels))
    if n_classes < 2:
        what = "one class" if n_classes else "no class"
        raise DataError(
            f"the images to compare on are of {what}: at least two are needed; add test images, or "
            "let them be drawn at random from all images"
        )
    if groups is not None and len(np.unique(groups)) < 2:
        raise DataError(
            "the images to compare on are all of one group, which says nothing about others: add "
            "groups"
        )


def readable(images: ImageSet, features: Features) -> ImageSet:
    """Those of the images that could be read, so that both methods see the same ones."""
    place = {name: i for i, name in enumerate(images.ids)}
    return images.subset([place[name] for name in features.ids])
