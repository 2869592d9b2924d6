"""The comparison itself, one method after the other."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from toptune.errors import DataError
from toptune.features import cache_dir
from toptune.finetuning.estimator import FineTuner
from toptune.images import Images
from toptune.reports.comparison.fine_tuning import FineTuning, Report
from toptune.reports.comparison.parts import check_tests, readable, training_and_test
from toptune.reports.comparison.result import Comparison, duration
from toptune.reports.comparison.top_tuning import measured_curve, predicted_labels, top_tuned
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
    report: Report | None = None,
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
        Told in a sentence what is about to happen and how long it will take.

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
    say = report or (lambda sentence: None)
    parts = training_and_test(data, labels, test_size, random_state)
    drawn = "drawn at random" if parts.split == "random" else f"the {parts.split} split"
    say(f"{len(parts.train)} images to train on, {len(parts.test)} to compare on ({drawn})")
    tuner = TopTuner(backbone=backbone, cache=None, random_state=random_state)
    features, top = top_tuned(tuner, parts.train)
    start = time.perf_counter()
    seen = tuner._extract(parts.test)
    check_tests(seen.labels, seen.groups)
    predicted = predicted_labels(tuner, seen)
    accuracy = float((predicted == seen.labels).mean())
    top = replace(top, accuracy=accuracy, predict_seconds=time.perf_counter() - start)
    cost = duration(top.total_seconds)
    say(f"top-tuning: accuracy {accuracy:.3f} on the test images after {cost} of training")
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
    train, test = readable(parts.train, features), readable(parts.test, seen)
    job = FineTuning(fine, train, test, None if budget is None else 60 * budget, folder)
    return job.add_to(found, predicted, say)


def _check(backbone: str, budget: float | None, epochs: int, random_state: int) -> None:
    if backbone == "auto":
        raise DataError('backbone must be the name of one network, got "auto"')
    if budget is not None and not 0 < budget < float("inf"):
        raise DataError(f"budget must be > 0 minutes, got {budget!r}")
    for name, value, least in (("epochs", epochs, 1), ("random_state", random_state, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"{name} must be a whole number >= {least}, got {value!r}")
