"""FALKON: the Nystrom system by preconditioned conjugate gradient, K_nm never needed whole.

    (K_nm^T W K_nm + lambda N K_mm) alpha = K_nm^T W Y

Rudi, Carratino and Rosasco 2017, arXiv 1705.10958; Meanti, Carratino, Rosasco and Rudi 2020, arXiv
2006.10350. Letters: n samples, m centers, c outputs, w sample weights, N their sum, lambda penalty.

Entries of K_nm are computed in the dtype of the features, and multiplied in float64: alpha is large
and of both signs, and for the few columns of c outputs that costs little beside computing entries.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from toptune.kernel.linalg.conjugate_gradient import CGSolution, conjugate_gradient
from toptune.kernel.operators import KernelOperator
from toptune.kernel.solvers.preconditioner import Preconditioner
from toptune.kernel.systems.nystrom import center_factor

#: Relative residuals that the dtype of the products lets conjugate gradient reach. Tighter ones
#: stop for rounding.
RTOL = {torch.float32: 1e-6, torch.float64: 1e-10}
MAX_ITER = 100


def falkon(
    operator: KernelOperator,
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    penalty: float,
    *,
    center_weights: Tensor,  # (m,)
    rtol: float | None = None,
    max_iter: int = MAX_ITER,
) -> CGSolution:
    """Solve the squared-loss problem; the value is alpha, (m, c) float64.

    Parameters
    ----------
    operator
        K_nm, kept or computed anew at each product.
    Y, w
        Targets and sample weights.
    penalty
        lambda > 0.
    center_weights
        Weight of the samples that each center stands for; they add up to N.
    rtol
        Relative residual of every column of the preconditioned system; by default what the dtype of
        the products can reach.
    max_iter
        Most products with K_nm^T W K_nm.
    """
    ridge = penalty * float(w.double().sum())
    preconditioner = Preconditioner.of(center_factor(operator), center_weights.double(), ridge)
    right = operator.t_matmul((w[:, None] * Y).double())
    return preconditioned_solution(
        operator, w, right, ridge, preconditioner, rtol=rtol or RTOL[Y.dtype], max_iter=max_iter
    )


def preconditioned_solution(
    operator: KernelOperator,
    w: Tensor,  # (n,) or (n, c)
    right: Tensor,  # (m, c) float64
    ridge: float,
    preconditioner: Preconditioner,
    *,
    rtol: float,
    max_iter: int,
) -> CGSolution:
    """Solve (K_nm^T W K_nm + ridge K_mm) alpha = right for alpha.

    In beta = A T alpha the system is the preconditioned one, and T^-T K_mm T^-1 = I:

        A^-T (T^-T K_nm^T W K_nm T^-1 + ridge I) A^-1 beta = A^-T T^-T right
    """
    solver, weights = preconditioner, w.double()

    def product(beta: Tensor) -> Tensor:
        half = solver.A_inverse(beta)
        sums = operator.normal_matmul(solver.T_inverse(half), weights)
        inner = solver.T_inverse(sums, transposed=True) + ridge * half
        return solver.A_inverse(inner, transposed=True)

    found = conjugate_gradient(
        product,
        solver.A_inverse(solver.T_inverse(right, transposed=True), transposed=True),
        rtol=rtol,
        max_iter=max_iter,
    )
    return replace(found, value=solver.T_inverse(solver.A_inverse(found.value)))
