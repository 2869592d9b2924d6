"""Classifiers with the centers of another one: fitted on other samples, and merged with each other.

Letters: n samples, m centers, d features, c classes.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from toptune.errors import DataError
from toptune.kernel.base import ROUNDED_PENALTY
from toptune.kernel.changing import ChangeableClassifier
from toptune.kernel.drift import Coverage, left_out_parts, quantile_rows
from toptune.kernel.kept import OF_ANOTHER_MODEL
from toptune.kernel.kernels import kernel_diagonal, kernel_matrix
from toptune.kernel.operators import KernelOperator, Rows
from toptune.kernel.systems.bordering import ExactStatistics, signs
from toptune.kernel.systems.nystrom import nystrom_system, whitening
from toptune.kernel.systems.updating import NystromStatistics

_S = TypeVar("_S", bound="SharingClassifier")


class SharingClassifier(ChangeableClassifier):
    """What a fitted `KernelClassifier` does with others that have its centers.

    With several labels, sample weights or an iterative solver it is nothing: `NotKeptError`.
    """

    def merge(self: _S, other: _S, *, groups: ArrayLike | None = None) -> _S:
        """Return the classifier of the samples of two with the same centers.

        Parameters
        ----------
        other : KernelClassifier
            Fitted by `fit_with_centers`, or what `fit_with_centers` was called on.
        groups : array-like of shape (n1 + n2,), optional
            Groups of all samples; None: every sample by itself.

        Returns
        -------
        KernelClassifier
            With the penalty of this one.

        Raises
        ------
        NotKeptError
            If one of the fits kept no sums.
        DataError
            If classes, class weights, kernel or centers differ.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        self._check_same_centers(other)
        mine, theirs = self._statistics(), other._statistics()
        if isinstance(mine, ExactStatistics) and isinstance(theirs, ExactStatistics):
            raise DataError(
                "both models have all of their images as centers, and these are the same: there is "
                "nothing to merge"
            )
        found = [s.whiten for s in (mine, theirs) if isinstance(s, NystromStatistics)]
        # The less precise basis: turned to the other one, its rounding errors would be amplified.
        whiten = min(found, key=lambda whiten: whiten.element_size())
        both = [model._nystrom(whiten) for model in (self, other)]
        here, there = self.center_indices_, other.center_indices_
        there = np.where(there < 0, there, there + len(mine.codes))
        indices = np.where(here < 0, np.maximum(here, there), here)
        merged = self._changed(both[0].joined(both[1]), self.classes_, groups, indices=indices)
        if not merged._has_rows():
            n = len(mine.codes), len(theirs.codes)
            merged.temperature_ = float(
                np.average([self.temperature_, other.temperature_], weights=n)
            )
            merged._rowless = self._rowless or other._rowless
        if self._coverage is not None and other._coverage is not None:
            merged._coverage = self._coverage.joined(other._coverage)
        return merged

    def fit_with_centers(
        self: _S,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        class_weight: Any = None,
        penalty: float | None = None,
    ) -> _S:
        """Return a classifier of other samples with the centers of this one.

        Kernel, bandwidth and weights of feature groups are those of this one too; all of its
        `fit_with_centers` can be merged with each other.

        Parameters
        ----------
        X : array-like of shape (n, d), or Rows
            Features, finite.
        y : array-like of shape (n,)
            Labels, of at least two classes.
        groups : array-like of shape (n,), optional
            Which samples belong together.
        class_weight : dict, "balanced" or None, default=None
            As for `KernelClassifier`.
        penalty : float, optional
            Ridge penalty; None: by leave-one-out on the new samples.

        Returns
        -------
        KernelClassifier
        """
        check_is_fitted(self)
        labels = column_or_1d(y)
        rows = self._placed_rows(X)
        check_consistent_length(rows, labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"training needs at least two classes, got {classes.tolist()}")
        new = copy.copy(self)
        new.class_weight, new._absent, new._rowless = class_weight, "", ""
        if penalty is not None:
            new.penalty_ = penalty
        weights = new._class_weights(classes, codes)
        Z = self._center_rows().all()
        mean = float(kernel_diagonal(Z, self.kernel_, self.bandwidth_).double().mean())
        # In the directions that no sample reaches there is rounding alone, over the penalty.
        if len(codes) < len(Z) or new.penalty_ <= ROUNDED_PENALTY * mean:
            rows = replace(rows, dtype=torch.float64)
        Z = Z.to(rows.dtype)
        w = torch.as_tensor(weights[codes], dtype=rows.dtype, device=rows.device)
        operator = KernelOperator(rows, Z, self.kernel_, self.bandwidth_)
        whiten = self._kept.whiten if isinstance(self._kept, NystromStatistics) else None
        if whiten is None or whiten.dtype != Z.dtype:
            whiten = whitening(operator)
        system = nystrom_system(operator, signs(codes, len(classes), w), w, whiten=whiten)
        statistics = NystromStatistics.of_system(
            system, codes, weights, balanced=new._balanced(), keep=True
        )
        if statistics.grams is None:
            statistics = statistics.by_class(weights)
        foreign = np.full(len(Z), OF_ANOTHER_MODEL)
        new = new._changed(statistics, classes, groups, indices=foreign)
        some = quantile_rows(len(codes), foreign)
        parts = self._parts(rows.take(some), statistics.rows("coverage")[some])
        limit = None if self._coverage is None else self._coverage.limit
        if limit is None:  # all of its samples were centers
            limit = Coverage.of(
                len(Z), left_out_parts(whiten, Z, self.kernel_, self.bandwidth_)
            ).limit
        new._coverage = Coverage(len(codes), limit).added(parts)
        return new if penalty is not None else new.reselect_penalty()

    # ------------------------------------------------------------------------------- details

    def _nystrom(
        self,
        whiten: Tensor,  # (m, m)
    ) -> NystromStatistics:
        """Return what is kept as sums made with this `whiten`, for the same centers."""
        statistics = self._statistics()
        if isinstance(statistics, NystromStatistics):
            return statistics.rebased(whiten)
        K = statistics.K
        if K.element_size() < whiten.element_size():  # its rounding errors would be amplified
            Z = replace(self._center_rows(), dtype=whiten.dtype).all()
            K = kernel_matrix(Z, Z, self.kernel_, self.bandwidth_)
        Phi = K.to(whiten.dtype) @ whiten
        weights = self._class_weights(self.classes_, statistics.codes)
        return NystromStatistics.of_rows(
            whiten, Phi, statistics.codes, weights, balanced=self._balanced()
        )

    def _check_same_centers(self, other: SharingClassifier) -> None:
        """Refuse a classifier whose sums do not add to those of this one."""
        if self.classes_.tolist() != other.classes_.tolist():
            raise DataError(
                f"the models have different classes, {self.classes_.tolist()} and "
                f"{other.classes_.tolist()}: sums of other classes do not add up"
            )
        if self.class_weight != other.class_weight:
            raise DataError(
                f"the models have different class_weight, {self.class_weight!r} and "
                f"{other.class_weight!r}"
            )
        same = (
            (self.kernel_, self.bandwidth_) == (other.kernel_, other.bandwidth_)
            and np.array_equal(self.centers_, other.centers_)
            and np.array_equal(self._offset, other._offset)
            and np.array_equal(self._feature_scale_array(), other._feature_scale_array())
        )
        if not same:
            raise DataError(
                "the models have different centers, or another kernel or bandwidth: train both "
                "with the centers of one model, centers="
            )
