"""The Cholesky factor, its jitter, and its two failures."""

from __future__ import annotations

import warnings

import pytest
import torch

from toptune.kernel.linalg.cholesky import (
    JITTER_STEPS,
    JitterWarning,
    NonFiniteMatrixError,
    NotPositiveDefiniteError,
    cholesky_factor,
)


def positive_definite(m: int) -> torch.Tensor:
    A = torch.randn(m, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return A @ A.T + torch.eye(m, dtype=torch.float64)


def test_factor_of_a_well_conditioned_matrix_is_exact_and_silent() -> None:
    A = positive_definite(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        L = cholesky_factor(A)
    assert torch.equal(L, L.tril())
    torch.testing.assert_close(L @ L.T, A, rtol=1e-13, atol=1e-13)


def test_a_singular_matrix_gets_the_smallest_jitter_that_works_and_a_warning() -> None:
    v = torch.linspace(1, 2, 12, dtype=torch.float64)
    A = torch.outer(v, v)
    A.diagonal().sub_(2e-10 * float(A.diagonal().mean()))  # negative eigenvalues beyond 1e-11
    with pytest.warns(JitterWarning, match="kernel matrix is singular.*1e-09"):
        L = cholesky_factor(A, name="the kernel matrix")
    expected = A + 1e-9 * A.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(L @ L.T, expected, rtol=0, atol=1e-14 * 12)


@pytest.mark.parametrize("k", range(1, len(JITTER_STEPS)))
def test_jitter_the_size_of_rounding_is_silent_and_any_more_is_announced(k: int) -> None:
    step = JITTER_STEPS[k]
    A = torch.diag(torch.tensor([1.0] * 9 + [-step / 10], dtype=torch.float64))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        L = cholesky_factor(A)
    # The mean of the diagonal is 0.9, so this step and no smaller one lifts -step / 10 above zero.
    assert float(L[9, 9]) ** 2 == pytest.approx(0.9 * step - step / 10, rel=1e-2)
    assert [w.category for w in caught] == [JitterWarning] * (k > 1)


def test_the_warning_can_be_turned_off() -> None:
    A = torch.ones(5, 5, dtype=torch.float64)
    A.diagonal().sub_(2e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cholesky_factor(A, announce=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_one_error(value: float) -> None:
    A = positive_definite(4)
    A[1, 2] = A[2, 1] = value
    with pytest.raises(NonFiniteMatrixError, match="the gram matrix holds NaN or infinite"):
        cholesky_factor(A, name="the gram matrix")


def test_a_matrix_that_no_jitter_mends_is_another_error() -> None:
    A = torch.diag(torch.tensor([1.0, -0.01], dtype=torch.float64))
    with pytest.raises(NotPositiveDefiniteError, match=f"{JITTER_STEPS[-1]:g}"):
        cholesky_factor(A)
