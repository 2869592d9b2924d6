"""Conjugate gradient, its preconditioner, and FALKON against the direct solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import BANDWIDTH, operator_of, problem
from torch import Tensor

from toptune.kernel import operators
from toptune.kernel.kernels import INNER, KERNELS, kernel_matrix
from toptune.kernel.linalg.conjugate_gradient import conjugate_gradient
from toptune.kernel.solvers.falkon import RTOL, falkon
from toptune.kernel.solvers.preconditioner import Preconditioner
from toptune.kernel.systems.nystrom import center_factor, nystrom_system


def definite(m: int, condition: float, seed: int) -> Tensor:
    """Symmetric matrix with eigenvalues between 1 / condition and 1."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
    return torch.tensor((Q * np.geomspace(1 / condition, 1.0, m)) @ Q.T)


# ------------------------------------------------------------------------- conjugate gradient


@settings(max_examples=30, deadline=None)
@given(
    m=st.integers(1, 30),
    c=st.integers(1, 5),
    condition=st.floats(1.0, 1e4),
    seed=st.integers(0, 1000),
)
def test_solves_every_column_to_the_tolerance(m: int, c: int, condition: float, seed: int) -> None:
    A = definite(m, condition, seed)
    generator = torch.Generator().manual_seed(seed)
    # columns of very different size: a mean residual would let the small ones go
    sizes = torch.logspace(-6, 6, c, dtype=torch.float64)
    B = sizes * torch.randn(m, c, dtype=torch.float64, generator=generator)
    found = conjugate_gradient(lambda V: A @ V, B, rtol=1e-9, max_iter=2000)
    assert found.converged.all()
    residual = (B - A @ found.value).norm(dim=0) / B.norm(dim=0)
    assert (residual <= 1e-9).all()
    torch.testing.assert_close(found.residual, residual, rtol=1e-3, atol=1e-15)
    error = (found.value - torch.linalg.solve(A, B)).norm(dim=0) / found.value.norm(dim=0)
    assert (error <= 1e-9 * condition * 1.01 + 1e-12).all()


def test_takes_as_many_steps_as_there_are_different_eigenvalues() -> None:
    A = torch.diag(torch.tensor([1.0, 1.0, 5.0, 5.0, 9.0], dtype=torch.float64))
    found = conjugate_gradient(
        lambda V: A @ V, torch.ones(5, 1, dtype=torch.float64), rtol=1e-12, max_iter=50
    )
    assert found.converged.all()
    assert found.iterations == 4  # three, and one for the true residual


def test_says_so_when_the_steps_do_not_suffice() -> None:
    A = definite(40, 1e6, 0)
    B = torch.ones(40, 2, dtype=torch.float64)
    found = conjugate_gradient(lambda V: A @ V, B, rtol=1e-10, max_iter=5)
    assert not found.converged.any()
    assert not found.stagnated
    assert "0 of 2 columns converged" in found.message


@pytest.mark.parametrize("max_iter", [0, 1, 2, 5, 40, 77])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_makes_at_most_as_many_products_as_it_may(max_iter: int, dtype: torch.dtype) -> None:
    A, products = definite(40, 1e5, 0).to(dtype), 0

    def product(V: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return A @ V

    B = torch.ones(40, 2, dtype=dtype)
    found = conjugate_gradient(product, B, rtol=1e-12, max_iter=max_iter)
    assert products == found.iterations <= max_iter
    residual = (B - A @ found.value).norm(dim=0) / B.norm(dim=0)
    torch.testing.assert_close(found.residual, residual)


def test_says_so_when_rounding_is_the_limit() -> None:
    A = definite(40, 1e5, 1).float()
    B = torch.ones(40, 1)
    found = conjugate_gradient(lambda V: A @ V, B, rtol=1e-12, max_iter=10_000)
    assert not found.converged.any()
    assert found.stagnated
    assert found.iterations < 10_000
    assert "rounding" in found.message
    # it is at the limit of float32: eps times the condition number
    assert float(found.residual[0]) < 1e-7 * 1e5


def test_a_column_of_zeros_is_solved_by_zeros() -> None:
    A = definite(10, 10.0, 0)
    B = torch.stack([torch.zeros(10), torch.ones(10)], dim=1).double()
    found = conjugate_gradient(lambda V: A @ V, B, rtol=1e-10, max_iter=100)
    assert found.converged.all()
    assert torch.equal(found.value[:, 0], torch.zeros(10).double())


def test_a_product_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        conjugate_gradient(lambda V: V * np.nan, torch.ones(3, 1), rtol=1e-6, max_iter=5)


# ---------------------------------------------------------------------------- preconditioner


def test_the_preconditioner_inverts_the_system_it_is_made_from() -> None:
    """With the centers as the samples, B^T (K D K + ridge K) B is the identity."""
    X, _, w = problem(30, 2, weighted=True)
    operator = operator_of(X, X, "laplacian", BANDWIDTH)
    L = center_factor(operator)
    K = L @ L.T
    solver = Preconditioner.of(L, w, 0.01)
    H = K @ torch.diag(w) @ K + 0.01 * K
    eye = torch.eye(30, dtype=torch.float64)
    B = solver.T_inverse(solver.A_inverse(eye))
    torch.testing.assert_close(B.T @ H @ B, eye, rtol=0, atol=1e-8)
    transposed = solver.A_inverse(solver.T_inverse(eye, transposed=True), transposed=True)
    torch.testing.assert_close(transposed, B.T)


# ------------------------------------------------------------------------------------ FALKON


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("dtype", "penalty", "tolerance"),
    # The direct solution rounds Phi^T Phi to eps of its size: an error eps / penalty = 1e-4 in
    # float32, times a few. Conjugate gradient multiplies in float64 and has no such error.
    [(torch.float32, 1e-3, 1e-3), (torch.float64, 1e-4, 1e-8)],
    ids=["32", "64"],
)
def test_predictions_are_those_of_the_direct_solution(
    kernel: str, weighted: bool, dtype: torch.dtype, penalty: float, tolerance: float
) -> None:
    X, Y, w = problem(400, 3, weighted=weighted)
    X, Y, w = X.to(dtype), Y.to(dtype), w.to(dtype)
    operator = operator_of(X, X[::8].contiguous(), kernel, 3.0)
    direct = nystrom_system(operator, Y, w).coefficients(penalty)
    found = falkon(operator, Y, w, penalty, center_weights=8 * w[::8])
    # The linear kernel of 50 centers in 4 dimensions is singular: what rounding leaves of the other
    # directions cannot converge, and does not matter.
    # For smooth kernels rounding may also end it within a factor of ten of the tolerance: how near
    # it comes depends on the number of threads. That predictions agree is asserted all the same.
    near = float(found.residual.max()) < 10 * RTOL[dtype]
    assert found.converged.all() or (found.stagnated and (kernel in INNER or near)), found.message
    K = kernel_matrix(X.double(), X[::8].double(), kernel, 3.0)
    torch.testing.assert_close(K @ found.value, K @ direct, rtol=0, atol=tolerance)


def test_kept_or_computed_anew_and_any_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, w = problem(150, 2, weighted=True)
    operator = operator_of(X, X[::5], "gaussian", BANDWIDTH)
    share = 5 * w[::5]
    whole = falkon(operator.kept(), Y, w, 1e-3, center_weights=share)
    monkeypatch.setattr(operators, "BLOCK_BYTES", 30 * 8 * 11)
    assert operator.block_rows == 11
    blocks = falkon(operator, Y, w, 1e-3, center_weights=share)
    kept = falkon(operator.kept(), Y, w, 1e-3, center_weights=share)
    for other in (blocks, kept):
        assert other.converged.all()
        torch.testing.assert_close(other.value, whole.value, rtol=1e-6, atol=1e-8)


def test_the_preconditioner_makes_few_products_do() -> None:
    X, Y, w = problem(2000, 3, weighted=False)
    operator = operator_of(X, X[::5], "gaussian", BANDWIDTH)
    found = falkon(operator, Y, w, 1e-3, center_weights=5 * w[::5], rtol=1e-6)
    assert found.converged.all()
    assert found.iterations <= 20
    K, K_mm = operator.block(slice(0, 2000)), kernel_matrix(X[::5], X[::5], "gaussian", BANDWIDTH)
    H = K.T @ K + 2 * K_mm  # penalty times n
    without = conjugate_gradient(lambda V: H @ V, K.T @ Y, rtol=1e-6, max_iter=10 * 20)
    assert not without.converged.any()


def test_too_few_products_are_reported() -> None:
    X, Y, w = problem(400, 3, weighted=False)
    operator = operator_of(X, X[::8], "laplacian", BANDWIDTH)
    found = falkon(operator, Y, w, 1e-7, center_weights=8 * w[::8], max_iter=2)
    assert not found.converged.all()
    assert found.iterations == 2


@pytest.mark.parametrize("bandwidth", [1e-3, 1e3])
def test_duplicates_and_extreme_bandwidths_stay_finite(bandwidth: float) -> None:
    X, Y, w = problem(100, 2, weighted=False)
    X = torch.cat([X[:50], X[:50]]).float()
    operator = operator_of(X, torch.cat([X[:20], X[:20]]), "gaussian", bandwidth)
    found = falkon(operator, Y.float(), w.float(), 1e-6, center_weights=torch.full((40,), 2.5))
    assert torch.isfinite(found.value).all()
    assert torch.isfinite(found.residual).all()
