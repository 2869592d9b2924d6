"""Kernel matrices against double loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from toptune.kernel.kernels import (
    INNER,
    KERNELS,
    RADIAL,
    apply_profile,
    base_matrix,
    check_kernel,
    kernel_diagonal,
    kernel_matrix,
    length_scale,
    squared_norms,
)

FORMULAS = {
    "gaussian": lambda r: math.exp(-(r**2) / 2),
    "laplacian": lambda r: math.exp(-r),
    "matern32": lambda r: (1 + math.sqrt(3) * r) * math.exp(-math.sqrt(3) * r),
    "matern52": lambda r: (1 + math.sqrt(5) * r + 5 * r**2 / 3) * math.exp(-math.sqrt(5) * r),
    "cauchy": lambda r: 1 / (1 + r**2),
}
INNER_FORMULAS = {"linear": lambda p: 1 + p, "polynomial": lambda p: (1 + p) ** 3}


def naive(X: np.ndarray, Z: np.ndarray, kernel: str, bandwidth: float) -> np.ndarray:
    K = np.empty((len(X), len(Z)))
    for i, x in enumerate(X):
        for j, z in enumerate(Z):
            if kernel in INNER_FORMULAS:
                K[i, j] = INNER_FORMULAS[kernel](math.fsum(x * z) / bandwidth**2)
            else:
                K[i, j] = FORMULAS[kernel](math.dist(x, z) / bandwidth)
    return K


def sample(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_double_loop(kernel: str, bandwidth: float, dtype: torch.dtype) -> None:
    X, Z = sample(9, 5), sample(7, 5, seed=1)
    K = kernel_matrix(torch.tensor(X, dtype=dtype), torch.tensor(Z, dtype=dtype), kernel, bandwidth)
    assert K.dtype == dtype
    # r^2 comes from a product with terms up to about 30, so its error is 30 eps / bandwidth^2; the
    # steepest profile in r^2 is 1 / (2 r) near r = 0.5 at these distances. The linear kernel's
    # terms are as large; the polynomial's derivative is 3 (1 + p)^2.
    eps = torch.finfo(dtype).eps
    expected = naive(X, Z, kernel, bandwidth)
    tolerance = 30 * eps * max(1.0, 1 / bandwidth**2) * 8
    if kernel == "polynomial":
        tolerance *= 3 * np.abs(expected).max() ** (2 / 3)
    np.testing.assert_allclose(K.double().numpy(), expected, atol=tolerance)
    norms = squared_norms(torch.tensor(Z, dtype=dtype))
    again = kernel_matrix(
        torch.tensor(X, dtype=dtype), torch.tensor(Z, dtype=dtype), kernel, bandwidth, Z_norms=norms
    )
    assert torch.equal(again, K)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_diagonal_is_that_of_the_matrix(kernel: str) -> None:
    X = torch.tensor(sample(9, 4))
    expected = kernel_matrix(X, X, kernel, 1.7).diagonal()
    torch.testing.assert_close(kernel_diagonal(X, kernel, 1.7), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_matrix_with_itself_is_exactly_symmetric_with_a_true_diagonal(kernel: str) -> None:
    X = torch.tensor(sample(40, 6), dtype=torch.float32)
    K = kernel_matrix(X, X, kernel, 1.5)
    assert torch.equal(K, K.T)
    norms = (X.double() ** 2).sum(1) / 1.5**2
    expected = INNER_FORMULAS[kernel](norms) if kernel in INNER else torch.ones(40).double()
    torch.testing.assert_close(K.diagonal().double(), expected, rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_positive_semidefinite(kernel: str) -> None:
    X = torch.tensor(sample(30, 3))
    smallest = torch.linalg.eigvalsh(kernel_matrix(X, X, kernel, 1.0))[0]
    # The polynomial's entries are up to (1 + 15)^3; the others' near one.
    size = 4000 if kernel == "polynomial" else 20
    assert float(smallest) > -30 * size * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("kernel", RADIAL)
def test_the_limits_of_the_bandwidth(kernel: str) -> None:
    X = torch.tensor(sample(6, 3))
    torch.testing.assert_close(kernel_matrix(X, X, kernel, 1e-4), torch.eye(6, dtype=X.dtype))
    wide = kernel_matrix(X, X, kernel, 1e9)
    torch.testing.assert_close(wide, torch.ones(6, 6, dtype=X.dtype), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_profile_of_stored_distances_is_the_kernel_and_leaves_them_unchanged(kernel: str) -> None:
    X = torch.tensor(sample(8, 4))
    base = base_matrix(X, X, kernel)
    before = base.clone()
    torch.testing.assert_close(apply_profile(base, kernel, 0.7), kernel_matrix(X, X, kernel, 0.7))
    assert torch.equal(base, before)


@pytest.mark.parametrize("kernel", RADIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_also_centers_have_no_negative_distance(
    kernel: str, dtype: torch.dtype
) -> None:
    """Rounding takes about half of these squared distances below zero, where a root is NaN."""
    X = torch.tensor(sample(50, 8), dtype=dtype)
    diagonal = kernel_matrix(X, X.clone(), kernel, 2.0).diagonal()
    # r^2 = 8 terms of rounding eps of ||x||^2 < 30, over bandwidth^2; the Laplacian takes its root.
    rounding = 8 * 30 * torch.finfo(dtype).eps / 4
    torch.testing.assert_close(diagonal, torch.ones_like(diagonal), rtol=0, atol=rounding**0.5)


def test_an_unknown_kernel_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"gaussian, laplacian.*'rbf'"):
        check_kernel("rbf")


def test_median_distance_is_that_of_all_pairs() -> None:
    X = sample(7, 2)
    pairs = [math.dist(X[i], X[j]) for i in range(7) for j in range(i)]
    same = torch.tensor(X)
    found = length_scale(base_matrix(same, same, "gaussian"), "gaussian")
    # torch takes the lower of the two middle values of an even number; 21 is odd
    assert found == pytest.approx(float(np.median(pairs)), rel=1e-12)


@pytest.mark.parametrize("n", [1, 4])
def test_a_length_scale_without_lengths_is_one(n: int) -> None:
    assert length_scale(torch.zeros(n, n), "gaussian") == 1.0
    assert length_scale(torch.zeros(n, n), "linear") == 1.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_features_scales_the_length_and_leaves_the_kernel(
    kernel: str, factor: float
) -> None:
    X = torch.tensor(sample(9, 4))
    one, other = (length_scale(base_matrix(A, A, kernel), kernel) for A in (X, factor * X))
    assert other == pytest.approx(factor * one)
    K = kernel_matrix(X, X, kernel, one)
    torch.testing.assert_close(kernel_matrix(factor * X, factor * X, kernel, other), K)


def test_the_length_scale_of_inner_products_is_the_root_mean_square_of_the_norms() -> None:
    X = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0], [5.0, 0.0]])
    assert length_scale(base_matrix(X, X, "linear"), "linear") == pytest.approx(12.5**0.5)
