"""What a classifier keeps of its fit, and leave-one-out from it, computed when it is asked for.

`bordering` and `updating` have the arithmetic of what is kept, `changing` the changes that it makes
possible. Letters: n samples, m centers, d features, c classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from toptune.errors import DataError, NotKeptError
from toptune.kernel.base import ROUNDED_PENALTY, KernelEstimator, Problem, Solution
from toptune.kernel.drift import Coverage, quantile_rows, uncovered_part
from toptune.kernel.kernels import kernel_diagonal, kernel_matrix
from toptune.kernel.linalg.triangular import pack_lower, unpack_lower, upper_matmul
from toptune.kernel.operators import KernelOperator, Rows
from toptune.kernel.selection.calibration import fit_temperature
from toptune.kernel.selection.search import SELECTION_SAMPLES
from toptune.kernel.systems.bordering import ExactStatistics
from toptune.kernel.systems.nystrom import NystromSystem, whitening
from toptune.kernel.systems.updating import NystromStatistics

#: Most bytes that rows, or the gram matrices of all classes, may take to be kept.
KEPT_BYTES = 2**30
#: In place of the row of a center: its sample was taken away; or it is none of the model's samples,
#: but a center of another model.
TAKEN_AWAY, OF_ANOTHER_MODEL = -1, -2
#: What is computed when it is first asked for.
LEFT_OUT = ("loo_decision_function_", "temperature_", "loo_accuracy_", "loo_log_loss_")
#: How much of what is kept goes into a file.
Keep = Literal["nothing", "sums", "rows"]
Statistics = ExactStatistics | NystromStatistics

_K = TypeVar("_K", bound="KeepingClassifier")


class KeepingClassifier(KernelEstimator):
    """What a fitted `KernelClassifier` keeps of its samples: the base of its changes."""

    classes_: NDArray[Any]
    class_weight: Any
    penalty_: float
    kernel_: str
    bandwidth_: float
    centers_: NDArray[Any]
    center_indices_: NDArray[np.intp]
    dual_coef_: NDArray[np.float64]
    selection_seconds_: float
    _offset: Tensor
    _feature_scale: Tensor | None
    sample_codes_: NDArray[np.intp]  # (n,) classes of the samples
    _groups: NDArray[np.intp] | None  # (n,) codes of what is left out together
    _kept: Statistics | None
    _absent: str  # why sums are not kept; empty: they are, or follow from the centers
    _rowless: str  # why rows are not kept
    _coverage: Coverage | None

    # --------------------------------------------------------------------- after a fit

    def _keep(self, problem: Problem, solution: Solution, *, plain: bool) -> None:
        """Keep what changes need; `plain` says that the weights are those of the classes."""
        system, n = solution.kept, len(problem)
        self.sample_codes_, self._groups = problem.strata, problem.groups
        self._kept, self._coverage = None, Coverage(n)
        self._absent = self._rowless = ""
        if problem.targets.ndim > 1:
            self._absent = "it has several labels per sample"
        elif not plain:
            self._absent = "it was fitted with weights of samples, or with a class of weight zero"
        elif system is None:
            self._absent = f"its solver, {self.plan_.solver}, forms no sums over samples"
        elif isinstance(system, Tensor):
            if system.nbytes <= KEPT_BYTES:
                self._kept = ExactStatistics(system, self.sample_codes_)
        else:
            self._keep_system(problem, solution, system)

    def _keep_system(self, problem: Problem, solution: Solution, system: NystromSystem) -> None:
        c, m = problem.Y.shape[1], len(solution.centers)
        size = len(problem) * m * problem.Y.element_size()
        keep = system.Phi is not None and size <= KEPT_BYTES
        if not keep:
            self._rowless = f"its kernel rows take {size / 1e9:.1f} GB and were not kept"
        balanced = self._balanced()
        if balanced and 8 * c * m * m > KEPT_BYTES:
            self._absent = f'class_weight="balanced" needs a sum for each of {c} classes: too large'
        elif balanced and not keep:
            self._absent = (
                f'class_weight="balanced" needs a sum for each class, and {self._rowless}'
            )
        if self._absent:
            return
        self._kept = NystromStatistics.of_system(
            system,
            self.sample_codes_,
            self._class_weights(self.classes_, self.sample_codes_),
            balanced=balanced,
            keep=keep,
        )
        rows = quantile_rows(len(problem), solution.centers)
        Phi = (
            self._kept.Phi[0][rows]
            if self._kept.Phi
            else upper_matmul(system.operator.block(rows), system.whiten)
        )
        parts = self._parts(problem.X.take(rows), Phi)
        self._coverage = Coverage.of(len(problem), parts)

    def _statistics(self, centers: Rows | None = None) -> Statistics:
        """Return what was kept, ready to be changed.

        Raises
        ------
        NotKeptError
            If nothing was.
        """
        check_is_fitted(self)
        if self._absent:
            raise NotKeptError(f"this model cannot be changed: {self._absent}")
        if self._kept is None:
            self._kept = self._exact_statistics(centers)
        if isinstance(self._kept, NystromStatistics) and self._kept.grams is None:
            weights = self._class_weights(self.classes_, self.sample_codes_)
            self._kept = self._kept.by_class(weights)
        return self._kept

    def _exact_statistics(self, centers: Rows | None) -> ExactStatistics:
        """Return the kernel matrix of the centers, which are all samples."""
        Z = self._center_rows(centers)
        single = Z.dtype == torch.float32 and len(Z) > SELECTION_SAMPLES
        if single:  # as in the fit: float64 where the penalty is near the rounding of float32
            w = torch.as_tensor(self._sample_weights())
            diagonal = kernel_diagonal(Z.all(), self.kernel_, self.bandwidth_).cpu().double()
            single = ROUNDED_PENALTY * float(w @ diagonal) < self.penalty_ * float(w.sum())
        X = replace(Z, dtype=torch.float32 if single else torch.float64).all()
        K = kernel_matrix(X, X, self.kernel_, self.bandwidth_)
        return ExactStatistics(K, self.sample_codes_)

    def _has_rows(self) -> bool:
        """Whether leave-one-out scores can be computed from what is kept."""
        return not self._absent and (self._kept is None or self._kept.has_rows)

    def _knows_left_out(self) -> bool:
        """Whether there are leave-one-out scores, or they can be computed."""
        return LEFT_OUT[0] in vars(self) or self._has_rows()

    def _changed(
        self: _K,
        statistics: Statistics,
        classes: NDArray[Any],
        groups: ArrayLike | None,
        *,
        centers: NDArray[Any] | None = None,
        indices: NDArray[np.intp] | None = None,
    ) -> _K:
        """Return a copy solved for other statistics; its leave-one-out waits to be asked for."""
        new = copy.copy(self)
        for name in LEFT_OUT:
            new.__dict__.pop(name, None)
        new.classes_, new._kept, new.sample_codes_ = classes, statistics, statistics.codes
        new._groups = self._group_codes(groups, np.ones(len(statistics.codes), dtype=bool))
        if centers is not None:
            new.centers_, new.n_centers_ = centers, len(centers)
        if indices is not None:
            new.center_indices_ = indices
        weights = new._class_weights(classes, statistics.codes)
        alpha = statistics.coefficients(weights, new.penalty_)
        new.dual_coef_ = np.ascontiguousarray(alpha.cpu().numpy())
        new.selection_seconds_ = 0.0
        if not statistics.has_rows:
            new.temperature_ = self.temperature_
        return new

    # ----------------------------------------------------------------------- leave-one-out

    @cached_property
    def loo_decision_function_(self) -> NDArray[Any]:
        """Leave-one-out scores of the samples."""
        if not self._has_rows():
            why = self._absent or self._rowless
            raise NotKeptError(f"leave-one-out after a change is not known: {why}")
        weights = self._class_weights(self.classes_, self.sample_codes_)
        scores = self._statistics().leave_one_out(weights, self.penalty_, self._groups)
        out: NDArray[Any] = scores.cpu().numpy()
        return out

    @cached_property
    def temperature_(self) -> float:
        """Divisor of the scores before the softmax."""
        temperature, self.loo_log_loss_ = self._calibrated()
        return temperature

    @cached_property
    def loo_log_loss_(self) -> float:
        """Log-loss of the leave-one-out scores, nats."""
        self.temperature_, loss = self._calibrated()
        return loss

    @cached_property
    def loo_accuracy_(self) -> float:
        """Weighted accuracy of the leave-one-out scores."""
        hits = self.loo_decision_function_.argmax(axis=1) == self.sample_codes_
        return float(np.average(hits, weights=self._sample_weights()))

    def _calibrated(self) -> tuple[float, float]:
        return fit_temperature(
            torch.from_numpy(self.loo_decision_function_),
            torch.as_tensor(self.sample_codes_),
            torch.as_tensor(self._sample_weights()),
        )

    # ------------------------------------------------------------------------------ weights

    def _balanced(self) -> bool:
        """Whether the weights of the classes change with their counts."""
        return isinstance(self.class_weight, str)

    def _class_weights(
        self,
        classes: NDArray[Any],  # (c,)
        codes: NDArray[np.intp],  # (n,)
    ) -> NDArray[np.float64]:  # (c,)
        if self.class_weight is None:
            return np.ones(len(classes))
        weights = compute_class_weight(self.class_weight, classes=classes, y=classes[codes])
        return np.asarray(weights, dtype=np.float64)

    def _sample_weights(self) -> NDArray[np.float64]:  # (n,)
        return self._class_weights(self.classes_, self.sample_codes_)[self.sample_codes_]

    # ----------------------------------------------------------------------- kernel values

    def _placed_rows(self, X: ArrayLike | Rows) -> Rows:
        """Rows as the kernel takes them, checked against the fit."""
        rows = replace(
            self._rows(X, reset=False)[0], offset=self._offset, scale=self._feature_scale
        )
        double = self.centers_.dtype == np.float64
        return replace(rows, dtype=torch.float64) if double else rows

    def _center_rows(self, centers: Rows | None = None) -> Rows:
        """Rows of the centers, from `centers` where they are known more precisely."""
        return self._placed_rows(Rows(self.centers_) if centers is None else centers)

    def _phi(
        self,
        rows: Rows,
        whiten: Tensor,  # (m, m)
    ) -> tuple[Tensor, Tensor]:  # (k, m), (k,)
        """Rows phi_i of samples, and the part of each that the centers do not cover."""
        rows = replace(rows, dtype=whiten.dtype)
        Z = replace(self._center_rows(), dtype=whiten.dtype).all()
        operator = KernelOperator(rows, Z, self.kernel_, self.bandwidth_)
        Phi = torch.empty(operator.shape, dtype=whiten.dtype, device=whiten.device)
        parts = torch.empty(len(rows), dtype=torch.float64, device=whiten.device)
        for part in operator.slices():
            X = rows.read(part)
            K = kernel_matrix(X, Z, self.kernel_, self.bandwidth_)
            upper_matmul(K, whiten, out=Phi[part])
            parts[part] = uncovered_part(Phi[part], X, self.kernel_, self.bandwidth_)
        return Phi, parts

    def _whiten_of(
        self,
        kept: NDArray[np.bool_],  # (m,)
        statistics: NystromStatistics,
    ) -> Tensor:  # (m', m')
        """L^-T of some of the centers."""
        if not kept.any():
            raise DataError("no center would be left: train anew")
        Z = replace(self._center_rows().take(kept), dtype=statistics.whiten.dtype)
        return whitening(KernelOperator(Z, Z.all(), self.kernel_, self.bandwidth_))

    def _parts(self, rows: Rows, Phi: Tensor) -> Tensor:  # (k,)
        return uncovered_part(Phi, rows.all(), self.kernel_, self.bandwidth_)

    def _border(
        self,
        rows: Rows,
        others: Rows,
    ) -> tuple[Tensor, Tensor]:  # (k, n), (k, k)
        """Kernel values of samples with others, and with each other."""
        X = rows.all()
        operator = KernelOperator(
            replace(others, dtype=rows.dtype), X, self.kernel_, self.bandwidth_
        )
        cross = torch.cat([K for _, K in operator.blocks()])
        return cross.T, kernel_matrix(X, X, self.kernel_, self.bandwidth_)

    # ------------------------------------------------------------------------------- files

    def update_state(self, keep: Keep) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what changes need, as arrays and numbers, for a file without pickle.

        Where all samples are centers that is nothing beyond `state`.

        Parameters
        ----------
        keep : {"nothing", "sums", "rows"}
            Sums let samples be added and models be merged; rows also let samples be taken away.

        Returns
        -------
        arrays : dict
            whiten (m (m + 1) / 2,), grams (g, m (m + 1) / 2), class_sums (m, c) and rows (n, m), as
            far as they are kept.
        numbers : dict
            absent and rowless, which say why something is not kept; coverage; and left_out, whether
            leave-one-out scores are known.
        """
        numbers: dict[str, Any] = {"absent": self._absent, "rowless": self._rowless}
        numbers["left_out"] = self._knows_left_out()
        numbers["coverage"] = None if self._coverage is None else asdict(self._coverage)
        if self._absent or not isinstance(self._kept, NystromStatistics):
            return {}, numbers
        if keep == "nothing":
            return {}, numbers | {"absent": 'its file was written with keep="nothing"'}
        kept = self._statistics()
        assert isinstance(kept, NystromStatistics)
        assert kept.grams is not None
        arrays = {
            "whiten": pack_lower(kept.whiten.T.cpu().numpy()),
            "grams": np.stack([pack_lower(gram.cpu().numpy()) for gram in kept.grams]),
            "class_sums": kept.class_sums.cpu().numpy(),
        }
        if keep == "rows" and kept.has_rows:
            arrays["rows"] = kept.rows("the file").cpu().numpy()
        elif kept.has_rows:
            numbers["rowless"] = 'its file was written without kernel rows, which keep="rows" adds'
        return arrays, numbers

    def _check_absent(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse sums in part, and none where nothing says why and the centers do not give them."""
        others = [name for name in ("whiten", "class_sums", "rows") if name in arrays]
        if others:
            raise ValueError(f"there are {', '.join(others)} but no grams")
        samples = np.arange(len(self.sample_codes_))
        if not self._absent and not np.array_equal(self.center_indices_, samples):
            raise ValueError("there are no grams, and the centers are not all samples")

    def restore_update_state(
        self,
        codes: NDArray[np.intp],
        arrays: Mapping[str, NDArray[Any]],
        numbers: Mapping[str, Any],
        groups: ArrayLike | None,
    ) -> None:
        """Take back what `update_state` returned.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            Classes of the samples.
        arrays, numbers : dict
            What `update_state` returned.
        groups : array-like of shape (n,) or None
            Names of the groups of the samples.

        Raises
        ------
        ValueError
            If shapes disagree with each other, or some of the sums are missing.
        """
        self.sample_codes_ = codes
        self._groups = self._group_codes(groups, np.ones(len(codes), dtype=bool))
        self._absent, self._rowless = numbers["absent"], numbers["rowless"]
        coverage = numbers["coverage"]
        self._coverage = None if coverage is None else Coverage(**coverage)
        self._kept = None
        if "grams" not in arrays:
            self._check_absent(arrays)
            return
        m, c = self.dual_coef_.shape
        device = self._device()
        grams = np.stack([unpack_lower(packed, m) for packed in arrays["grams"]])
        rows = arrays.get("rows")
        shapes = (arrays["class_sums"].shape, None if rows is None else rows.shape)
        if shapes != ((m, c), None if rows is None else (len(codes), m)):
            raise ValueError(f"shapes of class_sums and rows do not fit: {shapes}")
        whiten = np.tril(unpack_lower(arrays["whiten"], m)).T
        self._kept = NystromStatistics(
            torch.from_numpy(np.ascontiguousarray(whiten)).to(device),
            torch.from_numpy(grams).to(device),
            torch.tensor(arrays["class_sums"], device=device),
            codes,
            None if rows is None else (torch.tensor(rows, device=device),),
        )
