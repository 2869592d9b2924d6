"""Evaluation of a model by leave-one-out, or on data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.errors import DataError, NotKeptError
from toptune.evaluation.classification import Evaluation
from toptune.evaluation.intervals import share_interval
from toptune.evaluation.label_errors import suspected_labels, weak_evidence
from toptune.features import Features
from toptune.images import Images, ImageSet, Quarantined, image_files, images_to_compare
from toptune.reports.learning_curve import LearningCurve, left_out_labels, measured_curve
from toptune.reports.model.result import Disagreement, FeatureMap, Report
from toptune.runtime.energy import EnergyMeter
from toptune.tuner import TopTuner

#: Errors and suspected labels that a report lists.
LISTED = 24

# Points of the map: more would cover each other.
_POINTS = 800


@dataclass(frozen=True, eq=False)
class _Measured:
    """Images that are evaluated, with their classes and out-of-sample probabilities."""

    evaluation: Evaluation
    ids: tuple[str, ...]
    codes: NDArray[np.intp]  # (n,)
    proba: NDArray[np.float64]  # (n, c)
    groups: NDArray[np.str_] | None  # (n,)
    quarantined: tuple[Quarantined, ...]
    file_of: Callable[[str], str | None]  # id -> file, if it is there
    features: Features | None = None  # of data that was given
    seconds: float = 0.0
    energy_kwh: float | None = None

    @property
    def right(self) -> NDArray[np.bool_]:  # (n,)
        """Whether the most probable class is the label."""
        right: NDArray[np.bool_] = self.proba.argmax(axis=1) == self.codes
        return right


def build_report(
    tuner: TopTuner,
    data: Images | None = None,
    labels: ArrayLike | str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    curve: bool = True,
    image_folders: Sequence[str | os.PathLike[str]] | None = None,
) -> Report:
    """Evaluate a model, by leave-one-out or on labelled images.

    Parameters
    ----------
    tuner : TopTuner
        Fitted.
    data, labels, split
        Labelled images to measure on, as for `TopTuner.evaluate`. Without, everything is measured
        by leave-one-out on the training images, which need not be there any more.
    curve : bool, default=True
        Whether to measure the learning curve: up to fifteen fits on parts of the training images.
    image_folders : sequence of paths, optional
        Where the files of the training images may be, the likeliest last; by default where they
        were at the training.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If the data cannot be used, or has a class that the model does not know.
    NotKeptError
        If there is no data, and leave-one-out of a model that was changed is not known.
    """
    tuner.check_fitted("a report is")
    folders = tuner.provenance_.get("image_folders", []) if image_folders is None else image_folders
    left_out, unknown = _left_out(tuner, folders)
    if data is not None:
        measured = _on_data(tuner, data, labels, split)
    elif left_out is not None:
        measured = left_out
    else:
        raise NotKeptError(unknown)
    found, no_curve = None, unknown or "it was not asked for"
    if curve and left_out is not None:
        found, no_curve = _curve(tuner, measured.features, folders)
    errors = _most_sure(measured)
    doubtful = _suspected(left_out)
    seconds = dict(tuner.seconds_)
    if data is not None:
        seconds["predict"] = measured.seconds
    head, classes = tuner.head_, tuner.classes_.tolist()
    return Report(
        source="leave-one-out" if data is None else "data",
        evaluation=measured.evaluation,
        interval=share_interval(measured.right, groups=measured.groups),
        recalls=_recalls(measured, classes),
        n_groups=None if measured.groups is None else len(np.unique(measured.groups)),
        errors=_disagreements(measured, classes, errors[:LISTED]),
        n_errors=len(errors),
        suspected=_disagreements(left_out or measured, classes, doubtful[:LISTED]),
        n_suspected=len(doubtful),
        weak_evidence=weak_evidence(left_out.proba, left_out.codes) if left_out else "",
        no_leave_one_out=unknown,
        curve=found,
        no_curve=no_curve,
        feature_map=_feature_map(tuner, left_out),
        seconds=seconds,
        energy_kwh=measured.energy_kwh,
        n_images=len(tuner.ids_),
        n_centers=head.n_centers_,
        n_features=head.n_features_in_,
        head={
            "kernel": head.kernel_,
            "bandwidth": head.bandwidth_,
            "penalty": head.penalty_,
            "temperature": head.temperature_,
        },
        layer_weights=tuner.layer_weights_,
        provenance=tuner.provenance_,
        data=os.fspath(data) if isinstance(data, str | os.PathLike) else None,
        quarantined=measured.quarantined,
    )


def _left_out(
    tuner: TopTuner, folders: Sequence[str | os.PathLike[str]]
) -> tuple[_Measured | None, str]:
    """Training images by the models fitted without them; or why that is not known."""
    try:
        proba = tuner.loo_proba_
    except NotKeptError as error:
        return None, str(error)
    codes, groups = tuner.codes_, tuner.groups_

    def file_of(name: str) -> str | None:
        file = image_files([name], folders).get(name)
        return None if file is None else str(file)

    aside = tuner.quarantined_
    loo = cast("Evaluation", tuner.loo_)
    return _Measured(loo, tuner.ids_, codes, proba, groups, aside, file_of), ""


def _on_data(
    tuner: TopTuner,
    data: Images,
    labels: ArrayLike | str | os.PathLike[str] | None,
    split: str | None,
) -> _Measured:
    with EnergyMeter() as meter:
        start = time.perf_counter()
        images = images_to_compare(data, labels, split=split).with_text_labels()
        features = tuner.extract(images)
        evaluation = cast("Evaluation", tuner.evaluate_features(features))
        seconds = time.perf_counter() - start
    place = {str(label): code for code, label in enumerate(tuner.classes_.tolist())}
    names = [] if features.labels is None else features.labels.tolist()
    sources = dict(zip(images.ids, images.sources, strict=True))

    def file_of(name: str) -> str | None:
        source = sources[name]
        return os.fspath(source) if isinstance(source, str | os.PathLike) else None

    return _Measured(
        evaluation,
        features.ids,
        np.array([place[name] for name in names]),
        tuner.model_.outputs(features),
        features.groups,
        features.quarantined,
        file_of,
        features,
        seconds,
        meter.kwh,
    )


def _recalls(measured: _Measured, classes: list[Any]) -> dict[Any, tuple[float, float] | None]:
    found: dict[Any, tuple[float, float] | None] = {}
    for code, label in enumerate(classes):
        mine = measured.codes == code
        groups = None if measured.groups is None else measured.groups[mine]
        found[label] = share_interval(measured.right[mine], groups=groups) if mine.any() else None
    return found


def _disagreements(
    measured: _Measured, classes: list[Any], rows: NDArray[np.intp]
) -> tuple[Disagreement, ...]:
    found = []
    for i in rows.tolist():
        P, code = measured.proba[i], int(measured.codes[i])
        best, name = int(P.argmax()), measured.ids[i]
        found.append(
            Disagreement(
                id=name,
                label=classes[code],
                predicted=classes[best],
                probability=float(P[best]),
                label_probability=float(P[code]),
                file=measured.file_of(name),
            )
        )
    return tuple(found)


def _most_sure(measured: _Measured) -> NDArray[np.intp]:
    """Errors, the most probable first."""
    errors = np.flatnonzero(~measured.right)
    return errors[np.argsort(-measured.proba[errors].max(axis=1), kind="stable")]


def _suspected(left_out: _Measured | None) -> NDArray[np.intp]:
    """Training images whose label is suspect, the most suspect first."""
    if left_out is None:
        return np.zeros(0, dtype=np.intp)
    found = suspected_labels(left_out.proba, left_out.codes)
    return found.index[found.confident]


def _feature_map(tuner: TopTuner, left_out: _Measured | None) -> FeatureMap | None:
    """Map some of the centers, the same ones every time; None if none is a training image."""
    centers = tuner.head_.center_indices_
    some = np.flatnonzero(centers >= 0)  # below zero: forgotten images, or another model's
    if len(some) == 0:
        return None
    if len(some) > _POINTS:
        some = np.sort(np.random.default_rng(0).permutation(some)[:_POINTS])
    rows = tuner.model_.rows(tuner.center_features_[some])
    K = tuner.head_.score_terms(rows).K[:, some].cpu().numpy()
    points, shares = kernel_components((K + K.T) / 2)
    images = centers[some]
    return FeatureMap(
        points=points,
        shares=shares,
        ids=tuple(tuner.ids_[i] for i in images.tolist()),
        labels=tuner.classes_[tuner.codes_[images]].tolist(),
        right=np.ones(len(images), bool) if left_out is None else left_out.right[images],
    )


def _curve(
    tuner: TopTuner, test: Features | None, folders: Sequence[str | os.PathLike[str]]
) -> tuple[LearningCurve | None, str]:
    """Learning curve, on test images or by leave-one-out; or why there is none."""
    features = training_features(tuner, folders)
    if features is None:
        return None, (
            "the model holds the features of its centers only, and the files of the training "
            "images are not where they were"
        )
    model = tuner.model_
    answers = left_out_labels(model) if test is None else model.predicted_labels(test)
    try:
        return measured_curve(tuner, features, test, answers.astype(np.str_)), ""
    except DataError as error:  # parts of the images that no model can be fitted on
        return None, str(error)


def kernel_components(
    K: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the first two principal components of a kernel.

    The kernel is the head's own, with its bandwidth and its weights of layers: images are near each
    other where the head takes them to be alike. The axes do not depend on the labels.

    Parameters
    ----------
    K : ndarray of shape (k, k)
        Kernel between the images.

    Returns
    -------
    points : ndarray of shape (k, 2)
    shares : tuple of float
        Part of the variance, the trace of the centred kernel, of each component.

    Notes
    -----
    Schölkopf, Smola and Müller 1998, Nonlinear Component Analysis as a Kernel Eigenvalue Problem.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> points, shares = kernel_components(x @ x.T)
    >>> sorted(points[:, 0].round(6).tolist()), shares
    ([-1.0, 0.0, 1.0], (1.0, 0.0))
    """
    from sklearn.decomposition import KernelPCA

    k = len(K)
    found = KernelPCA(n_components=2, kernel="precomputed", eigen_solver="dense").fit(K)
    sizes = np.zeros(2)
    sizes[: len(found.eigenvalues_)] = np.maximum(found.eigenvalues_, 0.0)
    points = np.zeros((k, 2))
    points[:, : len(found.eigenvalues_)] = found.eigenvectors_ * np.sqrt(sizes[:k])
    total = float(np.trace(K) - K.sum() / k)
    shares = sizes / total if total > 0 else np.zeros(2)
    return points, (float(shares[0].round(12)), float(shares[1].round(12)))


def training_features(
    tuner: TopTuner, folders: Sequence[str | os.PathLike[str]]
) -> Features | None:
    """Return the features of all training images, with their labels and groups.

    They are in the model where every image is a center; otherwise they are taken from the cache,
    or extracted again, where the files are in one of the folders. None where they cannot be had.
    """
    head, names = tuner.head_, tuner.classes_[tuner.codes_].astype(np.str_)
    if np.array_equal(np.sort(head.center_indices_), np.arange(len(names))):
        X = np.empty_like(tuner.center_features_)
        X[head.center_indices_] = tuner.center_features_
        return Features(
            X=X,
            ids=tuner.ids_,
            labels=names,
            layers=dict(tuner.provenance_["layers"]),
            provenance=tuner.provenance_,
            groups=tuner.groups_,
        )
    files = image_files(tuner.ids_, folders)
    if len(files) < len(tuner.ids_):
        return None
    paths = tuple(str(files[name]) for name in tuner.ids_)
    found = tuner.extract(ImageSet(tuner.ids_, paths, names, groups=tuner.groups_), strict=True)
    return replace(found, quarantined=())
