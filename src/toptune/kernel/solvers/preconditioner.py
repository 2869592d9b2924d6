"""FALKON's preconditioner: two Cholesky factors that nearly invert the Nystrom system.

With T^T T = K_mm and D the weight of samples that each center stands for, the sum over samples is
close to one over centers, K_nm^T W K_nm ~ K_mm D K_mm = T^T (T D T^T) T, so with

    A^T A = T D T^T + ridge I,   B = T^-1 A^-1

B^T (K_nm^T W K_nm + ridge K_mm) B is near the identity, and conjugate gradient needs few steps.

Rudi, Carratino and Rosasco 2017, arXiv 1705.10958; weighted form: Rudi, Calandriello, Carratino and
Rosasco 2018, arXiv 1810.13258. Letters: m centers, c outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.linalg.triangular import lower_gram


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """The two factors.

    Attributes
    ----------
    T
        (m, m) upper triangular, T^T T = K_mm.
    A
        (m, m) upper triangular, A^T A = T D T^T + ridge I.
    """

    T: Tensor
    A: Tensor

    @classmethod
    def of(
        cls,
        L: Tensor,  # (m, m), lower triangular, L L^T = K_mm
        D: Tensor,  # (m,)
        ridge: float,
    ) -> Preconditioner:
        """Factor once more, in the dtype of L.

        Parameters
        ----------
        L
            Cholesky factor of K_mm.
        D
            Weight of the samples that each center stands for; they add up to that of all.
        ridge
            What multiplies K_mm in the system, > 0.
        """
        M = lower_gram(D.sqrt()[:, None] * L)
        M.diagonal().add_(ridge)
        return cls(L.T, cholesky_factor(M, name="the preconditioner").T)

    def T_inverse(self, V: Tensor, *, transposed: bool = False) -> Tensor:  # (m, c)
        """T^-1 V, or T^-T V."""
        return _solve(self.T, V, transposed)

    def A_inverse(self, V: Tensor, *, transposed: bool = False) -> Tensor:  # (m, c)
        """A^-1 V, or A^-T V."""
        return _solve(self.A, V, transposed)


def _solve(R: Tensor, V: Tensor, transposed: bool) -> Tensor:
    """R^-1 V or R^-T V, R upper triangular."""
    solution: Tensor = torch.linalg.solve_triangular(
        R.T if transposed else R, V, upper=not transposed
    )
    return solution
