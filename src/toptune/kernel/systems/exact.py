"""Exact kernel ridge regression, with exact leave-one-out at every penalty.

    minimise over f    (1 / sum w) sum_i w_i ||y_i - f(x_i)||^2 + lambda ||f||_H^2

Letters: n samples, c outputs, w sample weights (all 1: sum w = n), lambda penalty, W = diag(w),
N = sum w. The solution is f(x) = sum_i alpha_i k(x, x_i) with

    (Kw + lambda N I) beta = W^1/2 Y,   Kw = W^1/2 K W^1/2,   alpha = W^1/2 beta.

One eigendecomposition of Kw gives every penalty: with s the eigenvalues and the columns of Q the
eigenvectors times sqrt(s),

    fitted   W^1/2 F = Q diag(1 / (s + lambda N)) Q^T W^1/2 Y
    leverage h_i = sum_j Q_ij^2 / (s_j + lambda N)
    leave-one-out residual  e_i = (y_i - f(x_i)) / (1 - h_i),

the last exactly the residual of a refit without sample i, for fixed kernel, penalty and
normalisation N (Allen 1974, PRESS; Rifkin and Lippert 2007, Notes on Regularized Least Squares).
`nystrom` brings fewer centers than samples to the same form, and `left_out` has the formula for
groups of samples that are left out together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.linalg.triangular import triangular_inverse
from toptune.kernel.systems.groups import group_batches, left_out_residuals

#: Columns of one product on the path: penalties times outputs.
PATH_COLUMNS = 512
#: Rows of one block of squared entries on the path.
PATH_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class PenaltyPath:
    """Leave-one-out predictions for every penalty, each at the cost of a matrix product.

    Attributes
    ----------
    Q
        (n, r): sample-space factor, Q Q^T = Phi Phi^T with Phi weighted by W^1/2.
    s
        (r,): eigenvalues, >= 0.
    QtY
        (r, c): Q^T W^1/2 Y, over all samples that were fitted.
    Y
        (n, c): targets, unweighted.
    sqrt_w
        (n,): square roots of the weights, all > 0.
    N
        Sum of the weights of all samples that were fitted; rows of Q may be fewer.
    groups
        (n,) codes of the groups that are left out whole; None: every sample by itself.
    """

    Q: Tensor
    s: Tensor
    QtY: Tensor
    Y: Tensor
    sqrt_w: Tensor
    N: float
    groups: NDArray[np.intp] | None = None

    def leave_one_out(self, penalty: float) -> Tensor:  # (n, c)
        """Predictions for every sample by the model fitted without it, or without its group.

        Parameters
        ----------
        penalty
            lambda > 0, per unit of weight.
        """
        return next(self.leave_one_out_path([penalty]))

    def leave_one_out_path(self, penalties: Sequence[float]) -> Iterator[Tensor]:  # each (n, c)
        """Yield `leave_one_out` of every penalty; penalties share products."""
        c = self.Y.shape[1]
        shrink = 1.0 / (self.s[:, None] + self.N * self.s.new_tensor(penalties))  # (r, p)
        leverage = torch.cat([(q * q) @ shrink for q in torch.split(self.Q, PATH_BLOCK)])  # (n, p)
        left = 1.0 - leverage
        # 1 - h > 0 in exact arithmetic; rounding may reach 0 when the penalty is far below it.
        left.clamp_(min=8 * torch.finfo(self.Q.dtype).eps)
        batches = group_batches(self.groups, self.Q.device, self.Q.shape[1])
        step = max(1, PATH_COLUMNS // c)
        for first in range(0, len(penalties), step):
            part = shrink[:, first : first + step]  # (r, p')
            coefficients = (part[:, :, None] * self.QtY[:, None, :]).flatten(1)  # (r, p' c)
            fitted = (self.Q @ coefficients) / self.sqrt_w[:, None]
            for k, F in enumerate(torch.split(fitted, c, dim=1), start=first):
                out = self.Y - (self.Y - F) / left[:, k, None]
                for rows in batches:
                    root = self.sqrt_w[rows, None]  # (k, size, 1)
                    R = root * (self.Y[rows] - F[rows])
                    e = left_out_residuals(self.Q[rows], shrink[:, k], R)
                    out[rows] = self.Y[rows] - e / root
                yield out


def exact_path(
    K: Tensor,  # (n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    groups: NDArray[np.intp] | None = None,  # (n,)
) -> PenaltyPath:
    """Penalty path of exact kernel ridge regression, by one eigendecomposition of W^1/2 K W^1/2."""
    sqrt_w = w.sqrt()
    s, V = torch.linalg.eigh(sqrt_w[:, None] * K * sqrt_w)
    s = s.clamp(min=0.0)
    Q = V * s.sqrt()
    QtY = Q.T @ (sqrt_w[:, None] * Y)
    return PenaltyPath(Q, s, QtY, Y, sqrt_w, float(w.double().sum()), groups)


@dataclass(frozen=True)
class ExactSolution:
    """Exact kernel ridge regression at one penalty.

    Attributes
    ----------
    L
        (n, n): Cholesky factor of Kw + lambda N I.
    beta
        (n, c): the solution; alpha = W^1/2 beta.
    Y
        (n, c): targets.
    sqrt_w
        (n,): square roots of the weights.
    """

    L: Tensor
    beta: Tensor
    Y: Tensor
    sqrt_w: Tensor

    @property
    def alpha(self) -> Tensor:  # (n, c)
        """Dual coefficients."""
        return self.sqrt_w[:, None] * self.beta

    def leave_one_out(
        self,
        groups: NDArray[np.intp] | None = None,  # (n,)
    ) -> Tensor:  # (n, c)
        """Predictions for every sample by the model fitted without it, or without its group.

        The weighted residual is lambda N beta_i, and 1 - h_i is lambda N times the i-th diagonal
        element of the inverse: their ratio has no cancellation. A group has a diagonal block.
        """
        # A^-1 = L^-T L^-1: its diagonal is the squared columns of L^-1.
        inverse = triangular_inverse(self.L)
        diagonal = inverse.square().sum(0)
        out = self.Y - self.beta / (diagonal * self.sqrt_w)[:, None]
        for rows in group_batches(groups, self.L.device, self.L.shape[0]):
            for each in rows:  # one at a time: its columns of L^-1 are (n, size)
                columns = inverse[:, each]
                e = torch.linalg.solve(columns.T @ columns, self.beta[each])
                out[each] = self.Y[each] - e / self.sqrt_w[each, None]
        return out


def exact_solution(
    K: Tensor,  # (n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    penalty: float,
) -> ExactSolution:
    """Solve (Kw + lambda N I) beta = W^1/2 Y by Cholesky, in the dtype of the arguments."""
    sqrt_w = w.sqrt()
    A = (sqrt_w[:, None] * K).mul_(sqrt_w)
    A.diagonal().add_(penalty * float(w.double().sum()))
    L = cholesky_factor(A, name="the penalised kernel matrix")
    return ExactSolution(L, torch.cholesky_solve(sqrt_w[:, None] * Y, L), Y, sqrt_w)
