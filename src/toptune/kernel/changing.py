"""A fitted classifier of other samples: some more, some fewer.

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

from toptune.errors import DataError, NotKeptError
from toptune.kernel.kept import KEPT_BYTES, OF_ANOTHER_MODEL, TAKEN_AWAY, KeepingClassifier
from toptune.kernel.linalg.cholesky import NotPositiveDefiniteError
from toptune.kernel.operators import Rows
from toptune.kernel.selection.calibration import calibrated_log_loss
from toptune.kernel.selection.search import (
    PENALTIES,
    descend_penalties,
    selection_subset,
    whole_group_subset,
)
from toptune.kernel.systems.bordering import ExactStatistics
from toptune.kernel.systems.nystrom import PENALTY_ROWS

_C = TypeVar("_C", bound="ChangeableClassifier")


class ChangeableClassifier(KeepingClassifier):
    """Changes of a fitted `KernelClassifier`.

    With several labels, sample weights or an iterative solver there are none: `NotKeptError`.
    """

    # ------------------------------------------------------------------------------- changes

    def add_samples(
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
            If the labels are of another kind than those of the model; or if all samples are
            centers, and their kernel matrix would take more than `KEPT_BYTES`.
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
            n = len(statistics.codes) + len(codes)
            if (size := n * n * statistics.K.element_size()) > KEPT_BYTES:
                raise DataError(
                    f"all {n} images would be centers, with a kernel matrix of {size / 1e9:.1f} GB "
                    f"where {KEPT_BYTES / 1e9:.1f} GB is the most: train anew on all of them"
                )
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

    def remove_samples(
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
            Centers among them stay centers, with `center_indices_` of -1, or go too, as do those of
            samples taken away before: then it is the fit with the other centers. Where all samples
            are centers, they go in any case.
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
        there = self.staying_centers(kept)
        if kept.all() and (there.all() or not drop_centers):
            return copy.copy(self)
        lost = np.setdiff1d(statistics.codes, statistics.codes[kept])
        if len(lost):
            names = ", ".join(str(label) for label in self.classes_[lost].tolist())
            raise DataError(
                f"nothing would be left of {names}: a model of fewer classes is trained anew"
            )
        Z, places = self.centers_, self.center_indices_
        rows_after = np.where(kept, np.cumsum(kept) - 1, TAKEN_AWAY)
        indices = np.where(places < 0, places, rows_after[places])
        if isinstance(statistics, ExactStatistics):
            statistics, Z, indices = statistics.without(kept), Z[there], indices[there]
        else:
            if not kept.all():
                if not statistics.has_rows:
                    raise NotKeptError(f"images cannot be taken away: {self._rowless}")
                weights = self._class_weights(self.classes_, statistics.codes)
                statistics = statistics.without(kept, weights)
            if drop_centers and not there.all():
                statistics = statistics.at_centers(there, self._whiten_of(there, statistics))
                Z, indices = Z[there], indices[there]
        groups = None if self._groups is None else self._groups[kept]
        return self._changed(statistics, self.classes_, groups, centers=Z, indices=indices)

    def staying_centers(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which centers are left where those of samples taken away are dropped.

        Parameters
        ----------
        kept : ndarray of shape (n,)
            Which samples stay.

        Returns
        -------
        ndarray of bool, shape (m,)
            Centers of another model stay.
        """
        places = self.center_indices_
        stays: NDArray[np.bool_] = np.where(places < 0, places == OF_ANOTHER_MODEL, kept[places])
        return stays

    def reselect_penalty(self: _C) -> _C:
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
