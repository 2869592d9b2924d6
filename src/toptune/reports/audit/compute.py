"""Audit by leave-one-out of a model that is fitted to all images of all splits."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from toptune.errors import DataError
from toptune.evaluation.label_errors import suspected_labels, weak_evidence
from toptune.evaluation.near_duplicates import mixed_groups, near_duplicates
from toptune.features import Features
from toptune.images import Images, ImageSet, labelled_images, splits_of
from toptune.kernel.neighbours import nearest_rows
from toptune.reports.audit.result import Audit, AuditedImage, SuspectedImage
from toptune.tasks import chosen_task
from toptune.tuner import TopTuner

#: Neighbours that are shown of each suspected image.
NEIGHBOURS = 4


def audit(
    data: Images,
    labels: ArrayLike | str | os.PathLike[str] | None = None,
    *,
    tuner: TopTuner | None = None,
    max_suspects: int = 100,
) -> Audit:
    """Find wrong labels, contradictory copies, and copies on both sides of a split.

    Parameters
    ----------
    data, labels
        As for `TopTuner.fit`; of a folder or manifest all splits are read.
    tuner : TopTuner, optional
        Parameters of the extraction and of the head; a copy is fitted. By default ``TopTuner()``.
    max_suspects : int, default=100
        Suspected labels to list.

    Returns
    -------
    Audit

    Raises
    ------
    DataError
        If there are no usable images, fewer than two classes, or the network is "auto".
    ValueError
        If `max_suspects` < 1.

    Notes
    -----
    Each label is judged by the model fitted without that image, and without that image alone:
    others of its group, where there are groups, are the best evidence for a slip. Errors that whole
    groups have in common are not found. A suspected label is one whose class is beaten by
    another that is at least as probable as is usual among the images that carry its label.

    Examples
    --------
    >>> import numpy as np
    >>> from toptune import TopTuner
    >>> from toptune.reports.audit import audit
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.integers(0, 90, size=(8, 32, 32, 3), dtype=np.uint8)
    >>> images, labels = [*dark, *(dark + 140)], ["night"] * 8 + ["day"] * 8
    >>> labels[3] = "day"
    >>> found = audit(images, labels, tuner=TopTuner(cache=None))
    >>> [(suspect.image.id, suspect.suggested) for suspect in found.suspects]
    [('image-000003', 'night')]
    """
    if max_suspects < 1:
        raise ValueError(f"max_suspects must be >= 1, got {max_suspects}")
    model: TopTuner = clone(TopTuner() if tuner is None else tuner)
    if model.backbone == "auto":
        raise DataError('an audit compares no networks: name one instead of backbone="auto"')
    parts = _parts(data, labels)
    for images in parts.values():
        task = chosen_task(model.task, images.label_kind).name
        if task != "classification":
            raise DataError(f"an audit is for classification, not {task}")
    extracted = {split: model.extract(images) for split, images in parts.items()}
    features = _joined(list(extracted.values()))
    model.fit_features(features)
    listed = [image for split in parts for image in _audited(parts[split], extracted[split], split)]
    groups = near_duplicates(features)
    splits = {split: len(found) for split, found in extracted.items() if split is not None}
    set_aside = dict.fromkeys(
        item
        for split, found in extracted.items()
        for item in (*parts[split].quarantined, *found.quarantined)
    )
    P = model.loo_proba_
    suspects, n_suspects = _suspects(model, P, features, listed, max_suspects)
    return Audit(
        n=len(listed),
        classes=model.classes_.tolist(),
        splits=splits,
        loo_accuracy=model.loo_.score,
        suspects=suspects,
        n_suspects=n_suspects,
        weak_evidence=weak_evidence(P, model.codes_),
        conflicts=_members(listed, mixed_groups(groups, [image.label for image in listed])),
        leaks=_members(listed, mixed_groups(groups, [image.split or "" for image in listed])),
        n_near_duplicates=int((np.bincount(groups)[groups] > 1).sum()),
        quarantined=tuple(set_aside),
    )


def _parts(
    data: Images, labels: ArrayLike | str | os.PathLike[str] | None
) -> dict[str | None, ImageSet]:
    """Images of each split; of None where there are no splits."""
    present: tuple[str, ...] = ()
    if isinstance(data, str | os.PathLike):
        table = labels if isinstance(labels, str | os.PathLike) else None
        present = splits_of(data, labels=table)
    parts = {
        split: labelled_images(data, labels, split=split).with_text_labels()
        for split in present or (None,)
    }
    if any(part.labels is None for part in parts.values()):
        raise DataError("these images have no labels: an audit needs one label per image")
    return parts


def _joined(parts: list[Features]) -> Features:
    """Features of all parts, without groups: each image is left out by itself."""
    return replace(
        parts[0],
        X=np.concatenate([part.X for part in parts]),
        ids=tuple(name for part in parts for name in part.ids),
        labels=np.concatenate([part.labels for part in parts if part.labels is not None]),
        groups=None,
        quarantined=(),
        seconds=sum(part.seconds for part in parts),
    )


def _audited(part: ImageSet, features: Features, split: str | None) -> list[AuditedImage]:
    """Those images of a part that could be read."""
    sources = dict(zip(part.ids, part.sources, strict=True))
    labels = [] if features.labels is None else features.labels.tolist()
    return [
        AuditedImage(name, split, label, sources[name])
        for name, label in zip(features.ids, labels, strict=True)
    ]


def _suspects(
    model: TopTuner,
    P: NDArray[np.float64],  # (n, c), by leave-one-out
    features: Features,
    images: list[AuditedImage],
    limit: int,
) -> tuple[tuple[SuspectedImage, ...], int]:
    """Return the first of the suspected images, and the number of all."""
    found = suspected_labels(P, model.codes_)
    index, scores = found.index[found.confident], found.score[found.confident]
    listed = index[:limit]
    rows, _ = model.head_.kernel_space(model.model_.rows(features.X))
    near = nearest_rows(rows, listed, NEIGHBOURS)[0] if len(listed) else ()
    suspects = tuple(
        SuspectedImage(
            image=images[i],
            suggested=str(model.classes_[P[i].argmax()]),
            probability=float(P[i].max()),
            label_probability=float(P[i, model.codes_[i]]),
            suspicion=float(score),
            neighbours=tuple(images[j] for j in others),
        )
        for i, score, others in zip(listed.tolist(), scores[:limit], near, strict=True)
    )
    return suspects, len(index)


def _members(
    images: list[AuditedImage], groups: list[NDArray[np.intp]]
) -> tuple[tuple[AuditedImage, ...], ...]:
    return tuple(tuple(images[i] for i in rows) for rows in groups)
