"""KernelClassifier and KernelRegressor: kernel ridge regression as scikit-learn estimators.

Here labels become targets, and scores become labels; `base` has what lies between. Letters: n
samples, m centers, d features, c outputs (for a classifier one per class, two classes included:
their columns are mirror images and cost nothing extra).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from toptune.kernel.base import KernelEstimator, Problem
from toptune.kernel.operators import Rows
from toptune.kernel.selection.calibration import calibrated_log_loss, fit_temperature
from toptune.kernel.sharing import SharingClassifier
from toptune.kernel.stored import restore_solution, stored_arrays, stored_numbers
from toptune.runtime.deprecation import with_old_methods

Kernel = Literal[
    "gaussian", "laplacian", "matern32", "matern52", "cauchy", "linear", "polynomial", "auto"
]


def _as_pairs(
    scores: Tensor,  # (n, c)
    indicators: Tensor,  # (n, c), 0 or 1
    w: Tensor,  # (n,)
) -> tuple[Tensor, Tensor, Tensor]:  # (n c, 2), (n c,), (n c,)
    """Every label as a choice of its own between -f and f: scores, codes and weights."""
    pairs = torch.stack([-scores, scores], dim=-1).flatten(0, 1)
    return pairs, indicators.flatten(), w.repeat_interleave(scores.shape[1])


def _label_log_loss(scores: Tensor, indicators: Tensor, w: Tensor) -> Tensor:
    return calibrated_log_loss(*_as_pairs(scores, indicators, w))


def _unexplained(
    scores: Tensor,  # (n, c)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
) -> Tensor:
    """1 - R^2 with weights, the outputs sharing numerator and denominator as they are scaled."""
    W = w[:, None].double()
    mean = (W * Y).sum(0) / W.sum()
    error = (W * (Y - scores).double().square()).sum(0)
    size = (W * (Y - mean).square()).sum(0)
    return (error / torch.where(size > 0, size, 1.0)).mean()


@with_old_methods
class KernelClassifier(ClassifierMixin, SharingClassifier):  # type: ignore[misc]
    """Kernel ridge classification whose hyperparameters are chosen by exact leave-one-out.

    Classes are coded +1 and -1, one column each, and one factorisation serves all columns. With as
    many centers as samples this is exact kernel ridge regression; with fewer it is its Nystrom
    approximation, FALKON's problem (arXiv 1705.10958). Probabilities are a softmax of the scores
    over a temperature fitted on leave-one-out scores. Several labels per sample are given as an
    indicator matrix; each is then a choice of its own.

    Parameters
    ----------
    kernel : str, default="gaussian"
        "gaussian", "laplacian", "matern32", "matern52", "cauchy", "linear" or "polynomial" (of the
        third degree); `toptune.kernel.kernels` has the formulas. "auto" takes the better of
        "gaussian" and "linear" by leave-one-out.
    bandwidth : float or "auto", default="auto"
        Length scale of the kernel, in the units of the features. "auto" tries multiples of the
        median distance (of the root mean square of the norms for kernels of inner products), on at
        most 800 samples, the penalty being chosen with it.
    penalty : float or "auto", default="auto"
        Ridge penalty lambda per sample: the solution minimises the mean loss plus lambda ||f||^2.
        "auto" is chosen from 6e-8 to 1; above 800 samples on all of them, or on 2,000 that are
        left out of a fit of all, starting from the choice on the subset.
    n_centers : int or "auto", default="auto"
        Number of inducing points. "auto" takes all samples up to 3000, then 16 sqrt(n), at least
        3000 and at most 8000, fewer where memory is short. More than n means n.
    centers : {"balanced", "uniform"}, default="balanced"
        How centers are drawn: as equal a number from every class as the classes allow, or any
        sample as likely as any other.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; multiplied into `sample_weight`.
    feature_groups : sequence of int, optional
        Numbers of columns of groups of features, in order. The kernel then acts on the weighted sum
        of the groups' squared distances, or inner products.
    group_weights : sequence of float or "auto", default="auto"
        Weights of the groups; "auto" chooses them by leave-one-out, with the bandwidth.
    solver : {"auto", "direct", "falkon"}, default="auto"
        "direct" factorises, "falkon" iterates (conjugate gradient); "auto" takes the first up to
        8000 centers.
    memory : float or "auto", default="auto"
        Bytes that a fit may hold beyond the features; "auto" is half of what is free.
    device : str, default="auto"
        "cpu", "cuda", or "auto": CUDA where PyTorch finds it.
    random_state : int, RandomState or None, default=None
        Draws the centers and the subset for the bandwidth. Without effect up to 800 samples if all
        of them are centers.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted; the numbers of the columns for an indicator matrix.
    n_features_in_ : int
        Number of features d.
    centers_ : ndarray of shape (m, d)
        Inducing points.
    center_indices_ : ndarray of shape (m,)
        Which of the samples they are; -1 where that sample was taken away, -2 where it is none
        of them but a center of another model.
    dual_coef_ : ndarray of shape (m, c)
        Coefficients on the centers, float64.
    kernel_ : str
    bandwidth_, penalty_ : float
        The values used.
    n_centers_ : int
        Number of centers m.
    group_weights_ : ndarray of shape (g,)
        Weights of the feature groups; one of 1.0 without groups.
    plan_ : Plan
        Solver, number of centers, what was kept in memory, and the peak that was expected.
    n_iter_ : int
        Products of conjugate gradient; 1 for a direct solution.
    temperature_ : float
        Divisor of the scores before the softmax.
    loo_decision_function_ : ndarray of shape (n, c)
        Scores of every training sample by the model fitted without it, with the centers, the
        bandwidth and the penalty held fixed. Exact for direct solutions; for "falkon" those of a
        direct solution with 2000 centers.
    loo_proba_ : ndarray of shape (n, c)
        Calibrated probabilities of these scores.
    loo_accuracy_, loo_log_loss_ : float
        Weighted accuracy (with several labels the share of single labels that are right), and
        log-loss in nats, of these scores. Both saw the choice of hyperparameters, so they are
        slightly optimistic.
    sample_codes_ : ndarray of shape (n,)
        Classes of the samples that were fitted, as positions in `classes_`; for an indicator matrix
        zeros.
    candidates_ : list of Candidate
        Every (bandwidth, penalty, loss, group weights, kernel) that was tried.
    selection_seconds_ : float
        Part of the time of `fit` that went into choosing bandwidth and penalty.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from toptune.kernel import KernelClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = KernelClassifier().fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.98
    True
    """

    #: On real images they gained 6e-4 nats at most.
    _resolved_penalties = True

    def __init__(
        self,
        *,
        kernel: Kernel = "gaussian",
        bandwidth: float | Literal["auto"] = "auto",
        penalty: float | Literal["auto"] = "auto",
        n_centers: int | Literal["auto"] = "auto",
        centers: Literal["balanced", "uniform"] = "balanced",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        feature_groups: Sequence[int] | None = None,
        group_weights: Sequence[float] | Literal["auto"] = "auto",
        solver: Literal["auto", "direct", "falkon"] = "auto",
        memory: float | Literal["auto"] = "auto",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.penalty = penalty
        self.n_centers = n_centers
        self.centers = centers
        self.class_weight = class_weight
        self.feature_groups = feature_groups
        self.group_weights = group_weights
        self.solver = solver
        self.memory = memory
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: ArrayLike | Rows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> KernelClassifier:
        """Choose the hyperparameters, solve, and fit the temperature.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite. float16 and float32, and memory maps of them, are read a block at a
            time; products are then in float32.
        y : array-like of shape (n,), or (n, c)
            Labels, at least two different ones; or an indicator matrix of 0 and 1 with c columns,
            dense or sparse.
        sample_weight : array-like of shape (n,), optional
            Weights >= 0. A sample of weight zero is as good as absent.
        groups : array-like of shape (n,), optional
            Which samples belong together, such as images of one object: "leave-one-out" everywhere
            then leaves out whole groups.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters, features that are not finite, or fewer than two classes.
        MemoryBudgetError
            If `memory` does not suffice for `n_centers`.
        """
        self._check_parameters()
        rows, labels = self._rows(X, y=y, multi_output=True)
        check_classification_targets(labels)
        self._multilabel = type_of_target(labels, input_name="y") == "multilabel-indicator"
        if not self._multilabel:
            labels = column_or_1d(labels, warn=True)
        weight = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, labels)
        kept = weight > 0
        everything = bool(kept.all())
        problem = self._problem(rows, labels[kept], weight[kept])
        problem = replace(
            problem,
            X=rows if everything else rows.take(np.flatnonzero(kept)),
            groups=self._group_codes(groups, kept),
        )
        placed, solution = self._solve(problem)
        scores = solution.scores
        self._keep(placed, solution, plain=sample_weight is None and everything)
        self.center_indices_ = np.flatnonzero(kept)[self.center_indices_]
        targets, w = problem.targets, problem.w
        if self._multilabel:
            self.temperature_, self.loo_log_loss_ = fit_temperature(*_as_pairs(scores, targets, w))
            hits = ((scores > 0) == (targets > 0)).double().mean(1)
        else:
            self.temperature_, self.loo_log_loss_ = fit_temperature(scores, targets, w)
            hits = (scores.argmax(1) == targets).double()
        self.loo_accuracy_ = float((w.double() @ hits) / w.double().sum())
        out = scores.cpu().numpy()
        if not everything:  # samples of weight zero were never in: any prediction leaves them out
            out, left_out = self._scores(rows), out
            out[kept] = left_out
        self.loo_decision_function_ = out
        return self

    def _problem(self, rows: Rows, labels: NDArray[Any], weight: NDArray[Any]) -> Problem:
        """Code the labels of samples that have weight."""
        dtype, device = rows.dtype, rows.device
        w = torch.as_tensor(weight, dtype=dtype, device=device)
        if self._multilabel:
            self.classes_ = np.arange(labels.shape[1])
            targets = torch.as_tensor(np.asarray(labels, dtype=np.int64), device=device)
            if len(targets) == 0:
                raise ValueError("classification needs samples with weight > 0, got none")
            Y = 2.0 * targets.to(dtype) - 1.0
            strata = np.zeros(len(labels), dtype=np.intp)
            return Problem(rows, Y, w, targets, strata, _label_log_loss)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            only = f": {self.classes_.tolist()[0]!r}" if len(self.classes_) else ""
            raise ValueError(
                "classification needs at least two classes, got one class"
                + (only or " or none with weight > 0")
            )
        targets = torch.as_tensor(codes, device=device)
        c = len(self.classes_)
        Y = torch.full((len(codes), c), -1.0, dtype=dtype, device=device)
        Y[torch.arange(len(codes), device=device), targets] = 1.0
        return Problem(rows, Y, w, targets, codes, calibrated_log_loss)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, float | str | bool]]:
        """Return what prediction needs, as arrays and numbers, for a file without pickle.

        Returns
        -------
        arrays : dict
            centers (m, d), center_indices (m,), dual_coef (m, c), offset and scale (d,), and
            loo_scores (n, c), where they are known.
        numbers : dict
            kernel, bandwidth, penalty, temperature and multilabel, and with the scores loo_accuracy
            and loo_log_loss.
        """
        arrays = stored_arrays(self)
        numbers: dict[str, float | str | bool] = {
            **stored_numbers(self),
            "temperature": self.temperature_,
            "multilabel": self._multilabel,
        }
        if self._knows_left_out():
            arrays["loo_scores"] = self.loo_decision_function_
            numbers |= {"loo_accuracy": self.loo_accuracy_, "loo_log_loss": self.loo_log_loss_}
        return arrays, numbers

    def restore(
        self,
        classes: ArrayLike,
        arrays: Mapping[str, NDArray[Any]],
        numbers: Mapping[str, Any],
    ) -> KernelClassifier:
        """Become the fitted classifier whose `state` this is.

        Parameters
        ----------
        classes : array-like of shape (c,)
            Its `classes_`.
        arrays, numbers : dict
            What `state` returned.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If shapes disagree with each other.
        """
        self.classes_ = np.asarray(classes)
        restore_solution(self, arrays, numbers, c=len(self.classes_))
        self._multilabel = bool(numbers["multilabel"])
        self.temperature_ = numbers["temperature"]
        if "loo_scores" in arrays:
            self.loo_decision_function_ = arrays["loo_scores"]
            self.loo_accuracy_ = numbers["loo_accuracy"]
            self.loo_log_loss_ = numbers["loo_log_loss"]
        return self

    def decision_function(self, X: ArrayLike | Rows) -> NDArray[np.float64]:
        """Scores of the classes; about +1 for the right one and -1 for the others.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.

        Returns
        -------
        ndarray of shape (n, c), or (n,) for two classes: the score of `classes_[1]`.
        """
        scores = self._checked_scores(X)
        return scores[:, 1] if len(self.classes_) == 2 and not self._multilabel else scores

    def predict_proba(self, X: ArrayLike | Rows) -> NDArray[np.float64]:
        """Calibrated probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.

        Returns
        -------
        ndarray of shape (n, c), rows summing to one; for an indicator matrix each entry is the
        probability of that label by itself.
        """
        return self.probabilities(self._checked_scores(X))

    @property
    def loo_proba_(self) -> NDArray[np.float64]:  # (n, c)
        """Calibrated leave-one-out probabilities of the training samples."""
        return self.probabilities(self.loo_decision_function_)

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Turn scores of all classes, such as `loo_decision_function_`, into probabilities.

        Parameters
        ----------
        scores : array-like of shape (n, c)
            One column a class, also for two classes.

        Returns
        -------
        ndarray of shape (n, c), as `predict_proba` returns it.
        """
        logits = np.asarray(scores, dtype=np.float64) / self.temperature_
        out: NDArray[np.float64] = (
            expit(2.0 * logits) if self._multilabel else softmax(logits, axis=1)
        )
        return out

    def predict(self, X: ArrayLike | Rows) -> NDArray[Any]:
        """Label of the highest score, or indicators of the labels with a score above zero.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.

        Returns
        -------
        ndarray of shape (n,), or (n, c) for an indicator matrix
        """
        scores = self._checked_scores(X)  # also what tells that the model is fitted
        if self._multilabel:
            return (scores > 0).astype(np.int64)
        labels: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return labels


class KernelRegressor(MultiOutputMixin, RegressorMixin, KernelEstimator):  # type: ignore[misc]
    """Kernel ridge regression whose hyperparameters are chosen by exact leave-one-out.

    One factorisation serves all outputs. The weighted mean of every output is subtracted first, so
    that the penalty draws predictions towards it. Parameters are those of `KernelClassifier`,
    without `class_weight`.

    Parameters
    ----------
    kernel, bandwidth, penalty, n_centers, feature_groups, group_weights
        As for `KernelClassifier`; what leave-one-out minimises is the mean over outputs of 1 - R^2.
    centers : {"uniform"}, default="uniform"
        How centers are drawn.
    solver, memory, device, random_state
        As for `KernelClassifier`.

    Attributes
    ----------
    n_features_in_ : int
        Number of features d.
    centers_ : ndarray of shape (m, d)
        Inducing points.
    center_indices_ : ndarray of shape (m,)
        Which of the samples they are.
    dual_coef_ : ndarray of shape (m, c)
        Coefficients on the centers, float64.
    intercept_ : ndarray of shape (c,)
        Means of the outputs.
    kernel_, bandwidth_, penalty_, n_centers_, group_weights_
        As for `KernelClassifier`.
    plan_, n_iter_, candidates_, selection_seconds_
        As for `KernelClassifier`.
    loo_predictions_ : ndarray of shape (n,) or (n, c)
        Prediction for every training sample by the model fitted without it, with the centers, the
        bandwidth, the penalty and the means of the outputs held fixed.
    loo_r2_ : float
        Weighted R^2 of these, averaged over the outputs; slightly optimistic, for it saw the choice
        of hyperparameters.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from toptune.kernel import KernelRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> 0.45 < KernelRegressor().fit(X, y).loo_r2_ < 0.55
    True
    """

    def __init__(
        self,
        *,
        kernel: Kernel = "gaussian",
        bandwidth: float | Literal["auto"] = "auto",
        penalty: float | Literal["auto"] = "auto",
        n_centers: int | Literal["auto"] = "auto",
        centers: Literal["uniform"] = "uniform",
        feature_groups: Sequence[int] | None = None,
        group_weights: Sequence[float] | Literal["auto"] = "auto",
        solver: Literal["auto", "direct", "falkon"] = "auto",
        memory: float | Literal["auto"] = "auto",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.penalty = penalty
        self.n_centers = n_centers
        self.centers = centers
        self.feature_groups = feature_groups
        self.group_weights = group_weights
        self.solver = solver
        self.memory = memory
        self.device = device
        self.random_state = random_state

    def _kinds_of_centers(self) -> tuple[str, ...]:
        return ("uniform",)  # there are no classes to balance

    def fit(
        self,
        X: ArrayLike | Rows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> KernelRegressor:
        """Choose the hyperparameters and solve.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite; as for `KernelClassifier.fit`.
        y : array-like of shape (n,) or (n, c)
            Targets, finite.
        sample_weight : array-like of shape (n,), optional
            Weights >= 0. A sample of weight zero is as good as absent.
        groups : array-like of shape (n,), optional
            Which samples belong together, such as images of one object: "leave-one-out" everywhere
            then leaves out whole groups.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters, or features or targets that are not finite.
        MemoryBudgetError
            If `memory` does not suffice for `n_centers`.
        """
        self._check_parameters()
        rows, targets = self._rows(X, y=y, multi_output=True, y_numeric=True)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        self._single = targets.ndim == 1
        values = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
        weight = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        kept = weight > 0
        if not kept.any():
            raise ValueError("regression needs samples with weight > 0, got none")
        self.intercept_ = np.average(values[kept], axis=0, weights=weight[kept])
        Y = torch.as_tensor(values[kept] - self.intercept_, dtype=rows.dtype, device=rows.device)
        problem = Problem(
            X=rows if kept.all() else rows.take(np.flatnonzero(kept)),
            Y=Y,
            w=torch.as_tensor(weight[kept], dtype=rows.dtype, device=rows.device),
            targets=Y,
            strata=np.zeros(len(Y), dtype=np.intp),
            criterion=_unexplained,
            groups=self._group_codes(groups, kept),
        )
        scores = self._solve(problem)[1].scores
        self.center_indices_ = np.flatnonzero(kept)[self.center_indices_]
        self.loo_r2_ = 1.0 - problem.loss(scores)
        out = scores.cpu().numpy().astype(np.float64)
        if not kept.all():
            out, left_out = self._scores(rows), out
            out[kept] = left_out
        self.loo_predictions_ = self._shaped(out)
        return self

    def _shaped(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        values = scores + self.intercept_
        return values[:, 0] if self._single else values

    def predict(self, X: ArrayLike | Rows) -> NDArray[np.float64]:
        """Predictions.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.

        Returns
        -------
        ndarray of shape (n,), or (n, c) if the targets had two axes.
        """
        return self._shaped(self._checked_scores(X))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, float | str]]:
        """Return what prediction needs, as arrays and numbers, for a file without pickle.

        Returns
        -------
        arrays : dict
            As for `KernelClassifier.state`, with intercept (c,); loo_scores are the predictions.
        numbers : dict
            kernel, bandwidth, penalty and loo_r2.
        """
        arrays = stored_arrays(self)
        left_out = self.loo_predictions_.reshape(len(self.loo_predictions_), -1)
        arrays |= {"intercept": self.intercept_, "loo_scores": left_out}
        return arrays, {**stored_numbers(self), "loo_r2": self.loo_r2_}

    def restore(
        self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]
    ) -> KernelRegressor:
        """Become the fitted regressor whose `state` this is; targets of one column count as (n,).

        Raises
        ------
        ValueError
            If shapes disagree with each other.
        """
        self.intercept_ = arrays["intercept"]
        self._single = self.intercept_.shape == (1,)
        restore_solution(self, arrays, numbers, c=self.intercept_.size)
        left_out = arrays["loo_scores"]
        self.loo_predictions_ = left_out[:, 0] if self._single else left_out
        self.loo_r2_ = numbers["loo_r2"]
        return self
