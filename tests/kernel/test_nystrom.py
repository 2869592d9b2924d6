"""Nystrom solutions and their leave-one-out against dense float64 references and refits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kernel_helpers import BANDWIDTH, dense_ridge, operator_of, problem
from torch import Tensor

from toptune.kernel import operators
from toptune.kernel.kernels import KERNELS, kernel_matrix
from toptune.kernel.systems.nystrom import NystromSums, NystromSystem, nystrom_system


def normal_equations(K_nm: Tensor, K_mm: Tensor, Y: Tensor, w: Tensor, ridge: float) -> Tensor:
    """alpha of FALKON's (K_nm^T W K_nm + ridge K_mm) alpha = K_nm^T W Y."""
    WK = w[:, None] * K_nm
    return torch.tensor(np.linalg.solve((K_nm.T @ WK + ridge * K_mm).numpy(), (WK.T @ Y).numpy()))


@pytest.mark.parametrize("weighted", [False, True])
def test_all_samples_as_centers_is_exact_ridge_regression(weighted: bool) -> None:
    X, Y, w = problem(80, 4, weighted=weighted)
    K = kernel_matrix(X, X, "gaussian", BANDWIDTH)
    system = nystrom_system(operator_of(X, X, "gaussian", BANDWIDTH), Y, w)
    fitted = K @ system.coefficients(1e-4)
    expected = K @ dense_ridge(K, Y, w, 1e-4 * float(w.sum()))
    torch.testing.assert_close(fitted, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [1e-5, 1e-2])
def test_nystrom_coefficients_solve_the_normal_equations(weighted: bool, penalty: float) -> None:
    X, Y, w = problem(90, 3, weighted=weighted)
    Z = X[::6]
    system = nystrom_system(operator_of(X, Z, "matern32", BANDWIDTH), Y, w)
    K_nm = kernel_matrix(X, Z, "matern32", BANDWIDTH)
    K_mm = kernel_matrix(Z, Z, "matern32", BANDWIDTH)
    expected = normal_equations(K_nm, K_mm, Y, w, penalty * float(w.sum()))
    torch.testing.assert_close(system.coefficients(penalty), expected, rtol=1e-8, atol=1e-8)


def test_nystrom_sums_are_those_of_two_halves() -> None:
    X, Y, w = problem(50, 2, weighted=True)
    Z = X[:10]

    def system(rows: slice) -> NystromSystem:
        return nystrom_system(operator_of(X[rows], Z, "gaussian", BANDWIDTH), Y[rows], w[rows])

    whole, first, second = system(slice(None)), system(slice(20)), system(slice(20, None))
    a, b = vars(first.sums), vars(second.sums)
    merged = NystromSums(**{name: a[name] + b[name] for name in a})
    torch.testing.assert_close(merged.gram, whole.sums.gram)
    torch.testing.assert_close(merged.PhitY, whole.sums.PhitY)
    assert merged.weight == pytest.approx(whole.sums.weight)
    together = dataclasses.replace(whole, sums=merged)
    torch.testing.assert_close(together.coefficients(1e-3), whole.coefficients(1e-3))


def test_float32_features_are_solved_to_float32() -> None:
    X, Y, w = problem(200, 3, weighted=False)
    Z = X[::4]
    args = Y.float(), w.float()
    system = nystrom_system(operator_of(X.float(), Z.float(), "gaussian", BANDWIDTH), *args)
    K_nm, K_mm = (kernel_matrix(A, Z, "gaussian", BANDWIDTH) for A in (X, Z))
    expected = K_nm @ normal_equations(K_nm, K_mm, Y, w, 1e-3 * 200)
    # Errors eps in K_nm, and eps on the diagonal of K_mm, over the penalty: 1e-7 / 1e-3, times a
    # few for the sums over centers.
    torch.testing.assert_close(K_nm @ system.coefficients(1e-3), expected, rtol=0, atol=1e-3)


def refits_nystrom(X: Tensor, Z: Tensor, Y: Tensor, w: Tensor, penalty: float) -> Tensor:
    K_nm, K_mm = (kernel_matrix(A, Z, "gaussian", BANDWIDTH) for A in (X, Z))
    out = torch.empty_like(Y)
    for i in range(len(X)):
        kept = torch.arange(len(X)) != i
        ridge = penalty * float(w.sum())
        out[i] = K_nm[i] @ normal_equations(K_nm[kept], K_mm, Y[kept], w[kept], ridge)
    return out


@pytest.mark.parametrize("c", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_of_the_nystrom_solution_is_that_of_refits_with_the_same_centers(
    c: int, weighted: bool
) -> None:
    X, Y, w = problem(40, c, weighted=weighted)
    Z = X[::4]
    system = nystrom_system(operator_of(X, Z, "gaussian", BANDWIDTH), Y, w)
    expected = refits_nystrom(X, Z, Y, w, 1e-3)
    torch.testing.assert_close(system.leave_one_out(1e-3), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "penalty", "tolerance"),
    # Rounding errors eps of K_nm are divided by the pivot sqrt(eps) of a repeated center, and the
    # squares of what remains by the penalty: eps / penalty, with n and the targets some 10 times.
    [(torch.float64, 1e-5, 1e-9), (torch.float32, 1e-2, 1e-4), (torch.float32, 1e-4, 1e-2)],
)
def test_repeated_centers_change_nothing(
    dtype: torch.dtype, penalty: float, tolerance: float
) -> None:
    X, Y, w = (t.to(dtype) for t in problem(200, 3, weighted=False))
    once, twice = X[:40], torch.cat([X[:40], X[:40], X[:7]])
    fitted, left_out = [], []
    for Z in (once, twice):
        system = nystrom_system(operator_of(X, Z, "gaussian", BANDWIDTH), Y, w)
        K_nm = kernel_matrix(X.double(), Z.double(), "gaussian", BANDWIDTH)
        fitted.append(K_nm @ system.coefficients(penalty))
        left_out.append(system.leave_one_out(penalty))
    torch.testing.assert_close(fitted[1], fitted[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(left_out[1], left_out[0], rtol=0, atol=tolerance)


# ------------------------------------------------------------------------ ways of computing


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_of_all_or_some_kept_or_not_whatever_the_blocks(
    keep: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y, w = problem(90, 3, weighted=weighted)
    operator = operator_of(X, X[::5], "gaussian", BANDWIDTH)
    expected = refits_nystrom(X, X[::5], Y, w, 1e-3)
    monkeypatch.setattr(operators, "BLOCK_BYTES", 18 * 8 * 7)  # seven rows
    system = nystrom_system(operator, Y, w, keep=keep)
    assert (system.Phi is not None) == keep
    torch.testing.assert_close(system.leave_one_out(1e-3), expected, rtol=1e-7, atol=1e-7)
    rows = np.array([0, 3, 4, 50, 89])
    some = system.part(rows)
    torch.testing.assert_close(some.leave_one_out(1e-3), expected[rows], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 7])
def test_every_kernel_and_dtype_against_the_dense_solution(
    kernel: str, dtype: torch.dtype, c: int
) -> None:
    X, Y, w = problem(120, max(c, 2), weighted=True)
    Y = Y[:, :c]
    Z = X[::4]
    K_nm, K_mm = (kernel_matrix(A, Z, kernel, 2.0) for A in (X, Z))
    expected = K_nm @ normal_equations(K_nm, K_mm, Y, w, 1e-2 * float(w.sum()))
    operator = operator_of(X.to(dtype), Z.to(dtype), kernel, 2.0)
    system = nystrom_system(operator, Y.to(dtype), w.to(dtype))
    found = K_nm @ system.coefficients(1e-2)
    # Rounding eps of K_nm, whose entries for the polynomial are up to (1 + 16 / 4)^3 = 125, over
    # the penalty 1e-2 and the smallest direction of K_mm that is kept, sqrt(eps).
    tolerance = 1e-6 if dtype == torch.float64 else 5e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_the_layout_of_the_features_in_memory_does_not_matter(layout: str) -> None:
    X, Y, w = problem(80, 2, weighted=False)
    array = X.numpy()
    if layout == "columns":
        array = np.asfortranarray(array)
    elif layout == "strided":
        array = np.repeat(array, 2, axis=0)[::2]
    rows = operators.Rows(array, dtype=torch.float64)
    operator = operators.KernelOperator(rows, X[::8], "gaussian", BANDWIDTH)
    expected = nystrom_system(operator_of(X, X[::8], "gaussian", BANDWIDTH), Y, w)
    found = nystrom_system(operator, Y, w)
    torch.testing.assert_close(found.coefficients(1e-4), expected.coefficients(1e-4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("keep", [True, False])
def test_a_device_gives_what_the_processor_gives(keep: bool) -> None:
    X, Y, w = problem(300, 3, weighted=True)
    here = nystrom_system(operator_of(X, X[::5], "gaussian", BANDWIDTH), Y, w)
    device = torch.device("cuda")
    rows = operators.Rows(X.numpy(), dtype=torch.float64, device=device)
    operator = operators.KernelOperator(rows, X[::5].to(device), "gaussian", BANDWIDTH)
    there = nystrom_system(operator, Y.to(device), w.to(device), keep=keep)
    torch.testing.assert_close(there.coefficients(1e-4).cpu(), here.coefficients(1e-4))
    torch.testing.assert_close(there.leave_one_out(1e-4).cpu(), here.leave_one_out(1e-4))
