"""FittedModel: everything that a fit has found, and the answers that follow from it.

It is what a model file holds, and never changes: adding, forgetting and merging make another one;
see `toptune.model.updates`. It takes features; the network that makes them is not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from toptune.decisions.novelty import UnknownScorer, unknown_scorer
from toptune.decisions.prediction_sets import set_threshold
from toptune.decisions.rule import DecisionRule
from toptune.decisions.thresholds import Objective, choose_thresholds
from toptune.errors import DataError
from toptune.features import Features
from toptune.images import Quarantined
from toptune.kernel import FeatureNormalizer, Rows
from toptune.kernel.kept import Keep
from toptune.tasks import (
    Answers,
    Classification,
    Multilabel,
    Predictions,
    Regression,
    Task,
    TaskEvaluation,
    TaskName,
)

#: What an estimator answers before its fit, as `check_is_fitted` takes it.
NOT_FITTED = "this %(name)s is not fitted yet: call fit or load first"

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted model without its network.

    Attributes
    ----------
    parameters : dict
        Of the tuner's constructor.
    head : KernelClassifier
        Fitted; a KernelRegressor for regression.
    normalizer : FeatureNormalizer
        Fitted.
    center_features : ndarray of float32 or float16, shape (m, d)
        Features of the head's centers before they were normalised: half the space of what they
        become, from which the same numbers come again.
    task_name : {"classification", "multilabel", "regression"}
        What the labels are.
    classes : ndarray of shape (c,)
        Labels, sorted; none for regression.
    codes : ndarray of shape (n,) or (n, c)
        Classes of the training images, as positions among `classes`; indicators of their labels; or
        their numbers.
    ids : tuple of str
        Names of the training images.
    groups : ndarray of str, shape (n,), or None
        Groups of the training images.
    provenance : dict
        Backbone, weights hash, preprocessing, precision, and versions of libraries.
    quarantined : tuple of Quarantined
        Training images set aside.
    seconds : dict
        Time of the stages of training.
    kept : {"nothing", "sums", "rows"}
        What a file of this model holds for changes, unless something else is asked for.
    """

    parameters: dict[str, Any]
    head: Any
    normalizer: FeatureNormalizer
    center_features: NDArray[Any]
    task_name: TaskName
    classes: NDArray[Any]
    codes: NDArray[Any]
    ids: tuple[str, ...]
    groups: NDArray[np.str_] | None
    provenance: dict[str, Any]
    quarantined: tuple[Quarantined, ...]
    seconds: dict[str, float]
    kept: Keep = "sums"

    @cached_property
    def task(self) -> Task[Any]:
        """The task, with what leave-one-out tells of its answers."""
        if self.task_name == "multilabel":
            scores = self.head.loo_decision_function_
            return Multilabel.calibrated(self.classes, scores, self.codes)
        if self.task_name == "regression":
            return Regression(np.abs(self.codes - self.head.loo_predictions_), self.groups)
        return Classification(self.classes)

    @property
    def backbone(self) -> str:
        """Network, as it was asked for; the chosen one where all were compared."""
        asked: str = self.parameters.get("backbone", "auto")
        return str(self.provenance["backbone"]) if asked == "auto" else asked

    @property
    def layer_weights(self) -> dict[str, float]:
        """Part that each layer has in the mean squared distance of two of the centers."""
        layers = dict(self.provenance["layers"])
        ends = np.cumsum(list(layers.values()))
        parts = np.split(self.head.feature_shares(), ends[:-1])
        return {name: float(part.sum()) for name, part in zip(layers, parts, strict=True)}

    @property
    def refresh(self) -> str | None:
        """Why centers and hyperparameters should be chosen anew; None: no reason."""
        reason: str | None = None
        if self.task_name == "classification":
            reason = self.head.refresh_reason()
        return reason

    @property
    def left_out(self) -> NDArray[np.float64]:
        """Outputs for every training image by the model fitted without it, (n, c) or (n,)."""
        return self.task.left_out(self.head)

    @cached_property
    def loo(self) -> TaskEvaluation:
        """Leave-one-out evaluation of the training images."""
        return self.task.evaluate(self.codes, self.left_out, DecisionRule())

    def choose_thresholds(
        self,
        objective: Objective | None = None,
        *,
        recall: Mapping[Any, float] | None = None,
        precision: Mapping[Any, float] | None = None,
    ) -> dict[Any, float]:
        """Choose thresholds on the training images, each left out."""
        return choose_thresholds(
            self.codes, self.left_out, self.classes, objective, recall=recall, precision=precision
        )

    # ------------------------------------------------------------------------------ answering

    def rows(self, X: NDArray[Any]) -> Rows:
        """Return features (n, d) as the head takes them, normalised a block at a time."""
        return Rows(X, transform=self.normalizer.transform)

    def outputs(self, features: Features) -> NDArray[np.float64]:
        """Compute probabilities (n, c), or numbers (n,)."""
        return self.task.outputs(self.head, self.rows(features.X))

    def predicted_labels(self, features: Features) -> NDArray[Any]:  # (n,)
        """Return the most probable classes."""
        labels: NDArray[Any] = self.classes[self.outputs(features).argmax(axis=1)]
        return labels

    def answers(self, features: Features, rule: DecisionRule) -> Answers:
        """Predict, with prediction sets and unknown scores where a rule has rates for them.

        Raises
        ------
        DataError, ValueError
            As `check_rates` does.
        """
        lowest, highest = self.check_rates(rule)
        outputs = self.outputs(features)
        found = self.task.predictions(features.ids, outputs, features.quarantined)
        if isinstance(found, Predictions):
            if lowest is not None:
                found = replace(found, sets=outputs >= lowest)
            if highest is not None:
                scores = self.unknown_scores(features)
                found = replace(found, unknown_score=scores, unknown=scores > highest)
        return found

    def evaluate(self, features: Features, rule: DecisionRule) -> TaskEvaluation:
        """Compare what is predicted and decided for features with their labels.

        Raises
        ------
        DataError
            If there are no labels, one is unknown, or the rule cannot be used.
        """
        if features.labels is None:
            raise DataError("these images have no labels to compare with")
        rule.check(self.classes, self.task_name)
        codes = self.task.codes_of(features.labels)  # an error in them is raised before the work
        return self.task.evaluate(codes, self.outputs(features), rule)

    def unknown_scores(self, features: Features) -> NDArray[np.float64]:
        """Compute how unlike the training images each image is, (n,)."""
        rows, _ = self.head.kernel_space(self.rows(features.X))
        return self.unknown_scorer.scores(rows)

    @cached_property
    def unknown_scorer(self) -> UnknownScorer:
        """Scorer of images unlike the training images."""
        return unknown_scorer(self.head, self.codes, self.groups)

    # ------------------------------------------------------------------------------- checking

    def require(self, what: str, *tasks: TaskName) -> None:
        """Raise if the task is not among `tasks`, by default classification alone.

        Raises
        ------
        DataError
            Naming `what` and the task.
        """
        allowed = tasks or ("classification",)
        if self.task_name not in allowed:
            names = " and ".join(allowed)
            raise DataError(f"{what} for {names}, and this model does {self.task_name}")

    def check_rates(self, rule: DecisionRule) -> tuple[float | None, float | None]:
        """Return the least probability in a prediction set, and the highest score of the known.

        None where the rule has no rate.

        Raises
        ------
        DataError
            If there are too few training images for a rate, or it is for another task.
        ValueError
            If a rate is not between 0 and 1.
        """
        rule.check_rates(self.task_name)
        lowest = highest = None
        if (coverage := rule.coverage) is not None:
            lowest = set_threshold(self.left_out, self.codes, coverage, groups=self.groups)
            self._check_reachable(lowest, "coverage", coverage, coverage)
        if (reject := rule.reject) is not None:
            highest = self.unknown_scorer.threshold(reject)
            self._check_reachable(highest, "reject", reject, 1.0 - reject)
        return lowest, highest

    def _check_reachable(self, threshold: float, name: str, value: float, coverage: float) -> None:
        """Raise if the training images are too few for a rate."""
        if np.isfinite(threshold):
            return
        what, n = "images", len(self.codes)
        if self.groups is not None:
            what, n = "groups of images", len(set(self.groups.tolist()))
        least = int(np.ceil(coverage / (1.0 - coverage) - 1e-9))
        raise DataError(
            f"{name}={value:g} needs at least {least} training {what}, and there are {n}: ask for "
            "less, or train with more"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, without what is computed from them when it is asked for."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class FittedAttribute(Generic[_Value]):
    """Read-only attribute of an estimator, which is read from its `model_`."""

    def __init__(self, read: Callable[[FittedModel], _Value]) -> None:
        self.read = read

    def __get__(self, estimator: Any, owner: type) -> _Value:
        if estimator is None:
            return self  # type: ignore[return-value]
        check_is_fitted(estimator, msg=NOT_FITTED)
        return self.read(estimator.model_)

    def __set__(self, estimator: object, value: object) -> None:
        raise AttributeError("attributes of a fitted estimator are those of model_: read-only")
