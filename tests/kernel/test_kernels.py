"""Kernel matrices against double loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from toptune.kernel.kernels import (
    KERNELS,
    apply_profile,
    base_matrix,
    check_kernel,
    kernel_matrix,
    median_distance,
)

FORMULAS = {
    "gaussian": lambda r: math.exp(-(r**2) / 2),
    "laplacian": lambda r: math.exp(-r),
    "matern32": lambda r: (1 + math.sqrt(3) * r) * math.exp(-math.sqrt(3) * r),
    "matern52": lambda r: (1 + math.sqrt(5) * r + 5 * r**2 / 3) * math.exp(-math.sqrt(5) * r),
}


def naive(X: np.ndarray, Z: np.ndarray, kernel: str, bandwidth: float) -> np.ndarray:
    K = np.empty((len(X), len(Z)))
    for i, x in enumerate(X):
        for j, z in enumerate(Z):
            if kernel == "linear":
                K[i, j] = 1.0 + math.fsum(x * z)
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
    # terms are as large.
    eps = torch.finfo(dtype).eps
    tolerance = 30 * eps * max(1.0, 1 / bandwidth**2) * 8
    np.testing.assert_allclose(K.double().numpy(), naive(X, Z, kernel, bandwidth), atol=tolerance)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_matrix_with_itself_is_exactly_symmetric_with_a_true_diagonal(kernel: str) -> None:
    X = torch.tensor(sample(40, 6), dtype=torch.float32)
    K = kernel_matrix(X, X, kernel, 1.5)
    assert torch.equal(K, K.T)
    expected = 1.0 + (X * X).sum(1) if kernel == "linear" else torch.ones(40)
    torch.testing.assert_close(K.diagonal(), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_positive_semidefinite(kernel: str) -> None:
    X = torch.tensor(sample(30, 3))
    smallest = torch.linalg.eigvalsh(kernel_matrix(X, X, kernel, 1.0))[0]
    assert float(smallest) > -30 * 20 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "linear"])
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


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "linear"])
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
    found = median_distance(base_matrix(torch.tensor(X), torch.tensor(X), "gaussian"))
    # torch takes the lower of the two middle values of an even number; 21 is odd
    assert found == pytest.approx(float(np.median(pairs)), rel=1e-12)


@pytest.mark.parametrize("n", [1, 4])
def test_median_distance_without_distances_is_one(n: int) -> None:
    assert median_distance(torch.zeros(n, n)) == 1.0
