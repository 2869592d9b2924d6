"""Top-tuning, timed, and its learning curve from the features that it extracted."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from toptune.errors import DataWarning
from toptune.evaluation.learning_curve import extrapolate, nested_subsets
from toptune.features import Features
from toptune.images import ImageSet
from toptune.reports.comparison.result import Curve, CurvePoint, MethodOutcome
from toptune.runtime.energy import EnergyMeter
from toptune.runtime.memory import peak_memory, reset_peak_memory
from toptune.runtime.progress import progress_bar
from toptune.tasks import training_labels
from toptune.tuner import TopTuner

#: Parts of the training images that the curve is measured at.
FRACTIONS = (0.125, 0.25, 0.5, 1.0)

# Draws of each part, fewer where a fit takes long.
_DRAWS, _DRAWS_OF_MANY, _MANY = 5, 3, 2000

# A smaller part must have at most so much of the images of the next one.
_STEP = 0.8


def top_tuned(tuner: TopTuner, images: ImageSet) -> tuple[Features, MethodOutcome]:
    """Train as a user would, nothing being in a cache."""
    reset_peak_memory()
    with EnergyMeter() as meter:
        start = time.perf_counter()
        _, engine = tuner._network()
        engine.prepare()
        loading = time.perf_counter() - start
        features = tuner._extract(images)
        tuner.fit_features(features)
    seconds = {"load": loading, **tuner.seconds_}
    return features, MethodOutcome(float("nan"), seconds, 0.0, peak_memory(), meter.kwh)


def predicted_labels(tuner: TopTuner, features: Features) -> NDArray[Any]:  # (n,)
    """Most probable classes."""
    labels: NDArray[Any] = tuner.classes_[tuner._proba(features).argmax(axis=1)]
    return labels


def measured_curve(
    tuner: TopTuner, features: Features, test: Features | None, predicted: NDArray[Any]
) -> Curve:
    """Train the head on parts of the training images, with the features that there are.

    Without test images, `test` None, the training images are tested on: each by models that did not
    see it, which is leave-one-out for those of the part. `predicted` are the labels, as text, that
    `tuner` gives to what is tested on.
    """
    start = time.perf_counter()
    n = len(features)
    tested = features if test is None else test
    seeds = range(_DRAWS if n <= _MANY else _DRAWS_OF_MANY)
    draws = [
        nested_subsets(
            training_labels(features, {}),
            FRACTIONS,
            groups=features.groups,
            random_state=tuner.random_state + seed,
        )
        for seed in seeds
    ]
    sizes = np.array([[len(rows) for rows in draw] for draw in draws]).mean(axis=0)
    kept = _far_apart(sizes)
    everything = (tuner.loo_.accuracy, predicted != tested.labels)
    found: dict[tuple[int, int], tuple[float, NDArray[np.bool_]]] = {}
    with (
        warnings.catch_warnings(),
        progress_bar("learning curve", len(seeds) * (len(kept) - 1)) as advance,
    ):
        warnings.simplefilter("ignore", DataWarning)  # classes of one image, at these sizes
        for s, draw in enumerate(draws):
            for k in kept:
                if k == len(FRACTIONS) - 1:
                    found[s, k] = everything
                    continue
                part = _fitted_part(tuner, features.subset(draw[k]))
                answers = predicted_labels(part, tested)
                if test is None:
                    answers[draw[k]] = left_out_labels(part)
                found[s, k] = part.loo_.accuracy, answers != tested.labels
                advance(1)
    wrong = np.array([[found[s, k][1] for k in kept] for s in seeds])  # (S, K, n)
    points = []
    for i, k in enumerate(kept):
        drawn = seeds[:1] if k == len(FRACTIONS) - 1 else seeds  # of all images there is one draw
        points.append(
            CurvePoint(
                fraction=FRACTIONS[k],
                n=float(sizes[k]),
                draws=len(drawn),
                loo_accuracy=float(np.mean([found[s, k][0] for s in drawn])),
                test_accuracy=float(1 - wrong[: len(drawn), i].mean()),
            )
        )
    extrapolation = extrapolate(
        sizes[kept], wrong, groups=tested.groups, random_state=tuner.random_state
    )
    return Curve(tuple(points), extrapolation, time.perf_counter() - start)


def left_out_labels(tuner: TopTuner) -> NDArray[Any]:  # (n,)
    """Most probable class of each training image by the model fitted without it."""
    labels: NDArray[Any] = tuner.classes_[tuner.head_.loo_decision_function_.argmax(axis=1)]
    return labels


def _fitted_part(tuner: TopTuner, features: Features) -> TopTuner:
    """Train on some of the images as `tuner` was, with its network, which is not read again."""
    part = clone(tuner).set_params(backbone=tuner.backbone_)
    part._loaded = ((part._asked(part.backbone), part.cache), *tuner._network())
    part.fit_features(features)
    return part  # type: ignore[no-any-return]


def _far_apart(sizes: NDArray[np.float64]) -> list[int]:
    """Positions of the sizes that differ enough, from the largest one downwards; ascending."""
    kept = [len(sizes) - 1]
    for k in range(len(sizes) - 2, -1, -1):
        if sizes[k] <= _STEP * sizes[kept[0]]:
            kept.insert(0, k)
    return kept
