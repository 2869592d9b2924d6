"""Kernel ridge regression on m centers, solved directly, with exact leave-one-out at every penalty.

    minimise over f    (1 / sum w) sum_i w_i ||y_i - f(x_i)||^2 + lambda ||f||_H^2,
    f(x) = sum_j alpha_j k(x, z_j)

Letters: n samples, m centers z_j, c outputs, w sample weights (all 1: sum w = n), lambda penalty,
W = diag(w), N = sum w. Two forms:

exact (centers = samples)   (Kw + lambda N I) beta = W^1/2 Y,   Kw = W^1/2 K W^1/2,
                            alpha = W^1/2 beta
Nystrom (FALKON's problem)  (K_nm^T W K_nm + lambda N K_mm) alpha = K_nm^T W Y

The second is ridge regression in Phi = W^1/2 K_nm L^-T, L L^T = K_mm. Either way one
eigendecomposition, of Kw or of Phi^T Phi, gives every penalty: with the columns of Q the (scaled)
eigenvectors in sample space and s the eigenvalues,

    fitted   W^1/2 F = Q diag(1 / (s + lambda N)) Q^T W^1/2 Y
    leverage h_i = sum_j Q_ij^2 / (s_j + lambda N)
    leave-one-out residual  e_i = (y_i - f(x_i)) / (1 - h_i),

the last exactly the residual of a refit without sample i, for fixed centers, kernel, penalty and
normalisation N (Allen 1974, PRESS; Rifkin and Lippert 2007, Notes on Regularized Least Squares).

FALKON: Rudi, Carratino and Rosasco 2017, arXiv 1705.10958.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toptune.kernel.cholesky import cholesky_factor
from toptune.kernel.operators import KernelOperator


@dataclass(frozen=True)
class PenaltyPath:
    """Leave-one-out predictions for every penalty, each at the cost of a matrix product.

    Attributes
    ----------
    Q
        (n, r): sample-space factor, Q Q^T = Phi Phi^T with Phi weighted by W^1/2.
    s
        (r,): eigenvalues, >= 0.
    QtY
        (r, c): Q^T W^1/2 Y.
    Y
        (n, c): targets, unweighted.
    sqrt_w
        (n,): square roots of the weights, all > 0.
    """

    Q: Tensor
    s: Tensor
    QtY: Tensor
    Y: Tensor
    sqrt_w: Tensor

    def leave_one_out(self, penalty: float) -> Tensor:  # (n, c)
        """Predictions for every sample by the model fitted without it.

        Parameters
        ----------
        penalty
            lambda > 0, per unit of weight.
        """
        return next(self.leave_one_out_path([penalty]))

    def leave_one_out_path(self, penalties: Sequence[float]) -> Iterator[Tensor]:  # each (n, c)
        """Yield `leave_one_out` of every penalty; the leverages of all are one product."""
        N = float((self.sqrt_w.double() ** 2).sum())
        shrink = 1.0 / (self.s[:, None] + N * self.s.new_tensor(penalties))  # (r, p)
        leverage = (self.Q * self.Q) @ shrink  # (n, p)
        # 1 - h > 0 in exact arithmetic; rounding may reach 0 when the penalty is far below it.
        left = (1.0 - leverage).clamp(min=8 * torch.finfo(self.Q.dtype).eps)
        for k in range(len(penalties)):
            fitted = self.Q @ (shrink[:, k, None] * self.QtY) / self.sqrt_w[:, None]
            yield self.Y - (self.Y - fitted) / left[:, k, None]


def exact_path(
    K: Tensor,  # (n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
) -> PenaltyPath:
    """Penalty path of exact kernel ridge regression, by one eigendecomposition of W^1/2 K W^1/2."""
    sqrt_w = w.sqrt()
    s, V = torch.linalg.eigh(sqrt_w[:, None] * K * sqrt_w)
    s = s.clamp(min=0.0)
    Q = V * s.sqrt()
    return PenaltyPath(Q, s, Q.T @ (sqrt_w[:, None] * Y), Y, sqrt_w)


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

    def leave_one_out(self) -> Tensor:  # (n, c)
        """Predictions for every sample by the model fitted without it.

        The weighted residual is lambda N beta_i, and 1 - h_i is lambda N times the i-th diagonal
        element of the inverse: their ratio has no cancellation.
        """
        inverse = torch.cholesky_inverse(self.L).diagonal()
        return self.Y - self.beta / (inverse * self.sqrt_w)[:, None]


def exact_solution(
    K: Tensor,  # (n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    penalty: float,
) -> ExactSolution:
    """Solve (Kw + lambda N I) beta = W^1/2 Y by Cholesky, in the dtype of the arguments."""
    sqrt_w = w.sqrt()
    A = sqrt_w[:, None] * K * sqrt_w
    A.diagonal().add_(penalty * float(w.double().sum()))
    L = cholesky_factor(A, name="the penalised kernel matrix")
    return ExactSolution(L, torch.cholesky_solve(sqrt_w[:, None] * Y, L), Y, sqrt_w)


@dataclass(frozen=True)
class NystromSystem:
    """Phi and its products: everything a direct Nystrom fit at any penalty needs.

    `gram`, `PhitY` and `weight` are sums over samples: those of two disjoint sets of samples with
    the same centers add up to those of their union.

    Attributes
    ----------
    Phi
        (n, m) W^1/2 K_nm L^-T, in the dtype of the features.
    gram
        (m, m) float64, Phi^T Phi.
    PhitY
        (m, c) float64, Phi^T W^1/2 Y.
    L
        (m, m) float64 Cholesky factor of K_mm.
    Y
        (n, c) targets.
    sqrt_w
        (n,) square roots of the weights.
    weight
        Sum of the weights.
    """

    Phi: Tensor
    gram: Tensor
    PhitY: Tensor
    L: Tensor
    Y: Tensor
    sqrt_w: Tensor
    weight: float

    def path(self) -> PenaltyPath:
        """Penalty path, by one eigendecomposition of the gram matrix."""
        s, U = torch.linalg.eigh(self.gram)
        dtype = self.Phi.dtype
        return PenaltyPath(
            Q=self.Phi @ U.to(dtype),
            s=s.clamp(min=0.0).to(dtype),
            QtY=(U.T @ self.PhitY).to(dtype),
            Y=self.Y,
            sqrt_w=self.sqrt_w,
        )

    def coefficients(self, penalty: float) -> Tensor:  # (m, c) float64
        """Coefficients alpha on the centers at one penalty."""
        A = self.gram.clone()
        A.diagonal().add_(penalty * self.weight)
        factor = cholesky_factor(A, name="the penalised Nystrom gram matrix")
        beta = torch.cholesky_solve(self.PhitY, factor)
        alpha: Tensor = torch.linalg.solve_triangular(self.L.T, beta, upper=True)
        return alpha


def nystrom_system(
    operator: KernelOperator,
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
) -> NystromSystem:
    """Accumulate Phi, Phi^T Phi and Phi^T Y over blocks of rows.

    Products run in the dtype of the features, sums over blocks and factorisations in float64.
    """
    Z, dtype = operator.Z, operator.X.dtype
    n, m = operator.X.shape[0], Z.shape[0]
    centers = KernelOperator(Z.double(), Z.double(), operator.kernel, operator.bandwidth)
    K_mm = torch.cat([K for _, K in centers.blocks()])
    # Directions that the dtype of the products cannot resolve, such as the difference of two equal
    # centers, would turn rounding errors into features of unit scale.
    K_mm.diagonal().add_(torch.finfo(dtype).eps * float(K_mm.diagonal().mean()))
    L = cholesky_factor((K_mm + K_mm.T) / 2, name="the kernel matrix of the centers")
    whiten = torch.linalg.solve_triangular(L, torch.eye(m, dtype=L.dtype), upper=False).T.to(dtype)
    sqrt_w = w.sqrt()
    Phi = torch.empty(n, m, dtype=dtype)
    gram = torch.zeros(m, m, dtype=torch.float64)
    PhitY = torch.zeros(m, Y.shape[1], dtype=torch.float64)
    for rows, K in operator.blocks():
        block = torch.matmul(K.mul_(sqrt_w[rows, None]), whiten, out=Phi[rows])
        gram += (block.T @ block).double()
        PhitY += (block.T @ (sqrt_w[rows, None] * Y[rows])).double()
    return NystromSystem(Phi, gram, PhitY, L, Y, sqrt_w, float(w.double().sum()))
