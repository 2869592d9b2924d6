"""Products and inverses without the zeros of triangular matrices and halves of symmetric ones.

Made of ordinary matrix products of column blocks, so they run at their speed on any device.
Letters: b rows, m columns.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Column blocks of a product; of 8 x 8 blocks 36 are computed.
COLUMN_BLOCKS = 8
#: Size up to which a triangular matrix is inverted without splitting it.
SMALL = 256


def upper_matmul(
    A: Tensor,  # (b, m)
    T: Tensor,  # (m, m), upper triangular
    *,
    out: Tensor | None = None,  # (b, m)
) -> Tensor:  # (b, m)
    """Multiply A @ T without the products with T's zero blocks."""
    if out is None:
        out = torch.empty_like(A)
    for columns in column_blocks(T.shape[0]):
        torch.matmul(A[:, : columns.stop], T[: columns.stop, columns], out=out[:, columns])
    return out


def add_gram(
    gram: Tensor,  # (m, m) float64
    A: Tensor,  # (b, m)
) -> None:
    """Add A^T A to the lower triangle of the gram matrix; what it leaves above is not complete."""
    for columns in column_blocks(A.shape[1]):
        gram[columns.start :, columns] += A[:, columns.start :].T @ A[:, columns]


def symmetric(
    lower: Tensor,  # (m, m)
) -> Tensor:  # (m, m)
    """Return the symmetric matrix with this lower triangle."""
    return torch.tril(lower) + torch.tril(lower, -1).T


def column_blocks(m: int) -> list[slice]:
    """Return columns of about equal number, as many blocks as `COLUMN_BLOCKS` or m."""
    bounds = [m * k // COLUMN_BLOCKS for k in range(COLUMN_BLOCKS + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if a < b]


def lower_gram(
    A: Tensor,  # (m, m), lower triangular
) -> Tensor:  # (m, m)
    """A^T A, a third of the product's flops."""
    out = torch.zeros_like(A)
    for columns in column_blocks(A.shape[0]):
        below = A[columns.start :]
        torch.matmul(
            below[:, columns.start :].T, below[:, columns], out=out[columns.start :, columns]
        )
    return symmetric(out)


def triangular_inverse(
    L: Tensor,  # (m, m), lower triangular
) -> Tensor:  # (m, m), lower triangular
    """L^-1 by halves, most of it in two matrix products: a third of solving with the identity.

    With L = [[A, 0], [B, C]] the inverse is [[A^-1, 0], [-C^-1 B A^-1, C^-1]].
    """
    m = L.shape[0]
    if m <= SMALL:
        eye = torch.eye(m, dtype=L.dtype, device=L.device)
        small: Tensor = torch.linalg.solve_triangular(L, eye, upper=False)
        return small
    half = m // 2
    inverse = torch.zeros_like(L)
    A, C = triangular_inverse(L[:half, :half]), triangular_inverse(L[half:, half:])
    inverse[:half, :half], inverse[half:, half:] = A, C
    inverse[half:, :half] = -(C @ (L[half:, :half] @ A))
    return inverse


def pack_lower(
    A: NDArray[Any],  # (m, m)
) -> NDArray[Any]:  # (m (m + 1) / 2,)
    """Lower triangle, row after row."""
    return np.concatenate([row[: k + 1] for k, row in enumerate(A)])


def unpack_lower(
    packed: NDArray[Any],  # (m (m + 1) / 2,)
    m: int,
) -> NDArray[Any]:  # (m, m)
    """Return the symmetric matrix that has this lower triangle.

    Raises
    ------
    ValueError
        If the number of entries is not that of a triangle of m rows.
    """
    if packed.shape != (m * (m + 1) // 2,):
        raise ValueError(f"a triangle of {m} rows has not the shape {packed.shape}")
    A = np.empty((m, m), dtype=packed.dtype)
    start = 0
    for k in range(m):
        A[k, : k + 1] = A[: k + 1, k] = packed[start : start + k + 1]
        start += k + 1
    return A
