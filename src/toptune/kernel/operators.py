"""Row blocks of the kernel matrix K_nm, so that it need not be stored whole.

Letters: n samples, m centers, d features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix

#: Bytes that one block of K_nm may take. Large enough for full matrix-product speed, small enough
#: to stay out of the way of the features themselves.
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class KernelOperator:
    """K_nm between samples and centers, one block of rows at a time.

    Parameters
    ----------
    X
        Samples, (n, d).
    Z
        Centers, (m, d), same dtype and device as X.
    kernel
        A name of `kernels.KERNELS`.
    bandwidth
        Length scale of the kernel, in the units of the features.
    """

    X: Tensor  # (n, d)
    Z: Tensor  # (m, d)
    kernel: str
    bandwidth: float

    @property
    def block_rows(self) -> int:
        """Rows in a block, at least one."""
        return max(1, BLOCK_BYTES // (self.Z.shape[0] * self.X.element_size() or 1))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, K[rows]) in order; K[rows] has shape (b, m) and belongs to the caller."""
        n, step = self.X.shape[0], self.block_rows
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            yield rows, kernel_matrix(self.X[rows], self.Z, self.kernel, self.bandwidth)

    def matmul(
        self,
        V: Tensor,  # (m, c)
    ) -> Tensor:  # (n, c)
        """K_nm V."""
        out = torch.empty(self.X.shape[0], V.shape[1], dtype=V.dtype, device=V.device)
        for rows, K in self.blocks():
            out[rows] = K.to(V.dtype) @ V
        return out
