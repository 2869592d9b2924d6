"""Comparison of top-tuning with fine-tuning, one after the other on the same images."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError, DataWarning
from toptune.features import Features, cache_dir
from toptune.finetuning.estimator import FineTuner
from toptune.images import (
    Images,
    ImageSet,
    Quarantined,
    labelled_images,
    splits_of,
    stratified_split,
)
from toptune.reports.comparison.fine_tuning import Announce, FineTuning
from toptune.reports.comparison.result import Comparison, MethodOutcome
from toptune.reports.html.text import duration
from toptune.reports.learning_curve import measured_curve
from toptune.runtime.energy import EnergyMeter
from toptune.runtime.memory import peak_memory, reset_peak_memory
from toptune.tasks import check_classes, training_labels
from toptune.tuner import TopTuner


def compare(
    data: Images,
    labels: ArrayLike | str | os.PathLike[str] | None = None,
    *,
    backbone: str = "efficientnet_lite0",
    budget: float | None = None,
    epochs: int = 15,
    flip: bool = True,
    fine_tuning: bool = True,
    test_size: float = 0.25,
    cache: str | os.PathLike[str] | None = "auto",
    random_state: int = 0,
    report: Announce | None = None,
) -> Comparison:
    """Compare top-tuning with fine-tuning on labelled images.

    Parameters
    ----------
    data : path, list of images or ImageSet
        As for `TopTuner.fit`. Where it has its own splits, training is on "train" and the
        comparison on "test", else "val"; otherwise on random images, class by class, of which no
        group is on both sides.
    labels : list of labels, or path
        One label per image of a list; or a manifest with the labels of the images in `data`.
    backbone : str, default="efficientnet_lite0"
        Network of both, by name.
    budget : float, optional
        Minutes that fine-tuning may take, as a trial of a few steps estimates it. Where it is too
        short, first the choice of the learning rate is left out, then epochs, down to three; where
        that is still too long, fine-tuning is skipped. None means as long as it takes.
    epochs : int, default=15
        Of fine-tuning.
    flip : bool, default=True
        Whether the mirror image of an image shows the same thing; of fine-tuning.
    fine_tuning : bool, default=True
        Whether to fine-tune at all.
    test_size : float, default=0.25
        Part of the images to compare on, where the data has no splits.
    cache : "auto", path or None, default="auto"
        Folder in which fine-tuning keeps its state. If it is killed, the same call goes on from
        there. Features are never kept: extraction is part of the time.
    random_state : int, default=0
        Seed of everything that is drawn.
    report : callable, optional
        Called with a sentence on each next step and how long it will take.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If a parameter is out of its range, the images cannot be listed, there are too few of them
        to compare on, or the test images have a class that the training images lack.
    BackboneError
        If the network or its weights cannot be had.
    ModelFileError, StorageError
        If the state of a killed run is damaged, or it cannot be written.

    Warns
    -----
    DataWarning
        If images were set aside, or training and test images share groups.
    """
    _check(backbone, budget, epochs, random_state)
    announce = report or (lambda sentence: None)
    parts = training_and_test(data, labels, test_size, random_state)
    drawn = "drawn at random" if parts.split == "random" else f"the {parts.split} split"
    announce(f"{len(parts.train)} images to train on, {len(parts.test)} to compare on ({drawn})")
    tuner = TopTuner(backbone=backbone, cache=None, random_state=random_state)
    features, top = _top_tuned(tuner, parts.train)
    start = time.perf_counter()
    seen = tuner.extract(parts.test)
    _check_tests(seen.labels, seen.groups)
    predicted = tuner.model_.predicted_labels(seen)
    accuracy = float((predicted == seen.labels).mean())
    top = replace(top, accuracy=accuracy, predict_seconds=time.perf_counter() - start)
    cost = duration(top.total_seconds)
    announce(f"top-tuning: accuracy {accuracy:.3f} on the test images after {cost} of training")
    set_aside = (*parts.quarantined, *features.quarantined, *seen.quarantined)
    found = Comparison(
        backbone=tuner.backbone_,
        split=parts.split,
        n_train=len(features),
        n_test=len(seen),
        n_classes=len(tuner.classes_),
        n_test_groups=None if seen.groups is None else len(np.unique(seen.groups)),
        top_tuning=top,
        fine_tuning=None,
        skipped="fine-tuning was not asked for",
        plan=None,
        difference=None,
        curve=measured_curve(tuner, features, seen, predicted),
        quarantined=tuple({item.id: item for item in set_aside}.values()),
    )
    if not fine_tuning:
        return found
    fine = FineTuner(backbone=backbone, epochs=int(epochs), flip=flip, random_state=random_state)
    folder = cache_dir() if cache == "auto" else None if cache is None else Path(cache)
    train, test = _readable(parts.train, features), _readable(parts.test, seen)
    job = FineTuning(fine, train, test, None if budget is None else 60 * budget, folder)
    return job.add_to(found, predicted, announce)


def _check(backbone: str, budget: float | None, epochs: int, random_state: int) -> None:
    if backbone == "auto":
        raise DataError('backbone must be the name of one network, got "auto"')
    if budget is not None and not 0 < budget < float("inf"):
        raise DataError(f"budget must be > 0 minutes, got {budget!r}")
    for name, value, least in (("epochs", epochs, 1), ("random_state", random_state, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"{name} must be a whole number >= {least}, got {value!r}")


def _top_tuned(tuner: TopTuner, images: ImageSet) -> tuple[Features, MethodOutcome]:
    """Fit to images, nothing being in a cache; return their features and the cost."""
    reset_peak_memory()
    with EnergyMeter() as meter:
        start = time.perf_counter()
        tuner.prepare()
        loading = time.perf_counter() - start
        features = tuner.extract(images)
        tuner.fit_features(features)
    seconds = {"load": loading, **tuner.seconds_}
    return features, MethodOutcome(float("nan"), seconds, 0.0, peak_memory(), meter.kwh)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Images to train on and to compare on, where the latter came from, what was set aside."""

    train: ImageSet
    test: ImageSet
    split: str
    quarantined: tuple[Quarantined, ...]


def training_and_test(
    data: Images, labels: ArrayLike | str | os.PathLike[str] | None, test_size: float, seed: int
) -> _Parts:
    """List training and test images."""
    present: tuple[str, ...] = ()
    if isinstance(data, str | os.PathLike):
        table = labels if isinstance(labels, str | os.PathLike) else None
        present = splits_of(data, labels=table)
    own = next((name for name in ("test", "val") if name in present), None)
    if own is None or present == (own,):
        images = labelled_images(data, labels, split=own).with_text_labels()
        check_classes(images)
        rows, held_out = stratified_split(
            images.labels, test_size=test_size, random_state=seed, groups=images.groups
        )
        train, test = images.subset(rows), images.subset(held_out)
        parts = _Parts(train, test, "random", images.quarantined)
    else:
        listed = (labelled_images(data, labels, split=s) for s in ("train", own))
        train, test = (images.with_text_labels() for images in listed)
        parts = _Parts(train, test, own, ())
        if train.groups is not None and test.groups is not None:
            _warn_of_shared_groups(train.groups, test.groups)
    y = training_labels(parts.train)
    _check_tests(parts.test.labels, parts.test.groups)
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


def _check_tests(labels: NDArray[np.str_] | None, groups: NDArray[np.str_] | None) -> None:
    """Raise if the test images are of one class, or of one group."""
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


def _readable(images: ImageSet, features: Features) -> ImageSet:
    """Return the images that could be read, so that both methods see the same ones."""
    place = {name: i for i, name in enumerate(images.ids)}
    return images.subset([place[name] for name in features.ids])
