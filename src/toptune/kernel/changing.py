"""A fitted classifier of other samples: some more, some fewer, those of two together.

Each change returns a new classifier and leaves the old one as it is. It is, to rounding, the fit of
the changed samples with the same centers, kernel, bandwidth, weights of feature groups and penalty;
where all samples are centers, they still are. The arithmetic is in `updating`.

What leave-one-out gives (scores, temperature, accuracy) is computed when it is first asked for: it
takes several times as long as the change.

Letters: n samples, m centers, d features, c classes.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from toptune.errors import DataError, NotKeptError
from toptune.kernel.bordering import ExactStatistics, signs
from toptune.kernel.calibration import calibrated_log_loss
from toptune.kernel.cholesky import NotPositiveDefiniteError
from toptune.kernel.coverage import Coverage, quantile_rows
from toptune.kernel.kept import KeepingClassifier
from toptune.kernel.nystrom import PENALTY_ROWS, nystrom_system, whitening
from toptune.kernel.operators import KernelOperator, Rows
from toptune.kernel.selection import (
    PENALTIES,
    descend_penalties,
    selection_subset,
    whole_group_subset,
)
from toptune.kernel.updating import NystromStatistics

_C = TypeVar("_C", bound="ChangeableClassifier")


class ChangeableClassifier(KeepingClassifier):
    """Changes of a fitted `KernelClassifier`.

    With several labels, sample weights or an iterative solver there are none: `NotKeptError`.
    """

    # ------------------------------------------------------------------------------- changes

    def with_samples(
        self: _C,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        centers: Rows | None = None,
    ) -> _C:
        """Return the classifier of these samples besides those it has; a class may be new.

        Parameters
        ----------
        X : array-like of shape (k, d), or Rows
            Features, finite.
        y : array-like of shape (k,)
            Labels.
        groups : array-like of shape (n + k,), optional
            Groups of all samples, those there are first; None: every sample by itself.
        centers : Rows, optional
            Features of the centers where they are known more precisely than in ``centers_``.

        Returns
        -------
        KernelClassifier

        Raises
        ------
        NotKeptError
            If the fit kept no sums.
        DataError
            If the labels are of another kind than those of the model.
        ValueError
            If the features are not finite, or of another number.
        """
        check_is_fitted(self)
        labels = column_or_1d(y)
        rows = self._placed_rows(X)
        check_consistent_length(rows, labels)
        classes, places = self._classes_with(labels)
        statistics = self._statistics(centers)
        known = places[statistics.codes]
        codes = np.searchsorted(classes, labels)
        weights = self._class_weights(classes, np.concatenate([known, codes]))
        coverage, Z, indices = self._coverage, self.centers_, self.center_indices_
        if isinstance(statistics, ExactStatistics):
            rows = replace(rows, dtype=statistics.K.dtype)
            cross, own = self._border(rows, self._center_rows(centers))
            statistics = replace(statistics, codes=known).added(cross, own, codes)
            new = replace(rows, offset=None, scale=None, dtype=torch.from_numpy(Z).dtype).all()
            Z = np.concatenate([Z, new.cpu().numpy()])
            indices = np.arange(len(Z))
        else:
            Phi, parts = self._phi(rows, statistics.whiten)
            statistics = statistics.with_classes(places, len(classes)).added(Phi, codes, weights)
            coverage = None if coverage is None else coverage.added(parts)
        changed = self._changed(statistics, classes, groups, centers=Z, indices=indices)
        changed._coverage = coverage
        return changed

    def without_samples(
        self: _C,
        rows: NDArray[np.intp] | NDArray[np.bool_],
        *,
        drop_centers: bool = False,
        centers: Rows | None = None,
    ) -> _C:
        """Return the classifier of the other samples.

        Parameters
        ----------
        rows : ndarray
            Positions of the samples to take away, or a mask of n truth values.
        drop_centers : bool, default=False
            Centers among them stay centers, with `center_indices_` of -1, or go too: then it is the
            fit with the other centers. Where all samples are centers, they go in any case.
        centers : Rows, optional
            Features of the centers where they are known more precisely than in `centers_`.

        Returns
        -------
        KernelClassifier

        Raises
        ------
        NotKeptError
            If the fit kept no sums, or not what each sample contributed to them.
        DataError
            If a class would lose its last sample, or the model its last center.
        """
        check_is_fitted(self)
        statistics = self._statistics(centers)
        kept = np.ones(len(statistics.codes), dtype=bool)
        kept[rows] = False
        if kept.all():
            return copy.copy(self)
        lost = np.setdiff1d(statistics.codes, statistics.codes[kept])
        if len(lost):
            names = ", ".join(str(label) for label in self.classes_[lost].tolist())
            raise DataError(
                f"nothing would be left of {names}: a model of fewer classes is trained anew"
            )
        Z, places = self.centers_, self.center_indices_
        there = (places < 0) | kept[places]
        indices = np.where(there & (places >= 0), (np.cumsum(kept) - 1)[places], -1)
        if isinstance(statistics, ExactStatistics):
            statistics, Z, indices = statistics.without(kept), Z[there], indices[there]
        else:
            if not statistics.has_rows:
                raise NotKeptError(f"images cannot be taken away: {self._rowless}")
            weights = self._class_weights(self.classes_, statistics.codes)
            statistics = statistics.without(kept, weights)
            if drop_centers and not there.all():
                statistics = statistics.at_centers(there, self._whiten_of(there, statistics))
                Z, indices = Z[there], indices[there]
        groups = None if self._groups is None else self._groups[kept]
        return self._changed(statistics, self.classes_, groups, centers=Z, indices=indices)

    def merged(self: _C, other: _C, *, groups: ArrayLike | None = None) -> _C:
        """Return the classifier of the samples of two with the same centers.

        Parameters
        ----------
        other : KernelClassifier
            Fitted by `fit_like`, or what `fit_like` was called on.
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
        whiten = next(s.whiten for s in (mine, theirs) if isinstance(s, NystromStatistics))
        both = [model._nystrom(whiten) for model in (self, other)]
        indices = self.center_indices_
        if isinstance(mine, NystromStatistics) and isinstance(theirs, ExactStatistics):
            indices = other.center_indices_ + len(mine.codes)
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

    def fit_like(
        self: _C,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        class_weight: Any = None,
        penalty: float | None = None,
    ) -> _C:
        """Return a classifier of other samples with the centers of this one.

        Kernel, bandwidth and weights of feature groups are those of this one too; all of its
        `fit_like` can be merged with each other.

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
        weights = new._class_weights(classes, codes)
        Z = replace(self._center_rows(), dtype=rows.dtype).all()
        w = torch.as_tensor(weights[codes], dtype=rows.dtype, device=rows.device)
        operator = KernelOperator(rows, Z, self.kernel_, self.bandwidth_)
        kept = self._kept
        whiten = kept.whiten if isinstance(kept, NystromStatistics) else whitening(operator)
        system = nystrom_system(operator, signs(codes, len(classes), w), w, whiten=whiten)
        statistics = NystromStatistics.of_system(
            system, codes, weights, balanced=new._balanced(), keep=True
        )
        if statistics.grams is None:
            statistics = statistics.by_class(weights)
        if penalty is not None:
            new.penalty_ = penalty
        gone = np.full(len(Z), -1)
        new = new._changed(statistics, classes, groups, indices=gone)
        some = quantile_rows(len(codes), gone)
        parts = self._parts(rows.take(some), statistics.rows("coverage")[some])
        limit = None if self._coverage is None else self._coverage.limit
        new._coverage = (
            Coverage.of(len(codes), parts)
            if limit is None
            else Coverage(len(codes), limit, len(some), int((parts > limit).sum()))
        )
        return new if penalty is not None else new.reselected()

    def reselected(self: _C) -> _C:
        """Return the classifier of the same samples with the penalty of least leave-one-out loss.

        Returns
        -------
        KernelClassifier

        Raises
        ------
        NotKeptError
            If the rows of the samples are not kept.
        """
        start = time.perf_counter()
        statistics = self._statistics()
        if not statistics.has_rows:
            raise NotKeptError(f"the penalty cannot be chosen again: {self._rowless}")
        weights = self._class_weights(self.classes_, statistics.codes)
        random_state = check_random_state(self.random_state)
        rows = (
            selection_subset(statistics.codes, PENALTY_ROWS, random_state=random_state)
            if self._groups is None
            else whole_group_subset(self._groups, PENALTY_ROWS, random_state=random_state)
        )
        codes = torch.as_tensor(statistics.codes[rows])
        w = torch.as_tensor(weights)[codes]

        def evaluate(penalty: float) -> tuple[float, None]:
            try:
                scores = statistics.leave_one_out(weights, penalty, self._groups, rows)
            except NotPositiveDefiniteError:
                return np.inf, None
            return float(calibrated_log_loss(scores.cpu(), codes, w)), None

        penalties = PENALTIES
        if isinstance(statistics, ExactStatistics):
            rounding = statistics.rounding(weights)
            penalties = tuple(p for p in PENALTIES if p > rounding) or PENALTIES
        near = min(penalties, key=lambda p: abs(np.log(p / self.penalty_)))
        penalty, _, _ = descend_penalties(evaluate, start=near, penalties=penalties)
        changed = copy.copy(self)
        changed.penalty_ = penalty
        seconds = time.perf_counter() - start
        changed = changed._changed(statistics, self.classes_, self._groups)
        changed.selection_seconds_ = seconds
        return changed

    def refresh_reason(self) -> str | None:
        """Why centers and hyperparameters should be chosen anew; None: no reason.

        Returns
        -------
        str or None
        """
        check_is_fitted(self)
        n = len(self.sample_codes_)
        return None if self._coverage is None else self._coverage.reason(n)

    # ------------------------------------------------------------------------------- details

    def _classes_with(
        self,
        labels: NDArray[Any],  # (k,)
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Classes with those of some labels, sorted, and where each class of now is among them."""
        kinds = labels.dtype.kind, self.classes_.dtype.kind
        if kinds[0] != kinds[1] and not set(kinds) <= set("iu"):
            raise DataError(
                f"labels are of type {labels.dtype}, but those of the model of type "
                f"{self.classes_.dtype}"
            )
        classes = np.union1d(self.classes_, labels)
        return classes, np.searchsorted(classes, self.classes_)

    def _nystrom(
        self,
        whiten: Tensor,  # (m, m)
    ) -> NystromStatistics:
        """Return what is kept as sums made with this `whiten`, for the same centers."""
        statistics = self._statistics()
        if isinstance(statistics, NystromStatistics):
            return statistics.rebased(whiten)
        Phi = statistics.K.to(whiten.dtype) @ whiten
        weights = self._class_weights(self.classes_, statistics.codes)
        return NystromStatistics.of_rows(
            whiten, Phi, statistics.codes, weights, balanced=self._balanced()
        )

    def _check_same_centers(self, other: ChangeableClassifier) -> None:
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
