"""What the kernel estimators share: from samples and targets to hyperparameters and coefficients.

Policy lives here (dtype, device, memory, number of centers, what is chosen on which samples); the
arithmetic is in the other modules. Letters: n samples, m centers, d features, c outputs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from toptune.kernel.kernels import INNER, check_kernel, kernel_matrix
from toptune.kernel.linalg.cholesky import NotPositiveDefiniteError
from toptune.kernel.operators import KernelOperator, Rows
from toptune.kernel.selection.centers import (
    CENTERS,
    balanced_centers,
    uniform_centers,
)
from toptune.kernel.selection.planning import PROXY_CENTERS, Plan, available_memory, make_plan
from toptune.kernel.selection.search import (
    PENALTIES,
    SELECTION_SAMPLES,
    Candidate,
    Index,
    as_float,
    descend_penalties,
    select,
    selection_subset,
    whole_group_subset,
)
from toptune.kernel.solvers.falkon import falkon
from toptune.kernel.systems.exact import exact_solution
from toptune.kernel.systems.nystrom import PENALTY_ROWS, NystromSystem, nystrom_system
from toptune.kernel.terms import ScoreTerms, score_terms

SOLVERS = ("auto", "direct", "falkon")
#: Penalty, over the mean of the kernel's diagonal, down to which float32 entries do: their rounding
#: moves eigenvalues of K by a few eps times its Frobenius norm, which is at most its trace.
ROUNDED_PENALTY = 10 * torch.finfo(torch.float32).eps
#: What features may be kept in; anything else becomes the first.
DTYPES = (np.float64, np.float32, np.float16)
#: Relative residual at which conjugate gradient may stop for rounding without a warning.
STAGNATED_RESIDUAL = 1e-4

#: Loss of scores (n, c) for targets (n, ...) with weights (n,), differentiable; smaller is better.
Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]


#: The kernel is chosen among `AUTO_KERNELS`, the first where they tie: the radial one follows the
#: data where there is enough, the linear one reaches farther from it. No other one paid.
AUTO = "auto"
AUTO_KERNELS = ("gaussian", "linear")


def _origin(kernel: str, mean: Tensor) -> Tensor:  # (d,)
    """Where the origin of the features is put for a kernel.

    Distances do not change when it moves, and rounding errors are least when it is the mean, of
    which that of a subset is near enough. Inner products have no such freedom.
    """
    return torch.zeros_like(mean) if kernel in INNER else mean


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples and targets on their way to a solver."""

    X: Rows
    Y: Tensor  # (n, c), what the scores are fitted to
    w: Tensor  # (n,), all > 0
    targets: Tensor  # (n, ...), what the criterion compares scores with
    strata: NDArray[np.intp]  # (n,), classes for subsets and centers to keep apart
    criterion: Criterion
    groups: NDArray[np.intp] | None = None  # (n,), codes of what is left out together

    def __len__(self) -> int:
        return len(self.w)

    def take(self, rows: NDArray[np.intp]) -> Problem:
        """Return the problem of some of the samples."""
        return replace(
            self,
            X=self.X.take(rows),
            Y=self.Y[rows],
            w=self.w[rows],
            targets=self.targets[rows],
            strata=self.strata[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def double(self) -> Problem:
        """Return the same problem in float64."""
        X = replace(self.X, dtype=torch.float64)
        return replace(self, X=X, Y=self.Y.double(), w=self.w.double())

    def loss_of(
        self,
        scores: Tensor,  # (k, c)
        rows: Index,  # k of the samples
    ) -> Tensor:
        """Return what the selection minimises, for some of the samples."""
        return self.criterion(scores, self.targets[rows], self.w[rows])

    def loss(
        self,
        scores: Tensor,  # (n, c)
    ) -> float:
        """Return what the selection minimises."""
        return float(self.loss_of(scores, slice(None)))


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients, and leave-one-out scores of the samples."""

    alpha: Tensor  # (m, c) float64
    centers: NDArray[np.intp]  # (m,)
    penalty: float
    scores: Tensor  # (n, c)
    tried: Sequence[Candidate]
    selected_at: float  # time.perf_counter() when the penalty was known
    n_iter: int = 1
    kept: NystromSystem | Tensor | None = None  # the system solved, or K where all are centers


class KernelEstimator(BaseEstimator):  # type: ignore[misc]
    """Parameters and solution that `KernelClassifier` and `KernelRegressor` have in common."""

    kernel: str
    bandwidth: float | str
    penalty: float | str
    n_centers: int | str
    centers: str
    solver: str
    feature_groups: Sequence[int] | None
    group_weights: Sequence[float] | str
    memory: float | str
    device: str
    random_state: int | np.random.RandomState | None

    #: Whether penalties below what the kernel matrix resolves are left out of the choice. Smooth
    #: functions without noise gain from them; classes do not, and are spared a matrix in float64.
    _resolved_penalties = False

    # ---------------------------------------------------------------------------- input

    def _check_parameters(self) -> None:
        if self.kernel != AUTO:
            check_kernel(self.kernel)
        for name, value, known in (
            ("centers", self.centers, self._kinds_of_centers()),
            ("solver", self.solver, SOLVERS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")

    def _kinds_of_centers(self) -> tuple[str, ...]:
        return CENTERS

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(
                f'device must be "auto", "cpu" or "cuda", got {self.device!r}'
            ) from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device is {self.device!r}, but PyTorch finds no CUDA device here")
        return device

    def _rows(self, X: ArrayLike | Rows, **check: Any) -> tuple[Rows, Any]:
        """Return X as rows on the device, and what validation returned for y, if it was given.

        Whether values are finite is seen when blocks are read: a pass over the data in advance
        would cost as much as reading it.
        """
        if isinstance(X, Rows):
            array, y = self._given_rows(X, **check)
            rows = replace(X, data=array)
        else:
            checked = validate_data(self, X, dtype=DTYPES, ensure_all_finite=False, **check)
            array, y = checked if "y" in check else (checked, None)
            rows = Rows(array)
        double = torch.float64 if isinstance(array, Tensor) else np.float64
        dtype = torch.float64 if array.dtype == double else torch.float32
        # The targets are few: an indicator matrix that came sparse goes on as an array.
        y = y.toarray() if issparse(y) else y
        return replace(rows, dtype=dtype, device=self._device()), y

    def _given_rows(
        self, X: Rows, *, reset: bool = True, **check: Any
    ) -> tuple[NDArray[Any] | Tensor, Any]:
        """Check rows that were given as such; return their data as floating numbers, and y.

        Only rows that the index selects count: the data may be all of a file.
        """
        for name in ("offset", "scale"):
            if getattr(X, name) is not None:
                raise ValueError(
                    f"an estimator sets offset and scale of its rows, but they came with a {name}: "
                    "apply it to the data, or in transform"
                )
        data = X.data
        if not isinstance(data, Tensor):
            data = check_array(data, dtype=DTYPES, ensure_all_finite=False, estimator=self)
        elif data.ndim != 2 or data.is_complex():
            raise ValueError(
                f"features must be a matrix (n, d) of real numbers, got a tensor of shape "
                f"{tuple(data.shape)} and {data.dtype}"
            )
        else:
            data = data.detach() if data.is_floating_point() else data.double()
        if len(X) == 0:
            raise ValueError("features must have at least one row, got none")
        validate_data(self, data, skip_check_array=True, reset=reset)  # number of columns
        if "y" not in check:
            return data, None
        y = validate_data(self, reset=False, **check)
        check_consistent_length(X, y)
        return data, y

    def _group_codes(
        self,
        groups: ArrayLike | None,  # (n,)
        kept: NDArray[np.bool_],  # (n,)
    ) -> NDArray[np.intp] | None:
        """Codes of the groups of the samples that are kept; None where each is its own."""
        if groups is None:
            return None
        names = column_or_1d(groups)
        check_consistent_length(names, kept)
        codes: NDArray[np.intp] = np.unique(names[kept], return_inverse=True)[1]
        count = int(codes.max(initial=-1)) + 1
        if count < 2:
            raise ValueError(f"groups must be at least two different ones, got {count}")
        return codes if count < len(codes) else None

    def _scale(self, d: int, weights: Sequence[float]) -> Tensor | None:  # (d,)
        """Factors of the features that make distances weighted sums over groups."""
        if not weights:
            return None
        widths = torch.tensor(self._widths(d))
        roots = torch.tensor(weights, dtype=torch.float64).sqrt()
        return torch.repeat_interleave(roots, widths).to(self._device())

    def _widths(self, d: int) -> list[int]:
        if self.feature_groups is None:
            return [d]
        widths = [int(width) for width in self.feature_groups]
        if sum(widths) != d or min(widths, default=0) < 1:
            raise ValueError(
                f"feature_groups must be numbers of columns > 0 that add up to {d}, got "
                f"{self.feature_groups!r}"
            )
        return widths

    def _feature_scale_array(self) -> NDArray[np.float64]:  # (d,)
        """Factors of the features, ones where there are no groups."""
        if self._feature_scale is None:
            return np.ones(self.n_features_in_)
        out: NDArray[np.float64] = self._feature_scale.cpu().numpy()
        return out

    def feature_shares(self) -> NDArray[np.float64]:  # (d,)
        """Part that each feature has in the mean squared distance of two centers, weights applied.

        Returns
        -------
        ndarray of shape (d,), adding up to 1.
        """
        check_is_fitted(self)
        Z = self.centers_
        squares = np.einsum("ij,ij->j", Z, Z, dtype=np.float64) / len(Z)  # no copy of Z
        variances = np.maximum(squares - Z.mean(axis=0, dtype=np.float64) ** 2, 0.0)
        shares = self._feature_scale_array() ** 2 * variances
        total = shares.sum()
        out: NDArray[np.float64] = shares / total if total > 0 else np.full(len(shares), np.nan)
        return out

    def _given_weights(self, d: int) -> tuple[float, ...] | None:
        """Weights of the feature groups, empty for none, or None where they are to be chosen."""
        widths = self._widths(d)
        if isinstance(self.group_weights, str):
            if self.group_weights != "auto":
                raise ValueError(
                    f'group_weights must be "auto" or numbers >= 0, got {self.group_weights!r}'
                )
            return () if len(widths) == 1 else None
        weights = tuple(float(value) for value in self.group_weights)
        valid = all(np.isfinite(value) and value >= 0 for value in weights) and any(weights)
        if len(weights) != len(widths) or not valid:
            raise ValueError(
                f"group_weights must be {len(widths)} numbers >= 0, one of them > 0, one for each "
                f"of feature_groups, got {weights}"
            )
        return weights

    def _plan(self, n: int, d: int, c: int, itemsize: int) -> Plan:
        wanted: int | None = None
        if isinstance(self.n_centers, Integral) and self.n_centers > 0:
            wanted = int(self.n_centers)
        if wanted is None and self.n_centers != "auto":
            raise ValueError(f'n_centers must be "auto" or an integer > 0, got {self.n_centers!r}')
        memory = as_float(self.memory, "memory")
        return make_plan(
            n,
            d,
            c,
            n_centers=wanted,
            solver=self.solver,  # type: ignore[arg-type]
            itemsize=itemsize,
            n_groups=1 if self._given_weights(d) is not None else len(self._widths(d)),
            memory=available_memory(self._device()) if memory is None else int(memory),
        )

    # -------------------------------------------------------------------------- solving

    def _solve(self, problem: Problem) -> tuple[Problem, Solution]:
        """Set the hyperparameters, the centers and their coefficients.

        Returns
        -------
        problem, solution
            The problem with its features placed as the kernel takes them, and how it was solved.
        """
        start = time.perf_counter()
        bandwidth = as_float(self.bandwidth, "bandwidth")
        penalty = as_float(self.penalty, "penalty")
        n, d, c = len(problem), problem.X.n_features, problem.Y.shape[1]
        self.plan_ = plan = self._plan(n, d, c, problem.Y.element_size())
        weights = self._given_weights(d)
        random_state = check_random_state(self.random_state)
        subset = selection_subset(problem.strata, SELECTION_SAMPLES, random_state=random_state)
        mean = problem.X.take(subset).all().double().mean(0)
        self.group_weights_ = np.array(weights or [1.0] * len(self._widths(d)))
        penalties = PENALTIES if penalty is None else (penalty,)
        kernels = AUTO_KERNELS if self.kernel == AUTO else (self.kernel,)
        best = Candidate(bandwidth or 0.0, penalties[0], np.inf, kernel=kernels[0])
        self.candidates_: list[Candidate] = []
        given = bandwidth is not None and weights is not None and len(kernels) == 1
        if not given or penalty is None:
            part = problem if len(subset) == n else problem.take(subset)
            best = self._select(part, kernels, mean, bandwidth, penalties, weights)
            if weights is None:
                self.group_weights_ = np.array(best.weights)
        self.kernel_, self.bandwidth_ = best.kernel, best.bandwidth
        self._offset = _origin(best.kernel, mean)
        problem = self._placed(problem, weights or best.weights)
        solve = {
            "exact": self._exact,
            "direct": self._direct,
            "falkon": self._falkon,
        }[plan.solver]
        solution = solve(problem, subset, best, penalties, random_state)
        self.penalty_, self.n_iter_ = solution.penalty, solution.n_iter
        self.selection_seconds_ = solution.selected_at - start
        self.candidates_ += solution.tried
        kept = replace(problem.X, offset=None, scale=None)
        self.centers_ = kept.read(solution.centers).cpu().numpy().copy()
        self.center_indices_ = solution.centers
        self.n_centers_ = len(solution.centers)
        # Row-major, as it comes back from a file: the last bits of a product depend on the layout.
        self.dual_coef_ = np.ascontiguousarray(solution.alpha.cpu().numpy())
        return problem, solution

    def _select(
        self,
        part: Problem,
        kernels: Sequence[str],
        mean: Tensor,  # (d,), of the samples
        bandwidth: float | None,
        penalties: Sequence[float],
        weights: tuple[float, ...] | None,
    ) -> Candidate:
        """Best hyperparameters on some of the samples: of each kernel, then of all kernels."""
        winners = []
        X = part.X.settled() if len(kernels) > 1 else part.X
        self._feature_scale = self._scale(part.X.n_features, weights or ())
        for kernel in kernels:
            placed = replace(X, offset=_origin(kernel, mean), scale=self._feature_scale)
            best, tried = select(
                placed.all(),
                part.Y,
                part.w,
                groups=part.groups,
                kernel=kernel,
                bandwidth=bandwidth,
                penalties=penalties,
                loss=part.loss_of,
                widths=() if weights is not None else self._widths(part.X.n_features),
            )
            winners.append(best)
            self.candidates_ += tried
        return min(winners, key=lambda candidate: candidate.loss)

    def _placed(self, problem: Problem, weights: Sequence[float]) -> Problem:
        self._feature_scale = self._scale(problem.X.n_features, weights)
        X = replace(problem.X, offset=self._offset, scale=self._feature_scale)
        return replace(problem, X=X)

    def _centers(
        self, problem: Problem, m: int, penalty: float, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.intp], Tensor]:
        """Rows that are centers, (m,), and the weight of the samples that each stands for, (m,)."""
        n, w = len(problem), problem.w
        if self.centers == "uniform":
            rows = uniform_centers(n, m, random_state=random_state)
            share = w[rows]
        else:
            rows = balanced_centers(problem.strata, m, random_state=random_state)
            counts = np.bincount(problem.strata)
            taken = np.bincount(problem.strata[rows], minlength=len(counts))
            each = counts / np.maximum(taken, 1)  # samples of a class for each of its centers
            share = torch.as_tensor(each[problem.strata[rows]], dtype=w.dtype, device=w.device)
            share = share * w[rows]
        return rows, share * (w.sum() / share.sum())

    def _operator(self, problem: Problem, centers: NDArray[np.intp]) -> KernelOperator:
        X = problem.X
        return KernelOperator(X, X.read(centers), self.kernel_, self.bandwidth_)

    def _exact(
        self,
        problem: Problem,
        subset: NDArray[np.intp],
        best: Candidate,
        penalties: Sequence[float],
        random_state: np.random.RandomState,
    ) -> Solution:
        n = len(problem)
        # The factorisation that counts is in float64 whatever the features are, and the entries are
        # too where the penalty is near their rounding; small problems are in float64 throughout.
        small = len(subset) == n
        whole = problem.double() if small else problem
        X = whole.X.all()
        K = kernel_matrix(X, X, self.kernel_, self.bandwidth_)
        del X

        def evaluate(penalty: float) -> tuple[float, Tensor | None]:
            try:
                solution = exact_solution(K, whole.Y, whole.w, penalty)
            except NotPositiveDefiniteError:
                return np.inf, None
            scores = solution.leave_one_out(whole.groups)
            return whole.loss(scores), scores

        rounding = 0.0
        if K.dtype != torch.float64:
            rounding = ROUNDED_PENALTY * float(whole.w @ K.diagonal()) / float(whole.w.sum())
        if self._resolved_penalties:
            penalties = tuple(p for p in penalties if p > rounding) or penalties
        start = max(best.penalty, min(penalties))
        penalty, scores, losses = descend_penalties(
            evaluate, start=start, penalties=(start,) if small else penalties
        )
        selected_at = time.perf_counter()
        exact = problem.double()
        if scores is not None and penalty > rounding:
            found = exact_solution(K.double(), exact.Y, exact.w, penalty)
        else:
            X = exact.X.all()
            K = kernel_matrix(X, X, self.kernel_, self.bandwidth_)
            found = exact_solution(K, exact.Y, exact.w, penalty)
            scores = found.leave_one_out(whole.groups).to(whole.Y.dtype)
            losses[penalty] = whole.loss(scores)
        tried = self._as_candidates(losses)
        return Solution(found.alpha, np.arange(n), penalty, scores, tried, selected_at, kept=K)

    def _as_candidates(self, losses: Mapping[float, float]) -> list[Candidate]:
        weights = tuple(self.group_weights_.tolist()) if self._feature_scale is not None else ()
        return [
            Candidate(self.bandwidth_, p, loss, weights, self.kernel_) for p, loss in losses.items()
        ]

    def _direct(
        self,
        problem: Problem,
        subset: NDArray[np.intp],
        best: Candidate,
        penalties: Sequence[float],
        random_state: np.random.RandomState,
        *,
        centers: NDArray[np.intp] | None = None,
    ) -> Solution:
        n = len(problem)
        keep = self.plan_.keep and self.plan_.solver == "direct"
        if centers is None:
            centers, _ = self._centers(problem, self.plan_.n_centers, best.penalty, random_state)
        operator = self._operator(problem, centers)
        system = nystrom_system(operator, problem.Y, problem.w, keep=keep, groups=problem.groups)
        penalty, scores = penalties[0], None
        tried: list[Candidate] = []
        if len(penalties) > 1:
            if problem.groups is None:
                rows = selection_subset(problem.strata, PENALTY_ROWS, random_state=random_state)
            else:
                rows = whole_group_subset(problem.groups, PENALTY_ROWS, random_state=random_state)
            part, some = problem, system
            if len(rows) < n:
                part, some = problem.take(rows), system.part(rows)

            def evaluate(penalty: float) -> tuple[float, Tensor | None]:
                try:
                    scores = some.leave_one_out(penalty)
                except NotPositiveDefiniteError:
                    return np.inf, None
                return part.loss(scores), scores

            penalty, found, losses = descend_penalties(
                evaluate, start=best.penalty, penalties=penalties
            )
            tried = self._as_candidates(losses)
            scores = found if len(rows) == n else None
        selected_at = time.perf_counter()
        alpha = system.coefficients(penalty)
        if scores is None:
            scores = system.leave_one_out(penalty)
        return Solution(alpha, centers, penalty, scores, tried, selected_at, kept=system)

    def _falkon(
        self,
        problem: Problem,
        subset: NDArray[np.intp],
        best: Candidate,
        penalties: Sequence[float],
        random_state: np.random.RandomState,
    ) -> Solution:
        # Exact leave-one-out needs a factorisation of the whole system, which is what conjugate
        # gradient avoids: that of a direct fit with fewer centers stands in for it.
        m = self.plan_.n_centers
        centers, center_weights = self._centers(problem, m, best.penalty, random_state)
        some = np.sort(random_state.permutation(m)[:PROXY_CENTERS])
        proxy = self._direct(problem, subset, best, penalties, random_state, centers=centers[some])
        operator = self._operator(problem, centers)
        found = falkon(
            operator.kept() if self.plan_.keep else operator,
            problem.Y,
            problem.w,
            proxy.penalty,
            center_weights=center_weights,
        )
        # Directions that rounding has made singular do not converge, and hardly matter.
        rounded = found.stagnated and float(found.residual.max()) < STAGNATED_RESIDUAL
        if not (bool(found.converged.all()) or rounded):
            warnings.warn(found.message, ConvergenceWarning, stacklevel=4)
        return replace(
            proxy, alpha=found.value, centers=centers, n_iter=found.iterations, kept=None
        )

    # --------------------------------------------------------------------------- answers

    def _scores(self, rows: Rows) -> NDArray[np.float64]:  # (n, c)
        """Scores of all outputs, one column each."""
        alpha = torch.from_numpy(self.dual_coef_).to(rows.device)
        out: NDArray[np.float64] = self._center_operator(rows).matmul(alpha).cpu().numpy()
        return out

    def _center_operator(self, rows: Rows) -> KernelOperator:
        """K between rows and the centers."""
        centers = torch.from_numpy(self.centers_)
        if centers.dtype == torch.float64:
            rows = replace(rows, dtype=torch.float64)
        rows = replace(rows, offset=self._offset, scale=self._feature_scale)
        Z = replace(rows, data=centers, index=None, transform=None).all()
        return KernelOperator(rows, Z, self.kernel_, self.bandwidth_)

    def score_terms(self, X: ArrayLike | Rows) -> ScoreTerms:
        """Take the scores of a few samples apart into one term for every center.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite; n m numbers are kept.

        Returns
        -------
        ScoreTerms
            Its columns are those of `dual_coef_`.
        """
        check_is_fitted(self)
        operator = self._center_operator(self._rows(X, reset=False)[0])
        alpha = torch.from_numpy(self.dual_coef_).to(operator.Z.device)
        return score_terms(operator, alpha)

    def kernel_space(self, X: ArrayLike | Rows) -> tuple[Rows, Tensor]:
        """Rows and centers as the kernel compares them, in float64.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.

        Returns
        -------
        rows : Rows
            Read them a block at a time.
        Z : Tensor of shape (m, d)
            The centers.
        """
        check_is_fitted(self)
        rows, _ = self._rows(X, reset=False)
        operator = self._center_operator(replace(rows, dtype=torch.float64))
        return operator.X, operator.Z

    def _checked_scores(self, X: ArrayLike | Rows) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self._scores(self._rows(X, reset=False)[0])
