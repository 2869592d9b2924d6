"""How unlike the reference points a sample is: posterior variance, and distance to the nearest.

The penalised kernel matrix is that of a Gaussian process with noise s = lambda m, and what the m
reference points leave open about f(x) is its posterior variance (Rasmussen and Williams 2006,
eq. 2.26), here as a part of the prior one,

    v(x) = (k(x, x) - k_x^T (K + s I)^-1 k_x) / k(x, x),    0 < v <= 1,

which is lambda N h / (1 - h), h the leverage that x would have, over k(x, x). For a point that is
itself in K the same without its group G follows from one inverse, as in `left_out`:

    v_i = ([((K + s I)^-1)_GG]^-1 - s I)_ii / K_ii .

Letters: n samples, m reference points, d features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.kernels import base_matrix, kernel_diagonal, kernel_matrix
from toptune.kernel.linalg.cholesky import cholesky_factor
from toptune.kernel.linalg.triangular import triangular_inverse
from toptune.kernel.systems.groups import group_batches


@dataclass(frozen=True, eq=False)
class ReferencePoints:
    """Points that new samples are compared with; make one with `reference_points`.

    Attributes
    ----------
    Z
        (m, d) float64, as the kernel takes them.
    kernel, bandwidth
        Of the head.
    noise
        s > 0.
    inverse_factor
        (m, m) L^-1, lower triangular, of K + s I = L L^T.
    groups
        (m,) codes of what is left out together; None: each point by itself.
    """

    Z: Tensor
    kernel: str
    bandwidth: float
    noise: float
    inverse_factor: Tensor
    groups: NDArray[np.intp] | None

    def variances(
        self,
        X: Tensor,  # (n, d) float64
    ) -> Tensor:  # (n,)
        """Posterior variance of each sample, as a part of the prior one."""
        K = kernel_matrix(X, self.Z, self.kernel, self.bandwidth)
        prior = kernel_diagonal(X, self.kernel, self.bandwidth)
        explained = (K @ self.inverse_factor.T).square().sum(1)
        return _part(prior - explained, prior)

    def left_out_variances(self) -> Tensor:  # (m,)
        """Posterior variance of each reference point without it, or without its group."""
        prior = kernel_diagonal(self.Z, self.kernel, self.bandwidth)
        left = 1.0 / self.inverse_factor.square().sum(0)
        for batch in group_batches(self.groups, self.Z.device, len(self.Z)):
            for rows in batch:  # one at a time: its columns of L^-1 are (m, size)
                columns = self.inverse_factor[:, rows]
                left[rows] = torch.linalg.inv(columns.T @ columns).diagonal()
        return _part(left - self.noise, prior)

    def distances(
        self,
        X: Tensor,  # (n, d) float64
        k: int,
    ) -> Tensor:  # (n,)
        """Distance from each sample to the k-th nearest reference point."""
        squares = base_matrix(X, self.Z, "gaussian")
        return squares.kthvalue(min(k, len(self.Z)), dim=1).values.sqrt()

    def left_out_distances(self, k: int) -> Tensor:  # (m,)
        """Distance from each reference point to the k-th nearest one that is not of its group.

        Where fewer than k are of other groups, to the farthest of these.
        """
        m = len(self.Z)
        squares = base_matrix(self.Z, self.Z, "gaussian")
        codes = torch.arange(m) if self.groups is None else torch.as_tensor(self.groups)
        codes = codes.to(self.Z.device)
        same = codes[:, None] == codes[None, :]
        squares[same] = torch.inf
        others = (m - same.sum(1)).clamp(min=1, max=k)
        nearest = squares.topk(min(k, m), dim=1, largest=False).values
        return nearest.gather(1, others[:, None] - 1)[:, 0].sqrt()


def reference_points(
    Z: Tensor,  # (m, d)
    kernel: str,
    bandwidth: float,
    penalty: float,
    groups: NDArray[np.intp] | None = None,  # (m,)
) -> ReferencePoints:
    """Factorise the kernel matrix of the points: m^3 / 3 multiplications and additions, twice.

    Examples
    --------
    >>> import torch
    >>> from toptune.kernel.novelty import reference_points
    >>> points = reference_points(torch.tensor([[0.0], [1.0], [1.1]]), "gaussian", 1.0, 1e-6)
    >>> near_and_far = points.variances(torch.tensor([[0.9], [9.0]], dtype=torch.float64))
    >>> [round(v, 2) for v in near_and_far.tolist()]
    [0.0, 1.0]
    """
    Z = Z.double()
    K = kernel_matrix(Z, Z, kernel, bandwidth)
    noise = penalty * len(Z)
    K.diagonal().add_(noise)
    L = cholesky_factor(K, name="the penalised kernel matrix of the reference points")
    return ReferencePoints(Z, kernel, bandwidth, noise, triangular_inverse(L), groups)


def _part(variance: Tensor, prior: Tensor) -> Tensor:
    """Ratio of both; rounding may leave nothing, or less, of a small variance."""
    tiny = 8 * torch.finfo(prior.dtype).eps
    return (variance / prior).clamp(min=tiny, max=1.0)
