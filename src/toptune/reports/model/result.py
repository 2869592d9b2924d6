"""Result of the evaluation of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toptune.evaluation.classification import Evaluation
from toptune.images import Quarantined
from toptune.reports.learning_curve import LearningCurve
from toptune.runtime.plain import plain_fields


@dataclass(frozen=True)
class Disagreement:
    """An image whose most probable class is not its label.

    Attributes
    ----------
    id : str
        Its name.
    label, predicted : str or number
        Its label, and the most probable class.
    probability, label_probability : float
        Of `predicted`, and of `label`.
    file : str or None
        Its file, where it is still there.
    """

    id: str
    label: Any
    predicted: Any
    probability: float
    label_probability: float
    file: str | None = None


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Training images as points of a plane; see `kernel_components`.

    Attributes
    ----------
    points : ndarray of shape (k, 2)
        Where they are.
    shares : tuple of float
        Part of the variance that each axis shows.
    ids : tuple of str
        Which images.
    labels : list
        Their classes.
    right : ndarray of bool, shape (k,)
        Whether leave-one-out gives them their label; true where it is not known.
    """

    points: NDArray[np.float64]
    shares: tuple[float, float]
    ids: tuple[str, ...]
    labels: list[Any]
    right: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Report:
    """Evaluation of a model.

    Attributes
    ----------
    source : {"leave-one-out", "data"}
        What accuracy, classes, probabilities and errors are measured on: the training images, each
        by the model fitted without it (and without its group), or images given.
    evaluation : Evaluation
        Accuracy, per-class table, confusion matrix, reliability.
    interval : tuple of float
        95 % interval of the accuracy; groups are the unit where there are any.
    recalls : dict
        Label to the 95 % interval of its recall, None where no image has the label.
    n_groups : int or None
        Number of groups of the images measured on; None without groups.
    errors : tuple of Disagreement
        The errors of the highest probability.
    n_errors : int
        Number of all errors.
    suspected : tuple of Disagreement
        Training images whose label is suspect by the rule of confident learning, the most suspect
        first.
    n_suspected : int
        Number of all of them.
    weak_evidence : str
        Why suspected labels mean little: leave-one-out is no better than always naming the largest
        class; else empty.
    no_leave_one_out : str
        Why leave-one-out is not known, as for some models that were changed; else empty. There are
        no suspected labels then.
    curve : LearningCurve or None
        Accuracy with fewer training images, and what more would bring.
    no_curve : str
        Why there is none.
    feature_map : FeatureMap or None
        Training images as the kernel sees them; None where no center is one of them, as after a
        training with the centers of another model.
    seconds : dict
        Of the stages of training; and ``predict``, with data given, which is short where features
        were in the cache.
    energy_kwh : float or None
        Of predicting the data, estimated; None where it was not measured.
    n_images, n_centers, n_features : int
        Training images, centers of the head, and features of an image.
    head : dict
        Kernel, bandwidth, penalty and temperature.
    layer_weights : dict
        Part that each layer has in the distance of two images.
    provenance : dict
        Network, weights hash, preprocessing, versions of libraries, folders of the images.
    data : str or None
        The data that was given.
    quarantined : tuple of Quarantined
        Images set aside: of the data, else of the training.
    """

    source: Literal["leave-one-out", "data"]
    evaluation: Evaluation
    interval: tuple[float, float]
    recalls: dict[Any, tuple[float, float] | None]
    n_groups: int | None
    errors: tuple[Disagreement, ...]
    n_errors: int
    suspected: tuple[Disagreement, ...]
    n_suspected: int
    weak_evidence: str
    no_leave_one_out: str
    curve: LearningCurve | None
    no_curve: str
    feature_map: FeatureMap | None
    seconds: dict[str, float]
    energy_kwh: float | None
    n_images: int
    n_centers: int
    n_features: int
    head: dict[str, Any]
    layer_weights: dict[str, float]
    provenance: dict[str, Any]
    data: str | None
    quarantined: tuple[Quarantined, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return plain_fields(self)
