"""Kernel logistic regression against a general minimiser, and leave-one-out against refits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_helpers import BANDWIDTH, operator_of, problem
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.solvers import logistic as module
from toptune.kernel.solvers.logistic import (
    LogisticSolution,
    approximate_leave_one_out,
    derivatives,
    logistic,
)
from toptune.kernel.systems.nystrom import center_factor


def reference(
    K_nm: Tensor, K_mm: Tensor, y: Tensor, w: Tensor, penalty: float, N: float
) -> np.ndarray:
    """Coefficients of one column by L-BFGS on the objective, in the whitened basis."""
    L = torch.linalg.cholesky(K_mm + 1e-14 * torch.eye(len(K_mm), dtype=K_mm.dtype)).numpy()
    Phi = np.linalg.solve(L, K_nm.numpy().T).T
    labels, weights = y.numpy(), w.numpy()

    def objective(beta: np.ndarray) -> tuple[float, np.ndarray]:
        margins = labels * (Phi @ beta)
        value = weights @ np.logaddexp(0.0, -margins) / N + penalty * beta @ beta
        slope = -labels * weights / (1.0 + np.exp(margins))
        return value, Phi.T @ slope / N + 2 * penalty * beta

    found = minimize(
        objective,
        np.zeros(Phi.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-12},
    )
    return np.linalg.solve(L.T, found.x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
def test_is_the_minimum_of_the_objective(weighted: bool, penalty: float) -> None:
    X, Y, w = problem(150, 3, weighted=weighted)
    Z = X[::5]
    found = logistic(
        operator_of(X, Z, "laplacian", BANDWIDTH), Y, w, penalty, center_weights=5 * w[::5]
    )
    assert found.converged.all(), found.message
    K_nm, K_mm = (kernel_matrix(A, Z, "laplacian", BANDWIDTH) for A in (X, Z))
    expected = np.stack(
        [reference(K_nm, K_mm, Y[:, k], w, penalty, float(w.sum())) for k in range(3)], axis=1
    )
    # Both stop where the objective, of curvature about penalty, changes by 1e-12 or less.
    np.testing.assert_allclose(found.F, K_nm @ expected, atol=3e-4)
    torch.testing.assert_close(found.F, K_nm @ found.alpha, rtol=0, atol=1e-8)


def test_a_linear_kernel_is_logistic_regression() -> None:
    X, Y, w = problem(120, 2, weighted=False)
    y = Y[:, 1]
    penalty = 1e-3
    found = logistic(operator_of(X, X, "linear", 1.0), y[:, None], w, penalty, center_weights=w)
    # k = 1 + <x, z> penalises the intercept as one more coefficient; C = 1 / (2 penalty n)
    ours = LogisticRegression(
        C=1 / (2 * penalty * 120), fit_intercept=False, tol=1e-12, max_iter=9999
    )
    ones = np.concatenate([X.numpy(), np.ones((120, 1))], axis=1)
    expected = ours.fit(ones, y.numpy()).decision_function(ones)
    np.testing.assert_allclose(found.F[:, 0], expected, atol=1e-4)


def test_derivatives_are_those_of_finite_differences() -> None:
    F = torch.linspace(-5, 5, 21, dtype=torch.float64)[:, None]
    for y in (-1.0, 1.0):
        Y = torch.full_like(F, y)

        def loss(G: Tensor, Y: Tensor = Y) -> Tensor:
            return torch.nn.functional.softplus(-Y * G)

        slope, curvature = derivatives(F, Y)
        h = 1e-4
        torch.testing.assert_close(slope, (loss(F + h) - loss(F - h)) / (2 * h), rtol=0, atol=1e-8)
        second = (loss(F + h) - 2 * loss(F) + loss(F - h)) / h**2
        torch.testing.assert_close(curvature, second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_is_close_to_refits(weighted: bool) -> None:
    X, Y, w = problem(60, 2, weighted=weighted)
    Z, penalty = X[::3], 1e-3
    operator = operator_of(X, Z, "gaussian", BANDWIDTH)
    solution = logistic(operator, Y, w, penalty, center_weights=3 * w[::3])
    found = approximate_leave_one_out(operator, solution, Y, w, penalty)
    K_nm, K_mm = (kernel_matrix(A, Z, "gaussian", BANDWIDTH) for A in (X, Z))
    expected = torch.empty_like(Y)
    N = float(w.sum())
    for i in range(60):
        kept = torch.arange(60) != i
        for k in range(2):
            alpha = reference(K_nm[kept], K_mm, Y[kept, k], w[kept], penalty, N)
            expected[i, k] = float(K_nm[i] @ torch.tensor(alpha))
    # One Newton step towards the refit leaves out terms of second order: a tenth of what leaving
    # out changes, or less.
    moved = (expected - solution.F).norm()
    assert float((found - expected).norm()) < 0.1 * float(moved)


def test_separable_classes_and_weak_penalties_converge() -> None:
    rng = np.random.default_rng(0)
    X = torch.tensor(np.concatenate([rng.normal(size=(40, 2)) - 9, rng.normal(size=(40, 2)) + 9]))
    Y = torch.cat([-torch.ones(40, 1), torch.ones(40, 1)]).double()
    w = torch.ones(80).double()
    found = logistic(operator_of(X, X, "gaussian", 5.0), Y, w, 1e-7, center_weights=w)
    assert found.converged.all()
    assert ((found.F > 0) == (Y > 0)).all()


def test_steps_that_are_all_rejected_are_no_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, w = problem(60, 2, weighted=False)
    original = module.preconditioned_solution

    def uphill(*args: Any, **named: Any) -> Any:
        found = original(*args, **named)
        return replace(found, value=torch.stack([-found.value[:, 0], found.value[:, 1]], dim=1))

    monkeypatch.setattr(module, "preconditioned_solution", uphill)
    operator = operator_of(X, X[::3], "gaussian", BANDWIDTH)
    found = logistic(operator, Y, w, 1e-3, center_weights=torch.full((20,), 3.0))
    assert not found.converged[0]
    assert torch.equal(found.alpha[:, 0], torch.zeros(20).double())
    assert found.converged[1]
    assert "1 of 2 columns" in found.message


@pytest.mark.parametrize("penalty", [1e-5, 1e-7])
@pytest.mark.parametrize("products", [4, 8, 30])
def test_what_is_called_converged_is_near_the_minimum(
    penalty: float, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However badly conjugate gradient solves for the steps."""
    X, Y, w = problem(150, 3, weighted=True)
    operator = operator_of(X, X[::5], "gaussian", 3.0)
    L = center_factor(operator)
    share = 5 * w[::5]

    def objective(found: LogisticSolution) -> Tensor:
        losses = w @ torch.nn.functional.softplus(-Y * found.F)
        return losses + penalty * w.sum() * (L.T @ found.alpha).square().sum(0)

    least = objective(logistic(operator, Y, w, penalty, center_weights=share))
    monkeypatch.setitem(module.RTOL, torch.float64, 1e-4)
    monkeypatch.setattr(module, "STEP_PRODUCTS", products)
    # Few centers stand for all, so that the preconditioner is a poor one.
    found = logistic(operator, Y, w, penalty, center_weights=share.flip(0) ** 2)
    gap = (objective(found) - least) / least
    # Twice the tolerance: the preconditioner only estimates what is left.
    assert (gap[found.converged] < 2e-4).all()
    assert found.converged.any() or products < 30


def test_float32_is_near_float64() -> None:
    X, Y, w = problem(300, 3, weighted=True)
    Z = X[::6]
    args = {"center_weights": 6 * w[::6]}
    wide = logistic(operator_of(X, Z, "gaussian", BANDWIDTH), Y, w, 1e-3, **args)
    narrow = logistic(
        operator_of(X.float(), Z.float(), "gaussian", BANDWIDTH),
        Y.float(),
        w.float(),
        1e-3,
        center_weights=args["center_weights"].float(),
    )
    assert narrow.converged.all()
    torch.testing.assert_close(narrow.F.double(), wide.F, rtol=0, atol=2e-2)
