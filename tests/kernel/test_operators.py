"""Blocks of the kernel matrix against the whole matrix."""

from __future__ import annotations

import pytest
import torch
from kernel_helpers import operator_of

from toptune.kernel import operators
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.operators import KernelOperator


@pytest.fixture
def operator() -> KernelOperator:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(37, 4, generator=generator, dtype=torch.float64)
    Z = torch.randn(11, 4, generator=generator, dtype=torch.float64)
    return operator_of(X, Z, "matern52", 1.3)


@pytest.mark.parametrize("rows", [1, 5, 36, 37, 1000])
def test_blocks_of_any_size_make_the_whole_matrix(
    operator: KernelOperator, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "BLOCK_BYTES", rows * 11 * 8)
    K = kernel_matrix(operator.X.all(), operator.Z, "matern52", 1.3)
    blocks = list(operator.blocks())
    assert operator.block_rows == rows
    assert len(blocks) == -(-37 // rows)
    assert [r.start for r, _ in blocks] == list(range(0, 37, rows))
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), K)
    V = torch.randn(11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(operator.matmul(V), K @ V)


def test_a_block_has_at_least_one_row(
    operator: KernelOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "BLOCK_BYTES", 1)
    assert operator.block_rows == 1


def test_the_product_has_the_precision_of_the_vectors(operator: KernelOperator) -> None:
    """Coefficients are large and of both signs: a product in float32 would cancel."""
    X, Z = operator.X.all().float(), operator.Z.float()
    V = torch.randn(11, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = operator_of(X, Z, "gaussian", 1.0).matmul(V)
    assert found.dtype == torch.float64
    # 11 terms of size 1 in float64; in float32 the errors would be about 1e-7.
    expected = kernel_matrix(X, Z, "gaussian", 1.0).double() @ V
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
