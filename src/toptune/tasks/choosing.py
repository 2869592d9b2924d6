"""Thresholds of classes or labels, chosen from the leave-one-out probabilities of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.decisions.costs import apply_thresholds, check_known_classes, threshold_vector
from toptune.decisions.thresholds import (
    Objective,
    best_label_threshold,
    best_thresholds,
    threshold_for,
)
from toptune.errors import DataError
from toptune.tasks.base import Task, codes_among


def chosen_thresholds(
    task: Task[Any],
    codes: NDArray[Any],  # (n,) or (n, c)
    P: NDArray[np.float64],  # (n, c)
    *,
    objective: Objective | None = None,
    recall: Mapping[Any, float] | None = None,
    precision: Mapping[Any, float] | None = None,
) -> dict[Any, float]:
    """Choose thresholds; see `toptune.TopTuner.choose_thresholds`.

    Raises
    ------
    DataError
        If nothing or too much is asked for, or it cannot be had: where an image has one class,
        thresholds that each give what is wanted may not do so together, because classes compete.
    """
    wishes = [*(recall or {}), *(precision or {})]
    if (objective is None) == (not wishes):
        raise DataError(
            "say what thresholds are for: either an objective, or a recall or precision of classes"
        )
    if len(set(map(str, wishes))) < len(wishes):
        raise DataError("a class can have a wanted recall or a wanted precision, not both")
    classes = task.classes.tolist()
    single = codes.ndim == 1
    if objective is not None and single:
        return dict(zip(classes, best_thresholds(codes, P, objective).tolist(), strict=True))
    present = codes[:, None] == np.arange(len(classes)) if single else codes > 0
    if objective is not None:
        return {
            label: best_label_threshold(present[:, k], P[:, k], objective)
            for k, label in enumerate(classes)
        }
    places = {str(label): k for k, label in enumerate(classes)}
    found = {}
    for name, wanted in (("recall", recall or {}), ("precision", precision or {})):
        check_known_classes(map(str, wanted), list(places), f"wishes for {name}")
        for label, value in wanted.items():
            k = places[str(label)]
            try:
                found[classes[k]] = threshold_for(present[:, k], P[:, k], **{name: value})
            except DataError as error:
                raise DataError(f"{label}: {error}") from error
    if single:
        decided = apply_thresholds(P, threshold_vector(found, task.classes))
        _check_reached(task, codes, decided, recall or {}, precision or {})
    return found


def _check_reached(
    task: Task[Any],
    codes: NDArray[Any],  # (n,)
    decided: NDArray[np.intp],  # (n,)
    recall: Mapping[Any, float],
    precision: Mapping[Any, float],
) -> None:
    """Refuse thresholds that do not give what was wanted, once each image has one class."""
    missed = []
    for name, wanted, among in (("recall", recall, codes), ("precision", precision, decided)):
        for label, value in wanted.items():
            (k,) = codes_among([str(label)], task.classes)
            hits, total = np.sum((codes == k) & (decided == k)), np.sum(among == k)
            if total == 0 or hits < value * total * (1 - 1e-12):
                got = f"{hits / total:.4g}" if total else "none, as it is never decided"
                missed.append(f"the {name} of {label} is {got} (wanted {value:g})")
    if missed:
        raise DataError(
            "an image gets one class, and these wishes cannot be had together: with the thresholds "
            f"that each of them needs, {'; '.join(missed)}. Wish for fewer classes, or for less"
        )
