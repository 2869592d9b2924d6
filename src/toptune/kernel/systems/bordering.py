"""The kernel matrix of samples that are all centers, when some come and others go.

    (Kw + lambda N I) beta = W^1/2 Y,   Kw = W^1/2 K W^1/2, as in `exact`

K is kept: samples that come border it, and those that go leave their row and column. The factor is
made anew, because N = sum w changes, so lambda N does for every sample, which is no change of low
rank. Flops for k samples more: 2 k n d + n^3 / 3, instead of 2 n^2 d + n^3 / 3.

Letters: n samples, d features, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.base import ROUNDED_PENALTY
from toptune.kernel.systems.exact import ExactSolution, exact_solution


def signs(
    codes: NDArray[np.intp],  # (n,)
    c: int,
    like: Tensor,
) -> Tensor:  # (n, c)
    """Targets of classes: +1 in the column of the class and -1 elsewhere."""
    Y = torch.full((len(codes), c), -1.0, dtype=like.dtype, device=like.device)
    Y[torch.arange(len(codes)), torch.as_tensor(codes)] = 1.0
    return Y


@dataclass(frozen=True, eq=False)
class ExactStatistics:
    """Kernel matrix of samples that are all centers.

    Attributes
    ----------
    K
        (n, n), in the dtype that the penalty needs.
    codes
        (n,) classes of the samples.
    """

    K: Tensor
    codes: NDArray[np.intp]

    @property
    def has_rows(self) -> bool:
        """Whether samples can be taken away, and left out."""
        return True

    def added(
        self,
        cross: Tensor,  # (k, n)
        own: Tensor,  # (k, k)
        codes: NDArray[np.intp],  # (k,)
    ) -> ExactStatistics:
        """Return those with k samples more: K bordered by their kernel values."""
        n, k = len(self.codes), len(codes)
        K = self.K.new_empty(n + k, n + k)
        K[:n, :n], K[n:, :n], K[:n, n:], K[n:, n:] = self.K, cross, cross.T, own
        return ExactStatistics(K, np.concatenate([self.codes, codes]))

    def without(
        self,
        kept: NDArray[np.bool_],  # (n,)
    ) -> ExactStatistics:
        """Return those of the samples that are kept."""
        rows = torch.as_tensor(np.flatnonzero(kept), device=self.K.device)
        return ExactStatistics(self.K[rows[:, None], rows], self.codes[kept])

    def coefficients(
        self,
        weights: NDArray[np.float64],  # (c,)
        penalty: float,
    ) -> Tensor:  # (n, c) float64
        """Coefficients alpha at one penalty; see `exact`."""
        return self._solution(weights, penalty).alpha

    def leave_one_out(
        self,
        weights: NDArray[np.float64],  # (c,)
        penalty: float,
        groups: NDArray[np.intp] | None,  # (n,)
        rows: NDArray[np.intp] | None = None,  # (b,)
    ) -> Tensor:  # (n, c) or (b, c)
        """Predictions for every sample by the model fitted without it, or without its group.

        `rows` are some of the samples; None: all.
        """
        scores = self._solution(weights, penalty).leave_one_out(groups)
        return scores if rows is None else scores[rows]

    def rounding(
        self,
        weights: NDArray[np.float64],  # (c,)
    ) -> float:
        """Penalty down to which the entries of K resolve eigenvalues; 0 where they are float64."""
        if self.K.dtype == torch.float64:
            return 0.0
        w = weights[self.codes]
        return ROUNDED_PENALTY * float(np.average(self.K.diagonal().cpu().numpy(), weights=w))

    def _solution(self, weights: NDArray[np.float64], penalty: float) -> ExactSolution:
        K = self.K.double()
        w = torch.as_tensor(weights[self.codes], device=K.device)
        return exact_solution(K, signs(self.codes, len(weights), K), w, penalty)
