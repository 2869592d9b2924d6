"""KernelClassifier: kernel ridge regression on +1/-1 coded classes, as a scikit-learn estimator.

Policy lives here (dtype, number of centers, what is chosen on which samples); the arithmetic is in
`solvers`, `selection` and `calibration`. Letters: n samples, m centers, d features, c outputs (one
per class, two classes included: their columns are mirror images and cost nothing extra).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from toptune.kernel.calibration import fit_temperature
from toptune.kernel.centers import automatic_n_centers, balanced_centers
from toptune.kernel.kernels import check_kernel, kernel_matrix
from toptune.kernel.operators import KernelOperator
from toptune.kernel.selection import (
    PENALTIES,
    SELECTION_SAMPLES,
    Candidate,
    as_float,
    best_penalty,
    descend_penalties,
    select,
    selection_subset,
)
from toptune.kernel.solvers import (
    exact_solution,
    nystrom_system,
)


@dataclass(frozen=True)
class _Problem:
    """Samples, coded targets and weights on their way to the solver."""

    X: Tensor  # (n, d), centred
    codes: Tensor  # (n,)
    Y: Tensor  # (n, c), +1 in the column of the class, -1 elsewhere
    w: Tensor  # (n,), all > 0

    @classmethod
    def coded(cls, X: NDArray[Any], codes: NDArray[np.intp], w: NDArray[Any], c: int) -> _Problem:
        rows, y = torch.from_numpy(X), torch.from_numpy(codes)
        Y = 2.0 * torch.nn.functional.one_hot(y, c).to(rows.dtype) - 1.0
        return cls(rows, y, Y, torch.as_tensor(w, dtype=rows.dtype))

    def take(self, rows: NDArray[np.intp]) -> _Problem:
        return _Problem(self.X[rows], self.codes[rows], self.Y[rows], self.w[rows])

    def double(self) -> _Problem:
        return _Problem(self.X.double(), self.codes, self.Y.double(), self.w.double())

    def loss(
        self,
        scores: Tensor,  # (n, c)
    ) -> float:
        """Log-loss of scores at their best temperature: what the selection minimises."""
        return fit_temperature(scores, self.codes, self.w)[1]


class KernelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Kernel ridge classification whose hyperparameters are chosen by exact leave-one-out.

    Classes are coded +1 and -1, one column each, and one factorisation serves all columns. With as
    many centers as samples this is exact kernel ridge regression; with fewer it is its Nystrom
    approximation, FALKON's problem (arXiv 1705.10958), solved directly. Probabilities are a softmax
    of the scores over a temperature fitted on leave-one-out scores.

    Parameters
    ----------
    kernel : {"gaussian", "laplacian", "matern32", "matern52", "linear"}, default="gaussian"
        Kernel function; docs/concepts.md has the formulas.
    bandwidth : float or "auto", default="auto"
        Length scale of the kernel, in the units of the features. "auto" tries multiples of the
        median distance, on at most 800 samples, the penalty being chosen with it. Not used by the
        linear kernel.
    penalty : float or "auto", default="auto"
        Ridge penalty lambda per sample: the solution minimises the mean squared error plus
        lambda ||f||^2. "auto" is chosen from 1e-7 to 1; above 800 samples on all of them, starting
        from the choice on the subset.
    n_centers : int or "auto", default="auto"
        Number of inducing points. "auto" takes all samples up to 3000, then 16 sqrt(n), at least
        3000. More than n means n.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; multiplied into `sample_weight`.
    random_state : int, RandomState or None, default=None
        Draws the centers and the subset for the bandwidth. Without effect up to 800 samples if all
        of them are centers.

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        Labels, sorted.
    n_features_in_ : int
        Number of features d.
    centers_ : ndarray of shape (m, d)
        Inducing points.
    dual_coef_ : ndarray of shape (m, c)
        Coefficients on the centers, float64.
    bandwidth_, penalty_ : float
        The values used.
    n_centers_ : int
        Number of centers m.
    temperature_ : float
        Divisor of the scores before the softmax.
    loo_decision_function_ : ndarray of shape (n, c)
        Scores of every training sample by the model fitted without it, with the centers, the
        bandwidth and the penalty held fixed.
    loo_accuracy_, loo_log_loss_ : float
        Weighted accuracy, and log-loss in nats, of these scores. Both saw the choice of
        hyperparameters, so they are slightly optimistic.
    candidates_ : list of Candidate
        Every (bandwidth, penalty, loss) that was tried.
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

    def __init__(
        self,
        *,
        kernel: Literal["gaussian", "laplacian", "matern32", "matern52", "linear"] = "gaussian",
        bandwidth: float | Literal["auto"] = "auto",
        penalty: float | Literal["auto"] = "auto",
        n_centers: int | Literal["auto"] = "auto",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.penalty = penalty
        self.n_centers = n_centers
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> KernelClassifier:
        """Choose the hyperparameters, solve, and fit the temperature.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite; float32 stays float32 in the n x m products.
        y : array-like of shape (n,)
            Labels, at least two different ones.
        sample_weight : array-like of shape (n,), optional
            Weights >= 0. A sample of weight zero is as good as absent.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For invalid parameters, non-finite features, or fewer than two classes.
        """
        check_kernel(self.kernel)
        bandwidth = as_float(self.bandwidth, "bandwidth")
        penalty = as_float(self.penalty, "penalty")
        rows: NDArray[Any]
        labels: NDArray[Any]
        rows, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        weight = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        weight = weight * compute_sample_weight(self.class_weight, labels)
        kept = weight > 0
        self.classes_, codes = np.unique(labels[kept], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "classification needs at least two classes, got one class"
                + (
                    f": {self.classes_.tolist()[0]!r}"
                    if len(self.classes_)
                    else " or none with weight > 0"
                )
            )
        # Distances do not change when the origin moves, and rounding errors are least when it is
        # the mean. The linear kernel has no such freedom.
        linear = self.kernel == "linear"
        self._offset = rows[0] * 0 if linear else rows[kept].mean(axis=0)
        problem = _Problem.coded(rows[kept] - self._offset, codes, weight[kept], len(self.classes_))
        scores = self._solve(problem, bandwidth, penalty)
        self.temperature_, self.loo_log_loss_ = fit_temperature(scores, problem.codes, problem.w)
        hits = (scores.argmax(1) == problem.codes).to(problem.w.dtype)
        self.loo_accuracy_ = float((problem.w @ hits) / problem.w.sum())
        if kept.all():
            self.loo_decision_function_ = scores.numpy()
        else:  # samples of weight zero were never in: any prediction leaves them out
            self.loo_decision_function_ = self._scores(rows)
            self.loo_decision_function_[kept] = scores.numpy()
        return self

    def _solve(
        self, problem: _Problem, bandwidth: float | None, penalty: float | None
    ) -> Tensor:  # (n, c), leave-one-out scores
        """Set the hyperparameters, the centers and their coefficients."""
        start = time.perf_counter()
        random_state = check_random_state(self.random_state)
        codes = problem.codes.numpy()
        n, m = len(codes), self._resolve_n_centers(len(codes))
        penalties = PENALTIES if penalty is None else (penalty,)
        if self.kernel == "linear":
            bandwidth = 1.0
        subset = selection_subset(codes, SELECTION_SAMPLES, random_state=random_state)
        centers = balanced_centers(codes, m, random_state=random_state)
        best = Candidate(bandwidth or 0.0, penalties[0], np.inf)
        self.candidates_: list[Candidate] = []
        if bandwidth is None or (penalty is None and m == n):
            part = problem if len(subset) == n else problem.take(subset)
            best, self.candidates_ = select(
                part.X,
                part.Y,
                part.w,
                kernel=self.kernel,
                bandwidth=bandwidth,
                penalties=penalties,
                loss=part.loss,
            )
        self.bandwidth_ = best.bandwidth
        if m < n:
            Z = problem.X[torch.from_numpy(centers)]
            operator = KernelOperator(problem.X, Z, self.kernel, self.bandwidth_)
            system = nystrom_system(operator, problem.Y, problem.w)
            path = system.path()
            best, tried = best_penalty(path, penalties, problem.loss, bandwidth=self.bandwidth_)
            scores = path.leave_one_out(best.penalty)
            self.selection_seconds_ = time.perf_counter() - start
            coef = system.coefficients(best.penalty)
        else:
            # The factorisation that counts is in float64 whatever the features are; small problems
            # are in float64 throughout.
            small = len(subset) == n
            Z = problem.X
            whole = problem.double() if small else problem
            K = kernel_matrix(whole.X, whole.X, self.kernel, self.bandwidth_)
            best, scores, tried = descend_penalties(
                K,
                whole.Y,
                whole.w,
                start=best,
                penalties=(best.penalty,) if small else penalties,
                loss=whole.loss,
            )
            self.selection_seconds_ = time.perf_counter() - start
            exact = problem.double()
            coef = exact_solution(K.double(), exact.Y, exact.w, best.penalty).alpha
        self.penalty_ = best.penalty
        self.candidates_ += tried
        self.centers_ = Z.numpy() + self._offset
        self.n_centers_ = len(centers)
        # Row-major, as it comes back from a file: the last bits of a product depend on the layout.
        self.dual_coef_ = np.ascontiguousarray(coef.numpy())
        return scores

    def _resolve_n_centers(self, n: int) -> int:
        """Return the number of centers for n samples."""
        if isinstance(self.n_centers, str):
            if self.n_centers == "auto":
                return automatic_n_centers(n)
        elif isinstance(self.n_centers, Integral) and self.n_centers > 0:
            return min(int(self.n_centers), n)
        raise ValueError(f'n_centers must be "auto" or an integer > 0, got {self.n_centers!r}')

    def _scores(
        self,
        X: NDArray[Any],  # (n, d)
    ) -> NDArray[np.float64]:  # (n, c)
        """Scores of all classes, one column each."""
        dtype = np.result_type(X, self.centers_)
        operator = KernelOperator(
            torch.from_numpy((X - self._offset).astype(dtype, copy=False)),
            torch.from_numpy((self.centers_ - self._offset).astype(dtype, copy=False)),
            self.kernel,
            self.bandwidth_,
        )
        out: NDArray[np.float64] = operator.matmul(torch.from_numpy(self.dual_coef_)).numpy()
        return out

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, float | str]]:
        """Return what prediction needs, as arrays and numbers, for a file without pickle.

        Returns
        -------
        arrays : dict
            centers (m, d), dual_coef (m, c), offset (d,) and loo_scores (n, c).
        numbers : dict
            kernel, bandwidth, penalty, temperature, loo_accuracy and loo_log_loss.
        """
        check_is_fitted(self)
        arrays = {
            "centers": self.centers_,
            "dual_coef": self.dual_coef_,
            "offset": self._offset,
            "loo_scores": self.loo_decision_function_,
        }
        numbers: dict[str, float | str] = {
            "kernel": self.kernel,
            "bandwidth": self.bandwidth_,
            "penalty": self.penalty_,
            "temperature": self.temperature_,
            "loo_accuracy": self.loo_accuracy_,
            "loo_log_loss": self.loo_log_loss_,
        }
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
        self.centers_, self.dual_coef_ = arrays["centers"], arrays["dual_coef"]
        self._offset, self.loo_decision_function_ = arrays["offset"], arrays["loo_scores"]
        (m, d), c = self.centers_.shape, len(self.classes_)
        shapes = self.dual_coef_.shape, self._offset.shape, self.loo_decision_function_.shape[1:]
        if shapes != ((m, c), (d,), (c,)):
            raise ValueError(f"shapes of dual_coef, offset, loo_scores do not fit: {shapes}")
        check_kernel(numbers["kernel"])
        self.kernel = numbers["kernel"]
        self.bandwidth_, self.penalty_ = numbers["bandwidth"], numbers["penalty"]
        self.temperature_ = numbers["temperature"]
        self.loo_accuracy_, self.loo_log_loss_ = numbers["loo_accuracy"], numbers["loo_log_loss"]
        self.n_centers_, self.n_features_in_ = m, d
        return self

    def _checked_scores(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._scores(rows)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores of the classes; about +1 for the right one and -1 for the others.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.

        Returns
        -------
        ndarray of shape (n, c), or (n,) for two classes: the score of `classes_[1]`.
        """
        scores = self._checked_scores(X)
        return scores[:, 1] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.

        Returns
        -------
        ndarray of shape (n, c), rows summing to one.
        """
        return self.probabilities(self._checked_scores(X))

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Turn scores of all classes, such as `loo_decision_function_`, into probabilities.

        Parameters
        ----------
        scores : array-like of shape (n, c)
            One column a class, also for two classes.

        Returns
        -------
        ndarray of shape (n, c), rows summing to one.
        """
        out: NDArray[np.float64] = softmax(np.asarray(scores) / self.temperature_, axis=1)
        return out

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Label of the highest score.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.

        Returns
        -------
        ndarray of shape (n,)
        """
        scores = self._checked_scores(X)  # also what tells that the model is fitted
        labels: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return labels
