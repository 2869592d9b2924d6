"""Features and labels in, a FittedModel out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from toptune.errors import DataError
from toptune.features import Features
from toptune.kernel import FeatureNormalizer, KernelClassifier, KernelRegressor, Rows
from toptune.kernel.estimators import Kernel
from toptune.model.fitted_model import FittedModel
from toptune.runtime.versions import library_versions
from toptune.tasks import TaskChoice, TaskName, chosen_task


@dataclass(frozen=True)
class HeadParameters:
    """Parameters of a head; see `toptune.kernel.KernelClassifier`."""

    kernel: Kernel = "auto"
    bandwidth: float | Literal["auto"] = "auto"
    penalty: float | Literal["auto"] = "auto"
    n_centers: int | Literal["auto"] = "auto"
    class_weight: dict[Any, float] | Literal["balanced"] | None = None
    random_state: int = 0

    def new_head(
        self, task: TaskName, feature_groups: Sequence[int]
    ) -> KernelClassifier | KernelRegressor:
        """Make the head of a task, not fitted yet.

        Raises
        ------
        ValueError
            If there are class weights, and the task is not classification.
        """
        parameters = vars(self) | {"feature_groups": feature_groups}
        weights = parameters.pop("class_weight")
        if task == "classification":
            return KernelClassifier(class_weight=weights, **parameters)
        if weights is not None:
            raise ValueError(f"class_weight is for classification, got {weights!r} for {task}")
        head = KernelClassifier if task == "multilabel" else KernelRegressor
        return head(**parameters)


def fit_model(
    features: Features,
    *,
    task: TaskChoice = "auto",
    head: HeadParameters | None = None,
    centers: FittedModel | None = None,
    parameters: dict[str, Any] | None = None,
) -> FittedModel:
    """Fit a model to features.

    Parameters
    ----------
    features : Features
        With labels; where they have `groups`, whole groups are left out.
    task : {"auto", "classification", "multilabel", "regression"}, default="auto"
        What labels are; by default what they look like.
    head : HeadParameters, optional
        By default everything is chosen.
    centers : FittedModel, optional
        Model whose centers, kernel, bandwidth and weights of layers are used instead of chosen.
    parameters : dict, optional
        What the model file holds as parameters of the tuner.

    Returns
    -------
    FittedModel

    Raises
    ------
    DataError
        If the labels are not what the task needs, there are fewer than two classes, or all images
        are of one group.
    """
    head = head or HeadParameters()
    chosen = chosen_task(task, features.label_kind)
    targets = chosen.read(features)
    groups = features.groups
    if groups is not None and len(set(groups.tolist())) < 2:
        raise DataError(
            "all images belong to one group: leave-one-out of whole groups would leave none"
        )
    start = time.perf_counter()
    if centers is None:
        widths = list(features.layers.values())
        fitted: Any = head.new_head(chosen.name, widths)
        normalizer = FeatureNormalizer(groups=widths).fit(features.X[:1])
        rows = Rows(features.X, transform=normalizer.transform)
        fitted.fit(rows, targets.y, groups=groups)
        center_features = features.X[fitted.center_indices_]
    else:
        centers.require("centers= is")
        if chosen.name != "classification":
            raise DataError(
                f"centers= is for classification, and these labels are for {chosen.name}"
            )
        normalizer, center_features = centers.normalizer, centers.center_features
        fitted = centers.head.fit_with_centers(
            centers.rows(features.X),
            targets.y,
            groups=groups,
            class_weight=head.class_weight,
            penalty=None if isinstance(head.penalty, str) else head.penalty,
        )
    total = time.perf_counter() - start
    selecting = fitted.selection_seconds_
    return FittedModel(
        parameters=parameters or {},
        head=fitted,
        normalizer=normalizer,
        center_features=center_features,
        task_name=chosen.name,
        classes=targets.classes,
        codes=targets.codes,
        ids=features.ids,
        groups=groups,
        provenance={**features.provenance, "versions": library_versions()},
        quarantined=features.quarantined,
        seconds={
            "decode_extract": features.seconds,
            "select": selecting,
            "fit": total - selecting,
        },
    )


def check_finite(features: Features) -> None:
    """Raise if features that were not extracted here hold NaN or infinity.

    Raises
    ------
    DataError
        Naming the first image.
    """
    step = 4096  # rows at a time: they may be in a file larger than memory
    blocks = (features.X[first : first + step] for first in range(0, len(features), step))
    bad = ~np.concatenate([np.isfinite(X).all(axis=1) for X in blocks] or [np.ones(0, bool)])
    if bad.any():
        raise DataError(
            f"the features of {bad.sum()} of {len(features)} images hold NaN or infinity, the "
            f"first is {features.ids[int(bad.argmax())]}: extract them again, or leave them out"
        )
