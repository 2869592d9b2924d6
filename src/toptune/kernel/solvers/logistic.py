"""Kernel logistic regression on m centers: Newton's method, each step a FALKON system.

    minimise  (1/N) sum_i w_i log(1 + exp(-y_i f(x_i))) + lambda ||f||_H^2,   y_i in {-1, +1}

one problem for every column of Y. At scores F, with sigma = 1 / (1 + exp(-F)), slopes
g = sigma - (y + 1) / 2 and curvatures D = sigma (1 - sigma), a Newton step solves

    (K_nm^T (W D / 2) K_nm + lambda N K_mm) change = -K_nm^T (W / 2) g - lambda N K_mm alpha,

FALKON's system with other weights for every column; one pass over K_nm serves all of them.

Marteau-Ferey, Bach and Rudi 2019, Globally Convergent Newton Methods for Ill-conditioned
Generalized Self-concordant Losses, arXiv 1907.01771. Letters: n samples, m centers, c outputs, w
sample weights, N their sum, lambda penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.linalg.triangular import add_gram, symmetric, triangular_inverse, upper_matmul
from toptune.kernel.operators import KernelOperator
from toptune.kernel.solvers.falkon import preconditioned_solution
from toptune.kernel.solvers.preconditioner import Preconditioner
from toptune.kernel.systems.nystrom import center_factor

MAX_STEPS = 50
#: Decrease of the objective, relative to it, below which Newton's method ends: one that the last
#: step and what conjugate gradient left of it could still make.
RTOL = {torch.float32: 1e-6, torch.float64: 1e-12}
#: Each step is solved to this: it is itself only an approximation of the problem.
STEP_RTOL = 1e-2
#: Most products with the kernel matrix in one step.
STEP_PRODUCTS = 30
#: Times a step is halved where it does not decrease the objective.
HALVINGS = 10


@dataclass(frozen=True, eq=False)
class LogisticSolution:
    """A solution, and what its approximate leave-one-out needs.

    Attributes
    ----------
    alpha
        (m, c) float64 coefficients on the centers.
    F
        (n, c) scores of the samples.
    converged
        (c,) whether the objective is within the tolerance of its minimum, by its gradient before
        the last step; that no step made it smaller is not enough.
    steps
        Newton steps.
    products
        Products with K_nm^T W K_nm.
    """

    alpha: Tensor
    F: Tensor
    converged: Tensor
    steps: int
    products: int

    @property
    def message(self) -> str:
        """One line on the outcome."""
        done, c = int(self.converged.sum()), len(self.converged)
        return (
            f"Newton's method: {done} of {c} columns converged in {self.steps} steps and "
            f"{self.products} products"
        )


def logistic(
    operator: KernelOperator,
    Y: Tensor,  # (n, c), +1 or -1
    w: Tensor,  # (n,)
    penalty: float,
    *,
    center_weights: Tensor,  # (m,)
    start: Tensor | None = None,  # (m, c) float64
) -> LogisticSolution:
    """Minimise the logistic problem of every column.

    Parameters
    ----------
    operator
        K_nm; kept in memory, it is not computed anew in each of many products.
    Y, w
        Labels and sample weights.
    penalty
        lambda > 0.
    center_weights
        Weight of the samples that each center stands for; they add up to N.
    start
        Coefficients to begin with; zero if None.
    """
    dtype, ridge = Y.dtype, penalty * float(w.double().sum())
    L = center_factor(operator)
    alpha = torch.zeros(L.shape[0], Y.shape[1], dtype=torch.float64, device=Y.device)
    if start is not None:
        alpha = start.clone()

    def objective(F: Tensor, coefficients: Tensor) -> Tensor:  # (c,)
        losses = torch.nn.functional.softplus(-Y * F).double()
        return w.double() @ losses + ridge * (L.T @ coefficients).square().sum(0)

    F = operator.matmul(alpha).to(dtype)
    value, products = objective(F, alpha), 0
    converged = stuck = torch.zeros(Y.shape[1], dtype=torch.bool, device=Y.device)
    steps = 0
    while steps < MAX_STEPS and not bool((converged | stuck).all()):
        steps += 1
        slope, curvature = derivatives(F, Y)
        at_centers = torch.sigmoid(L @ (L.T @ alpha))
        typical = (at_centers * (1.0 - at_centers)).mean(1)
        solver = Preconditioner.of(L, center_weights.double() * typical / 2, ridge)
        half = w[:, None] / 2
        downhill = operator.t_matmul((-half * slope).double()) - ridge * (L @ (L.T @ alpha))
        found = preconditioned_solution(
            operator,
            half * curvature,
            downhill,
            ridge,
            solver,
            rtol=STEP_RTOL,
            max_iter=STEP_PRODUCTS,
        )
        products += found.iterations
        change, toward = found.value, operator.matmul(found.value).to(dtype)
        size = torch.ones_like(value)
        for _ in range(HALVINGS):
            tried = objective(F + size.to(dtype) * toward, alpha + size * change)
            worse = tried > value
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        size = torch.where(worse, torch.zeros_like(size), size)
        alpha, F = alpha + size * change, F + size.to(dtype) * toward
        before, value = value, objective(F, alpha)
        goal = RTOL[dtype] * before
        # The gradient is -2 downhill: by this the step lowers the quadratic that is the objective
        # here, and by about the square of its residual, the preconditioner being what it is, what
        # conjugate gradient left of the step would lower it further.
        promised = (downhill * change).sum(0).abs()
        whole = solver.A_inverse(solver.T_inverse(downhill, transposed=True), transposed=True)
        left = found.residual * whole.norm(dim=0)
        converged = promised + left.square() <= goal
        stuck = before - value <= goal  # the next step would be the same
    return LogisticSolution(alpha, F, converged, steps, products)


def derivatives(
    F: Tensor,  # (n, c)
    Y: Tensor,  # (n, c)
) -> tuple[Tensor, Tensor]:  # (n, c) each
    """Slopes and curvatures of log(1 + exp(-y f)) in f."""
    sigma = torch.sigmoid(F)
    return sigma - (Y + 1.0) / 2.0, sigma * (1.0 - sigma)


def approximate_leave_one_out(
    operator: KernelOperator,
    solution: LogisticSolution,
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    penalty: float,
) -> Tensor:  # (n, c)
    """Scores of every sample by one Newton step of the model towards the one without it.

    With q_i = phi_i^T (Phi^T (W D / 2) Phi + lambda N I)^-1 phi_i, Phi = K_nm L^-T, and leverage
    h_i = (w_i D_i / 2) q_i, the score moves by g_i (w_i / 2) q_i / (1 - h_i): exact leave-one-out
    of the quadratic that Newton's method minimises last (Rad and Maleki 2020, A scalable estimate
    of the out-of-sample prediction error via approximate leave-one-out cross-validation).
    """
    dtype, ridge = Y.dtype, penalty * float(w.double().sum())
    L = center_factor(operator)
    whiten = triangular_inverse(L).T
    slope, curvature = derivatives(solution.F, Y)
    m, out = L.shape[0], solution.F.clone()
    for k in range(Y.shape[1]):  # each column has its own curvatures, so its own matrix
        root = (w * curvature[:, k] / 2).sqrt()
        gram = torch.zeros(m, m, dtype=torch.float64, device=Y.device)
        for rows, K in operator.blocks():
            add_gram(gram, upper_matmul(K, whiten.to(dtype)).mul_(root[rows, None]))
        gram = symmetric(gram)
        gram.diagonal().add_(ridge)
        factor = cholesky_factor(gram, name="the penalised matrix of curvatures")
        T = (whiten @ triangular_inverse(factor).T).to(dtype)
        for rows, K in operator.blocks():
            q = upper_matmul(K, T).square_().sum(1)
            left = (1.0 - root[rows] ** 2 * q).clamp_(min=8 * torch.finfo(dtype).eps)
            out[rows, k] += slope[rows, k] * w[rows] / 2 * q / left
    return out
