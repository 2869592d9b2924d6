"""Products that leave out zeros against the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toptune.kernel.linalg.triangular import (
    add_gram,
    lower_gram,
    pack_lower,
    symmetric,
    triangular_inverse,
    unpack_lower,
    upper_matmul,
)


@pytest.mark.parametrize("m", [1, 2, 7, 8, 33])
def test_triangular_and_symmetric_products_are_the_plain_ones(m: int) -> None:
    generator = torch.Generator().manual_seed(m)
    A = torch.randn(11, m, dtype=torch.float64, generator=generator)
    T = torch.triu(torch.randn(m, m, dtype=torch.float64, generator=generator))
    torch.testing.assert_close(upper_matmul(A, T), A @ T)
    gram = torch.zeros(m, m, dtype=torch.float64)
    add_gram(gram, A)
    add_gram(gram, A)
    torch.testing.assert_close(symmetric(gram), 2 * A.T @ A)
    torch.testing.assert_close(lower_gram(T.T), T @ T.T)


@pytest.mark.parametrize("m", [1, 5, 256, 257, 700])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_the_inverse_of_a_triangular_matrix(m: int, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(m)
    A = torch.randn(m, m, dtype=torch.float64, generator=generator)
    L = torch.linalg.cholesky(A @ A.T / m + torch.eye(m, dtype=torch.float64)).to(dtype)
    inverse = triangular_inverse(L)
    assert torch.equal(inverse, torch.tril(inverse))
    # condition number at most sqrt(5), m rounding errors
    torch.testing.assert_close(inverse @ L, torch.eye(m, dtype=dtype), rtol=0, atol=tolerance)


def test_a_packed_triangle_comes_back() -> None:
    A = np.array([[1.0, 2.0, 4.0], [2.0, 3.0, 5.0], [4.0, 5.0, 6.0]])
    packed = pack_lower(A)
    assert packed.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert np.array_equal(unpack_lower(packed, 3), A)
    with pytest.raises(ValueError, match=r"triangle of 4 rows has not the shape \(6,\)"):
        unpack_lower(packed, 4)
