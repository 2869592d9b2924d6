"""Kernel ridge regression on m centers, solved directly, with exact leave-one-out.

    f(x) = sum_j alpha_j k(x, z_j),   (K_nm^T W K_nm + lambda N K_mm) alpha = K_nm^T W Y

FALKON's problem (Rudi, Carratino and Rosasco 2017, arXiv 1705.10958). Letters: n samples, m centers
z_j, d features, c outputs, w sample weights, W = diag(w), N = sum w, lambda penalty. With
L L^T = K_mm and Phi = W^1/2 K_nm L^-T it is ridge regression in Phi,

    (Phi^T Phi + lambda N I) beta = Phi^T W^1/2 Y,   alpha = L^-T beta,

and, for fixed centers, kernel, penalty and N, leave-one-out follows from the leverages
h_i = phi_i^T (Phi^T Phi + lambda N I)^-1 phi_i as in `exact`.

Cost in products of n x m by m x m matrices: Phi and Phi^T Phi take little more than half of one
each, because L^-T is triangular and Phi^T Phi symmetric; leave-one-out at one penalty as much, and
on a part of the samples that part of it.

Products run in the dtype of the features, sums over blocks and factorisations in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.linalg.triangular import add_gram, symmetric, triangular_inverse, upper_matmul
from toptune.kernel.operators import KernelOperator
from toptune.kernel.selection.search import Index
from toptune.kernel.systems.groups import group_batches, left_out_residuals, whole_groups

#: Most samples on which penalties are compared: each comparison takes a product with the factor.
PENALTY_ROWS = 2_000


@dataclass(frozen=True, eq=False)
class NystromSums:
    """What the samples contribute: sums over them, for given centers and kernel.

    Those of two disjoint sets of samples add up to those of their union.

    Attributes
    ----------
    gram
        (m, m) float64, Phi^T Phi.
    PhitY
        (m, c) float64, Phi^T W^1/2 Y.
    Phitw
        (m,) float64, Phi^T W^1/2 1.
    weight
        N, sum of the weights.
    """

    gram: Tensor
    PhitY: Tensor
    Phitw: Tensor
    weight: float

    def factor(self, penalty: float) -> Tensor:  # (m, m)
        """Cholesky factor of Phi^T Phi + lambda N I."""
        A = self.gram.clone()
        A.diagonal().add_(penalty * self.weight)
        return cholesky_factor(A, name="the penalised Nystrom gram matrix")


@dataclass(frozen=True, eq=False)
class NystromSystem:
    """A direct Nystrom fit at any penalty, and the samples to leave out of it.

    Attributes
    ----------
    operator
        K_nm of these samples.
    whiten
        (m, m) L^-T as Phi was computed with it, rounded to the dtype of the features.
    sums
        Phi^T Phi, Phi^T W^1/2 Y and N, of all samples.
    Y
        (n, c) targets.
    sqrt_w
        (n,) square roots of the weights.
    Phi
        (n, m) in the dtype of the features, or None where it is computed anew when needed.
    groups
        (n,) codes of the groups that are left out whole; None: every sample by itself.
    """

    operator: KernelOperator
    whiten: Tensor
    sums: NystromSums
    Y: Tensor
    sqrt_w: Tensor
    Phi: Tensor | None
    groups: NDArray[np.intp] | None = None

    def part(self, rows: NDArray[np.intp]) -> NystromSystem:
        """Return the same fit, of all samples, with only some of them to leave out; Phi is kept.

        Of groups that are left out whole, all samples or none.
        """
        operator = replace(self.operator, X=self.operator.X.take(rows))
        sqrt_w = self.sqrt_w[rows]
        if self.Phi is not None:
            Phi = self.Phi[rows]
        else:
            Phi = torch.empty(operator.shape, dtype=self.Y.dtype, device=self.Y.device)
            for block, K in operator.blocks():
                upper_matmul(K, self.whiten, out=Phi[block]).mul_(sqrt_w[block, None])
        groups = None if self.groups is None else self.groups[rows]
        return replace(
            self, operator=operator, Y=self.Y[rows], sqrt_w=sqrt_w, Phi=Phi, groups=groups
        )

    def coefficients(self, penalty: float) -> Tensor:  # (m, c) float64
        """Coefficients alpha on the centers at one penalty.

        With the rounded L^-T, not the exact one: its rounding errors are large, and so part of Phi.
        """
        beta = torch.cholesky_solve(self.sums.PhitY, self.sums.factor(penalty))
        return self.whiten.double() @ beta

    def leave_one_out(self, penalty: float) -> Tensor:  # (n, c)
        """Predictions for every sample by the model fitted without it, or without its group."""
        factor = self.sums.factor(penalty)
        half = torch.linalg.solve_triangular(factor, self.sums.PhitY, upper=False)
        T = triangular_inverse(factor).T
        if self.Phi is None:
            T = self.whiten.double() @ T
        T, half = T.to(self.Y.dtype), half.to(self.Y.dtype)

        def whitened(rows: Index) -> Tensor:  # (b, m)
            if self.Phi is not None:
                return upper_matmul(self.Phi[rows], T)
            return upper_matmul(self.operator.block(rows), T).mul_(self.sqrt_w[rows, None])

        return left_out_scores(whitened, self._blocks(), half, self.Y, self.sqrt_w, self.groups)

    def _blocks(self) -> Iterator[Index]:
        """Rows of each block; where there are groups, none is cut."""
        if self.groups is None:
            yield from self.operator.slices()
        else:
            yield from whole_groups(self.groups, self.operator.block_rows)


def left_out_scores(
    whitened: Callable[[Index], Tensor],
    blocks: Iterable[Index],
    half: Tensor,  # (m, c), L^-1 Phi^T W^1/2 Y
    Y: Tensor,  # (n, c)
    sqrt_w: Tensor,  # (n,)
    groups: NDArray[np.intp] | None,  # (n,)
) -> Tensor:  # (n, c)
    """Leave-one-out predictions, with L the Cholesky factor of Phi^T Phi + lambda N I.

    `whitened` returns rows of Phi L^-T, whose squared norms are the leverages; no block may cut a
    group.
    """
    out = torch.empty_like(Y)
    for rows in blocks:
        weight, block = sqrt_w[rows, None], whitened(rows)
        fitted = (block @ half).div_(weight)
        left = 1.0 - (block * block).sum(1, keepdim=True)
        left.clamp_(min=8 * torch.finfo(out.dtype).eps)
        e = (Y[rows] - fitted) / left
        if groups is not None:
            shrink = torch.ones_like(half[:, 0])
            for each in group_batches(groups[rows], out.device, len(half)):
                R = weight[each] * (Y[rows] - fitted)[each]
                e[each] = left_out_residuals(block[each], shrink, R) / weight[each]
        out[rows] = Y[rows] - e
    return out


def nystrom_system(
    operator: KernelOperator,
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    *,
    keep: bool = True,
    groups: NDArray[np.intp] | None = None,  # (n,)
    whiten: Tensor | None = None,  # (m, m)
) -> NystromSystem:
    """Accumulate the sums over blocks of rows; `keep` says whether Phi stays in memory.

    `whiten` is L^-T where another system has computed it for these centers: only sums made with the
    same one, to the last bit, add up.
    """
    if whiten is None:
        whiten = whitening(operator)
    (n, m), device = operator.shape, Y.device
    sqrt_w = w.sqrt()
    Phi = torch.empty(n, m, dtype=Y.dtype, device=device) if keep else None
    gram = torch.zeros(m, m, dtype=torch.float64, device=device)
    Y1 = torch.cat([Y, torch.ones_like(Y[:, :1])], dim=1)
    PhitY1 = torch.zeros(m, Y1.shape[1], dtype=torch.float64, device=device)
    for rows, K in operator.blocks():
        block = upper_matmul(K, whiten, out=None if Phi is None else Phi[rows])
        block.mul_(sqrt_w[rows, None])
        add_gram(gram, block)
        PhitY1 += ((sqrt_w[rows, None] * Y1[rows]).T @ block).T
    PhitY, Phitw = PhitY1[:, :-1].contiguous(), PhitY1[:, -1].contiguous()
    sums = NystromSums(symmetric(gram), PhitY, Phitw, float(w.double().sum()))
    return NystromSystem(operator, whiten, sums, Y, sqrt_w, Phi, groups)


def whitening(operator: KernelOperator) -> Tensor:  # (m, m), upper triangular
    """L^-T, rounded to the dtype of the features."""
    return triangular_inverse(center_factor(operator)).T.to(operator.Z.dtype)


def center_factor(operator: KernelOperator) -> Tensor:  # (m, m), lower triangular, float64
    """Cholesky factor of K_mm, with a diagonal that the dtype of the products can resolve.

    Directions below their rounding, such as the difference of two equal centers, would turn
    rounding errors of K_nm into features of unit scale.
    """
    Z = operator.Z.double()
    K_mm = kernel_matrix(Z, Z, operator.kernel, operator.bandwidth)
    K_mm.diagonal().add_(torch.finfo(operator.Z.dtype).eps * float(K_mm.diagonal().mean()))
    return cholesky_factor(K_mm, name="the kernel matrix of the centers")
