"""Direct solutions and leave-one-out against dense float64 references and brute-force refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.operators import KernelOperator
from toptune.kernel.solvers import (
    NystromSystem,
    PenaltyPath,
    exact_path,
    exact_solution,
    nystrom_system,
)

BANDWIDTH = 1.7


def problem(n: int, c: int, *, weighted: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, +1/-1 targets and weights."""
    rng = np.random.default_rng(seed)
    X = torch.tensor(rng.normal(size=(n, 4)))
    codes = torch.tensor(rng.permutation(np.arange(n) % c))
    Y = 2.0 * torch.nn.functional.one_hot(codes, c).double() - 1.0
    w = torch.tensor(rng.uniform(0.2, 3.0, n)) if weighted else torch.ones(n, dtype=torch.float64)
    return X, Y, w


def dense_ridge(K: Tensor, Y: Tensor, w: Tensor, ridge: float) -> Tensor:
    """alpha of (W K + ridge I) alpha = W Y: stationarity of the weighted objective, unsymmetric."""
    A = w[:, None].numpy() * K.numpy() + ridge * np.eye(len(w))
    return torch.tensor(np.linalg.solve(A, (w[:, None] * Y).numpy()))


def normal_equations(K_nm: Tensor, K_mm: Tensor, Y: Tensor, w: Tensor, ridge: float) -> Tensor:
    """alpha of FALKON's (K_nm^T W K_nm + ridge K_mm) alpha = K_nm^T W Y."""
    WK = w[:, None] * K_nm
    return torch.tensor(np.linalg.solve((K_nm.T @ WK + ridge * K_mm).numpy(), (WK.T @ Y).numpy()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 1.0])
def test_exact_coefficients_are_those_of_the_dense_solution(weighted: bool, penalty: float) -> None:
    X, Y, w = problem(60, 3, weighted=weighted)
    K = kernel_matrix(X, X, "gaussian", BANDWIDTH)
    alpha = exact_solution(K, Y, w, penalty).alpha
    expected = dense_ridge(K, Y, w, penalty * float(w.sum()))
    # Both solve to float64; the condition number is at most n max(w) / (penalty sum w) = 3e6.
    torch.testing.assert_close(K @ alpha, K @ expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_all_samples_as_centers_is_exact_ridge_regression(weighted: bool) -> None:
    X, Y, w = problem(80, 4, weighted=weighted)
    K = kernel_matrix(X, X, "gaussian", BANDWIDTH)
    system = nystrom_system(KernelOperator(X, X, "gaussian", BANDWIDTH), Y, w)
    fitted = K @ system.coefficients(1e-4)
    expected = K @ dense_ridge(K, Y, w, 1e-4 * float(w.sum()))
    torch.testing.assert_close(fitted, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [1e-5, 1e-2])
def test_nystrom_coefficients_solve_the_normal_equations(weighted: bool, penalty: float) -> None:
    X, Y, w = problem(90, 3, weighted=weighted)
    Z = X[::6]
    system = nystrom_system(KernelOperator(X, Z, "matern32", BANDWIDTH), Y, w)
    K_nm = kernel_matrix(X, Z, "matern32", BANDWIDTH)
    K_mm = kernel_matrix(Z, Z, "matern32", BANDWIDTH)
    expected = normal_equations(K_nm, K_mm, Y, w, penalty * float(w.sum()))
    torch.testing.assert_close(system.coefficients(penalty), expected, rtol=1e-8, atol=1e-8)


def test_nystrom_sums_are_those_of_two_halves() -> None:
    X, Y, w = problem(50, 2, weighted=True)
    Z = X[:10]

    def system(rows: slice) -> NystromSystem:
        return nystrom_system(KernelOperator(X[rows], Z, "gaussian", BANDWIDTH), Y[rows], w[rows])

    whole, first, second = system(slice(None)), system(slice(20)), system(slice(20, None))
    torch.testing.assert_close(first.gram + second.gram, whole.gram)
    torch.testing.assert_close(first.PhitY + second.PhitY, whole.PhitY)
    assert first.weight + second.weight == pytest.approx(whole.weight)


def test_float32_features_are_solved_to_float32() -> None:
    X, Y, w = problem(200, 3, weighted=False)
    Z = X[::4]
    args = Y.float(), w.float()
    system = nystrom_system(KernelOperator(X.float(), Z.float(), "gaussian", BANDWIDTH), *args)
    K_nm, K_mm = (kernel_matrix(A, Z, "gaussian", BANDWIDTH) for A in (X, Z))
    expected = K_nm @ normal_equations(K_nm, K_mm, Y, w, 1e-3 * 200)
    # Errors eps in K_nm, and eps on the diagonal of K_mm, over the penalty: 1e-7 / 1e-3, times a
    # few for the sums over centers.
    torch.testing.assert_close(K_nm @ system.coefficients(1e-3), expected, rtol=0, atol=1e-3)


# ------------------------------------------------------------------------------ leave-one-out


def refits_exact(X: Tensor, Y: Tensor, w: Tensor, penalty: float) -> Tensor:
    """Predictions for each sample by a model solved without it; the ridge lambda N stays."""
    K = kernel_matrix(X, X, "gaussian", BANDWIDTH)
    out = torch.empty_like(Y)
    for i in range(len(X)):
        kept = torch.arange(len(X)) != i
        K_kept, ridge = K[kept][:, kept], penalty * float(w.sum())
        out[i] = K[i, kept] @ dense_ridge(K_kept, Y[kept], w[kept], ridge)
    return out


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
@pytest.mark.parametrize("penalty", [1e-5, 1e-2])
def test_leave_one_out_of_the_exact_solution_is_that_of_refits(
    c: int, weighted: bool, penalty: float
) -> None:
    X, Y, w = problem(40, c, weighted=weighted)
    K, expected = kernel_matrix(X, X, "gaussian", BANDWIDTH), refits_exact(X, Y, w, penalty)
    by_eigenvectors = exact_path(K, Y, w).leave_one_out(penalty)
    torch.testing.assert_close(by_eigenvectors, expected, rtol=1e-7, atol=1e-7)
    by_cholesky = exact_solution(K, Y, w, penalty).leave_one_out()
    torch.testing.assert_close(by_cholesky, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("c", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_of_the_nystrom_solution_is_that_of_refits_with_the_same_centers(
    c: int, weighted: bool
) -> None:
    X, Y, w = problem(40, c, weighted=weighted)
    Z = X[::4]
    path = nystrom_system(KernelOperator(X, Z, "gaussian", BANDWIDTH), Y, w).path()
    expected = refits_nystrom(X, Z, Y, w, 1e-3)
    torch.testing.assert_close(path.leave_one_out(1e-3), expected, rtol=1e-7, atol=1e-7)


def test_labels_that_mean_nothing_are_not_predicted_when_left_out() -> None:
    """A leave-one-out that leaks gives accuracy 1 here, as one in a well-known library once did."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(300, 50)))
    codes = torch.tensor(rng.integers(0, 2, 300))
    Y = 2.0 * torch.nn.functional.one_hot(codes, 2).double() - 1.0
    path = exact_path(kernel_matrix(X, X, "gaussian", 8.0), Y, torch.ones(300).double())
    for scores in path.leave_one_out_path([1e-7, 1e-3, 1.0]):
        accuracy = float((scores.argmax(1) == codes).double().mean())
        assert abs(accuracy - 0.5) < 5 * 0.5 / 300**0.5


@pytest.mark.parametrize("kind", ["exact", "nystrom"])
def test_the_path_is_its_single_penalties(kind: str) -> None:
    X, Y, w = problem(30, 3, weighted=True)
    path: PenaltyPath
    if kind == "exact":
        path = exact_path(kernel_matrix(X, X, "gaussian", BANDWIDTH), Y, w)
    else:
        path = nystrom_system(KernelOperator(X, X[:9], "gaussian", BANDWIDTH), Y, w).path()
    penalties = [1.0, 1e-3, 1e-6]
    for penalty, scores in zip(penalties, path.leave_one_out_path(penalties), strict=True):
        torch.testing.assert_close(scores, path.leave_one_out(penalty), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["exact", "nystrom"])
def test_duplicates_and_flat_kernels_stay_finite(kind: str, dtype: torch.dtype) -> None:
    X, Y, w = problem(60, 2, weighted=False)
    X = torch.cat([X[:30], X[:30]]).to(dtype)
    Y, w = Y.to(dtype), w.to(dtype)
    for bandwidth in (1.0, 1e4):
        if kind == "exact":
            path = exact_path(kernel_matrix(X, X, "gaussian", bandwidth), Y, w)
        else:
            path = nystrom_system(KernelOperator(X, X, "gaussian", bandwidth), Y, w).path()
        for scores in path.leave_one_out_path([1e-7, 1e-2]):
            assert torch.isfinite(scores).all()


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
        system = nystrom_system(KernelOperator(X, Z, "gaussian", BANDWIDTH), Y, w)
        K_nm = kernel_matrix(X.double(), Z.double(), "gaussian", BANDWIDTH)
        fitted.append(K_nm @ system.coefficients(penalty))
        left_out.append(system.path().leave_one_out(penalty))
    torch.testing.assert_close(fitted[1], fitted[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(left_out[1], left_out[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("penalty", [1e-7, 1e-9, 1e-12])
def test_isolated_samples_in_float32_stay_finite_at_any_penalty(penalty: float) -> None:
    """K = I: the leverage 1 / (1 + penalty n) is 1 in float32, and 1 - h would be zero."""
    Y = 2.0 * torch.nn.functional.one_hot(torch.arange(10) % 2, 2).float() - 1.0
    path = exact_path(torch.eye(10), Y, torch.ones(10))
    assert torch.isfinite(path.leave_one_out(penalty)).all()


@pytest.mark.parametrize("penalty", [1e-7, 1e-3])
def test_isolated_samples_say_nothing_about_each_other(penalty: float) -> None:
    """With K = I every refit without a sample predicts 0 for it, however weak the penalty."""
    _, Y, w = problem(30, 3, weighted=True)
    found = exact_solution(torch.eye(30, dtype=torch.float64), Y, w, penalty).leave_one_out()
    # y - beta / (1 / diagonal): a few roundings of numbers the size of y, whatever the penalty.
    torch.testing.assert_close(found, torch.zeros_like(Y), rtol=0, atol=1e-14)


def test_a_duplicate_is_predicted_from_its_twin() -> None:
    """With every sample twice and a weak penalty, leaving one out leaves its twin."""
    X, Y, w = problem(30, 2, weighted=False)
    X, Y, w = torch.cat([X, X]), torch.cat([Y, Y]), torch.cat([w, w])
    path = exact_path(kernel_matrix(X, X, "gaussian", 0.3), Y, w)
    # The twin of an isolated sample fits it up to the ridge 60 * 1e-6 against its eigenvalue 1,
    # and neighbours at this bandwidth overlap a little.
    torch.testing.assert_close(path.leave_one_out(1e-6), Y, rtol=0, atol=0.02)
