"""Direct solutions and leave-one-out against dense float64 references and brute-force refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_helpers import BANDWIDTH, dense_ridge, operator_of, problem
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.systems.exact import exact_path, exact_solution
from toptune.kernel.systems.nystrom import nystrom_system


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 1.0])
def test_exact_coefficients_are_those_of_the_dense_solution(weighted: bool, penalty: float) -> None:
    X, Y, w = problem(60, 3, weighted=weighted)
    K = kernel_matrix(X, X, "gaussian", BANDWIDTH)
    alpha = exact_solution(K, Y, w, penalty).alpha
    expected = dense_ridge(K, Y, w, penalty * float(w.sum()))
    # Both solve to float64; the condition number is at most n max(w) / (penalty sum w) = 3e6.
    torch.testing.assert_close(K @ alpha, K @ expected, rtol=0, atol=1e-8)


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


def test_the_path_is_its_single_penalties() -> None:
    X, Y, w = problem(30, 3, weighted=True)
    path = exact_path(kernel_matrix(X, X, "gaussian", BANDWIDTH), Y, w)
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
            path = nystrom_system(operator_of(X, X, "gaussian", bandwidth), Y, w)
        for penalty in (1e-7, 1e-2):
            assert torch.isfinite(path.leave_one_out(penalty)).all()


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
