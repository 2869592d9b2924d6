"""Conjugate gradient for many right-hand sides at once, with an outcome for each.

Hestenes and Stiefel 1952. Letters: m unknowns, c columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CGSolution:
    """What conjugate gradient found, and how far it is from a solution.

    Attributes
    ----------
    value
        (m, c).
    residual
        (c,) ||B - A value|| / ||B|| of every column, computed from the value, not carried along.
    converged
        (c,) whether that is at most the tolerance.
    iterations
        Products with A, those that compute the residual included.
    stagnated
        Whether it stopped because rounding let the residual get no smaller.
    """

    value: Tensor
    residual: Tensor
    converged: Tensor
    iterations: int
    stagnated: bool

    @property
    def message(self) -> str:
        """One line on the outcome."""
        done, c = int(self.converged.sum()), len(self.converged)
        text = (
            f"conjugate gradient: {done} of {c} columns converged in {self.iterations} products, "
            f"largest relative residual {float(self.residual.max()):.1e}"
        )
        return text + ("; rounding lets it get no smaller" if self.stagnated else "")


def conjugate_gradient(
    A: Callable[[Tensor], Tensor],  # (m, c) -> (m, c), symmetric positive definite
    B: Tensor,  # (m, c)
    *,
    rtol: float,
    max_iter: int,
) -> CGSolution:
    """Solve A V = B to a relative residual of `rtol` in every column.

    The residual that the iteration carries along drifts from the true one by rounding. When it says
    that all columns are done, the true residual is computed; where that is still too large the
    iteration starts again from there, as long as this makes progress.

    Parameters
    ----------
    A
        Product with the matrix.
    B
        Right-hand sides.
    rtol
        Relative tolerance, the same for every column.
    max_iter
        Most products with A, the last of which gives the true residual.

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    """
    size = B.norm(dim=0)
    goal = rtol * size
    V, R = torch.zeros_like(B), B.clone()
    iterations, stagnated = 0, False
    best = R.norm(dim=0)
    while bool((R.norm(dim=0) > goal).any()) and max_iter - iterations > 1:
        iterations += _iterate(A, V, R, goal, max_iter - iterations - 1)
        R = B - A(V)
        iterations += 1
        residual = R.norm(dim=0)
        open_columns = residual > goal
        if bool(open_columns.any()) and not bool((residual < 0.5 * best)[open_columns].any()):
            stagnated = iterations < max_iter
            break
        best = residual
    residual = R.norm(dim=0)
    relative = residual / torch.where(size > 0, size, torch.ones_like(size))
    return CGSolution(V, relative, residual <= goal, iterations, stagnated)


def _iterate(
    A: Callable[[Tensor], Tensor],
    V: Tensor,  # (m, c), changed in place
    R: Tensor,  # (m, c), changed in place
    goal: Tensor,  # (c,)
    max_iter: int,
) -> int:
    """Run the recurrence until its residual says that it is done; return the number of products."""
    P = R.clone()
    rr = (R * R).sum(0)
    for k in range(max_iter):
        active = rr > goal * goal
        if not bool(active.any()):
            return k
        AP = A(P)
        curvature = (P * AP).sum(0)
        if not bool(torch.isfinite(curvature).all()):
            raise FloatingPointError("conjugate gradient met NaN or infinity in a product")
        # A column that is done, or whose direction rounding has made one of no curvature, rests.
        active &= curvature > 0
        step = torch.where(active, rr / torch.where(active, curvature, 1.0), 0.0)
        V += step * P
        R -= step * AP
        following = (R * R).sum(0)
        ratio = torch.where(active & (rr > 0), following / torch.where(rr > 0, rr, 1.0), 0.0)
        P = R + ratio * P
        rr = torch.where(active, following, torch.zeros_like(rr))
    return max_iter
