"""Cholesky factor of a kernel matrix: two named failures, jitter in bounded, announced steps."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

#: Relative to the mean diagonal. float64 rounding of an m x m kernel matrix is about m * 1e-16, so
#: the first step is below what the matrix itself is known to, and the last still changes
#: predictions by less than a penalty of 1e-6 would.
JITTER_STEPS = (0.0, 1e-13, 1e-11, 1e-9, 1e-7)


class NonFiniteMatrixError(ValueError):
    """The matrix holds NaN or infinity: no jitter can help."""


class NotPositiveDefiniteError(ValueError):
    """No jitter of `JITTER_STEPS` made the matrix positive definite."""


class JitterWarning(UserWarning):
    """The matrix was only positive definite up to rounding, and its diagonal was raised."""


def cholesky_factor(
    A: Tensor,  # (m, m), symmetric
    *,
    name: str = "matrix",
    announce: bool = True,
) -> Tensor:  # (m, m), lower triangular
    """Return L with L L^T = A + jitter I, the jitter being the smallest step that works.

    Parameters
    ----------
    A
        Symmetric matrix, expected positive semi-definite up to rounding.
    name
        How messages call it.
    announce
        Warn with `JitterWarning` when jitter above the first, rounding-sized step was needed.

    Raises
    ------
    NonFiniteMatrixError
        If A holds NaN or infinity.
    NotPositiveDefiniteError
        If the largest step does not suffice.
    """
    scale = float(A.diagonal().mean())
    for step in JITTER_STEPS:
        raised = A
        if step > 0.0:
            raised = A.clone()
            raised.diagonal().add_(step * scale)
        L: Tensor
        L, info = torch.linalg.cholesky_ex(raised)
        # Infinity passes as a pivot, and NaN or infinity elsewhere makes a pivot fail: looking at
        # all of A is needed only then.
        failed = int(info) != 0
        if not bool(torch.isfinite(A if failed else L.diagonal()).all()):
            raise NonFiniteMatrixError(f"{name} holds NaN or infinite values")
        if not failed:
            if announce and step > JITTER_STEPS[1]:
                warnings.warn(
                    f"{name} is singular to rounding; its diagonal was raised by {step:g} of its "
                    "mean (duplicated rows, or a bandwidth far too large, do this)",
                    JitterWarning,
                    stacklevel=2,
                )
            return L
    raise NotPositiveDefiniteError(
        f"{name} is not positive definite, even with its diagonal raised by "
        f"{JITTER_STEPS[-1]:g} of its mean"
    )
