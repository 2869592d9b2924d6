"""Changes of a fitted model: images added, images removed, models merged.

Each change is exact: the new model is, to rounding, the one trained on the changed images with the
same centers, kernel, bandwidth, weights of layers and penalty. `KernelClassifier` has the changes
of the head; here are images, their names and their labels. All functions leave their models as they
are.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError, DataWarning
from toptune.features import Features
from toptune.images import ImageSet, Quarantined
from toptune.images.labels import as_text
from toptune.images.names import (
    are_numbered,
    check_distinct,
    check_several_groups,
    concatenated_groups,
    names_among,
    next_number,
)
from toptune.kernel import KernelClassifier
from toptune.model.fitted_model import FittedModel
from toptune.tasks import check_classes, warn_of_lone_images


def add_images(model: FittedModel, features: Features, *, reselect: bool = False) -> FittedModel:
    """Add labelled images, of classes that the model knows or of new ones.

    Parameters
    ----------
    model : FittedModel
        Of classes.
    features : Features
        Of the images to add, finite, with labels; images of a group that the model knows belong to
        it.
    reselect : bool, default=False
        Choose the penalty again by leave-one-out.

    Raises
    ------
    DataError
        If an image has the name of one that the model was trained on, or labels are missing,
        numbers or sets.
    NotKeptError
        If the model does not hold the sums that it takes.
    """
    start = time.perf_counter()
    labels = _checked_labels(model, features)
    check_distinct((*model.ids, *features.ids), "are in the model already, or twice here")
    texts = as_text(labels)
    if features.label_kind == "number":  # classes by their text, as in a fit
        labels = texts
    known = dict(zip(map(str, model.classes.tolist()), model.classes, strict=True))
    y = np.array([known.get(text, label) for text, label in zip(texts, labels, strict=True)])
    groups = concatenated_groups((model.groups, features.groups), (model.ids, features.ids))
    head = model.head.add_samples(
        model.rows(features.X), y, groups=groups, centers=model.rows(model.center_features)
    )
    exact = len(head.centers_) > len(model.center_features)
    return _changed(
        model,
        head.reselect_penalty() if reselect else head,
        ids=(*model.ids, *features.ids),
        groups=groups,
        centers=np.concatenate([model.center_features, features.X]) if exact else None,
        quarantined=features.quarantined,
        folders=features.provenance.get("image_folders", ()),
        start=start,
        extraction=features.seconds,
    )


def remove_images(
    model: FittedModel,
    ids: str | Iterable[str],
    *,
    drop_centers: bool = False,
    reselect: bool = False,
) -> FittedModel:
    """Take training images out of a model, exactly.

    Parameters
    ----------
    model : FittedModel
        Of classes.
    ids : str or list of str
        Names of training images; with ``drop_centers`` there may be none.
    drop_centers : bool, default=False
        Where not all images are centers: also take removed images out of the centers, those of
        earlier calls too. It takes about as long as a refit.
    reselect : bool, default=False
        Choose the penalty again by leave-one-out.

    Raises
    ------
    DataError
        If the model has no image of such a name, or a class would lose its last image.
    NotKeptError
        If the model does not hold what each image contributed.

    Warns
    -----
    DataWarning
        If some of them stay centers: their features stay in the model.
    """
    start = time.perf_counter()
    names = names_among(ids, model.ids)
    gone = np.array([name in names for name in model.ids], dtype=bool)
    groups = None if model.groups is None else model.groups[~gone]
    check_several_groups(groups)
    head = model.head.remove_samples(
        gone, drop_centers=drop_centers, centers=model.rows(model.center_features)
    )
    stays = model.head.staying_centers(~gone)
    dropped = len(head.centers_) < len(stays)
    lost = np.count_nonzero(~stays & (model.head.center_indices_ >= 0))
    if not dropped and lost:
        warnings.warn(
            f"{lost} of the forgotten images are centers: nothing of their labels is left, but "
            "their features stay in the model; drop_centers=True takes them out too",
            DataWarning,
            stacklevel=3,
        )
    changed = _changed(
        model,
        head.reselect_penalty() if reselect else head,
        ids=tuple(name for name in model.ids if name not in names),
        groups=groups,
        centers=model.center_features[stays] if dropped else None,
        start=start,
    )
    number = next_number(model.ids, model.provenance.get("next_number", 0))
    if not number:
        return changed
    # A name is not given again.
    return replace(changed, provenance={**changed.provenance, "next_number": number})


def merge_models(
    models: Sequence[FittedModel],
    *,
    prefixes: Sequence[str] | None = None,
    reselect: bool = False,
) -> FittedModel:
    """Make the model of the images of all models, which have the same centers.

    Parameters
    ----------
    models : sequence of FittedModel
        Of classes. The first one's penalty and parameters are those of the result.
    prefixes : list of str, optional
        One for each model, put before the names of its images and groups. Without them equal names
        of groups are one group, and equal names of images an error.
    reselect : bool, default=False
        Choose the penalty again by leave-one-out; needs the rows of all models.

    Raises
    ------
    DataError
        If models differ in centers, kernel, classes or class weights, or share names of images.
    NotKeptError
        If one of them does not hold the sums that it takes.
    """
    start = time.perf_counter()
    if prefixes is not None and len(prefixes) != len(models):
        raise DataError(f"{len(models)} models need as many prefixes, got {len(prefixes)}")
    marks = prefixes or [""] * len(models)
    ids = [tuple(p + i for i in m.ids) for p, m in zip(marks, models, strict=True)]
    check_distinct(
        tuple(name for names in ids for name in names),
        "are in several of the models: give prefixes that tell them apart",
    )
    first, *others = models
    head: KernelClassifier = first.head
    named = [model.groups for model in models]
    for k, model in enumerate(others, start=2):
        head = head.merge(model.head, groups=concatenated_groups(named[:k], ids[:k], marks[:k]))
    return _changed(
        first,
        head.reselect_penalty() if reselect else head,
        ids=tuple(name for names in ids for name in names),
        groups=concatenated_groups(named, ids, marks),
        quarantined=tuple(item for model in others for item in model.quarantined),
        folders=[f for model in others for f in model.provenance.get("image_folders", ())],
        start=start,
    )


def images_to_add(model: FittedModel, images: ImageSet) -> ImageSet:
    """Return images to add; those in memory with numbers after those of the model.

    Raises
    ------
    DataError
        If their labels cannot be added, or the model is not of classes.
    """
    _checked_labels(model, images)
    if not are_numbered(images.ids):
        return images
    first = next_number(model.ids, model.provenance.get("next_number", 0))
    return replace(images, ids=tuple(f"image-{first + k:06d}" for k in range(len(images))))


def _checked_labels(model: FittedModel, labelled: Features | ImageSet) -> NDArray[Any]:  # (n,)
    """Return labels to add, if they are classes as those that the model was trained on.

    Raises
    ------
    DataError
        If there are none, or they are numbers or sets and ``task="classification"`` was not asked
        for.
    """
    if labelled.labels is None:
        raise DataError("the images to add have no labels: training needs one label per image")
    if model.parameters.get("task") != "classification":
        check_classes(labelled)
    return labelled.labels


def _changed(
    model: FittedModel,
    head: KernelClassifier,
    *,
    ids: tuple[str, ...],
    groups: NDArray[np.str_] | None,
    centers: NDArray[Any] | None = None,
    quarantined: tuple[Quarantined, ...] = (),
    folders: Sequence[str] = (),
    start: float,
    extraction: float = 0.0,
) -> FittedModel:
    """Return the model with a changed head, and what belongs to it."""
    warn_of_lone_images(head.classes_[head.sample_codes_], groups)
    known = model.provenance.get("image_folders", [])
    new = [folder for folder in folders if folder not in known]
    selecting = head.selection_seconds_
    return replace(
        model,
        head=head,
        center_features=model.center_features if centers is None else centers,
        classes=head.classes_,
        codes=head.sample_codes_,
        ids=ids,
        groups=groups,
        provenance={**model.provenance, **({"image_folders": [*known, *new]} if new else {})},
        quarantined=(*model.quarantined, *quarantined),
        seconds={
            "decode_extract": extraction,
            "select": selecting,
            "fit": time.perf_counter() - start - selecting,
        },
    )
