"""Positive-definite kernels between rows: a profile of squared distances, or of inner products.

Letters: n rows in X, m rows in Z, d features. The bandwidth is a length in feature space and
carries the units of the features, so scaling both leaves a kernel as it is.

    radial, r = ||x - z|| / bandwidth, all with k(x, x) = 1
        gaussian    exp(-r^2 / 2)
        laplacian   exp(-r)
        matern32    (1 + sqrt(3) r) exp(-sqrt(3) r)
        matern52    (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)
        cauchy      1 / (1 + r^2)
    of inner products, p = <x, z> / bandwidth^2
        linear      1 + p: a linear function with intercept
        polynomial  (1 + p)^3: all monomials up to the third degree

Splitting product and profile lets the selection compute the product once and try every bandwidth on
it. Matern forms: Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.17.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Profile = Callable[[Tensor], Tensor]


def _gaussian(r2: Tensor) -> Tensor:
    return r2.mul_(-0.5).exp_()


def _laplacian(r2: Tensor) -> Tensor:
    return r2.sqrt_().neg_().exp_()


def _matern32(r2: Tensor) -> Tensor:
    s = r2.mul_(3.0).sqrt_()
    return torch.exp(-s).mul_(s.add_(1.0))


def _matern52(r2: Tensor) -> Tensor:
    s = torch.sqrt(5.0 * r2)
    return torch.exp(-s).mul_(s.add_(1.0).add_(r2, alpha=5.0 / 3.0))


def _cauchy(r2: Tensor) -> Tensor:
    return r2.add_(1.0).reciprocal_()


def _linear(p: Tensor) -> Tensor:
    return p.add_(1.0)


def _polynomial(p: Tensor) -> Tensor:
    return p.add_(1.0).pow_(3)


#: Profiles of squared distances over bandwidth^2; each may overwrite its argument.
RADIAL: dict[str, Profile] = {
    "gaussian": _gaussian,
    "laplacian": _laplacian,
    "matern32": _matern32,
    "matern52": _matern52,
    "cauchy": _cauchy,
}
#: Profiles of inner products over bandwidth^2; each may overwrite its argument.
INNER: dict[str, Profile] = {"linear": _linear, "polynomial": _polynomial}
PROFILES: dict[str, Profile] = {**RADIAL, **INNER}
KERNELS: tuple[str, ...] = tuple(PROFILES)


def check_kernel(kernel: str) -> None:
    """Raise ValueError for a name that is not in `KERNELS`."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")


def squared_norms(
    X: Tensor,  # (n, d)
) -> Tensor:  # (n,)
    """Squared Euclidean norms of the rows."""
    return (X * X).sum(1)


def base_matrix(
    X: Tensor,  # (n, d)
    Z: Tensor,  # (m, d)
    kernel: str,
    *,
    bandwidth: float = 1.0,
    Z_norms: Tensor | None = None,
) -> Tensor:  # (n, m)
    """Squared distances, or inner products, over bandwidth^2: what a profile is applied to.

    Squared distances come from one matrix product, which cancels when rows lie far from the origin
    compared with their distances: centre the features first (`operators.Rows` does). They are
    clipped at zero. Where X and Z are the same tensor the result is exactly symmetric, with exact
    zeros of distance on the diagonal.

    Parameters
    ----------
    X, Z
        Rows, of one dtype and on one device.
    kernel
        A name of `KERNELS`.
    bandwidth
        Length scale > 0.
    Z_norms
        (m,) `squared_norms` of Z where they are known already.
    """
    scale = 1.0 / bandwidth**2
    if kernel in INNER:
        return (X @ Z.T).mul_(scale)
    if Z_norms is None:
        Z_norms = squared_norms(Z)
    D = torch.addmm(Z_norms, X, Z.T, beta=scale, alpha=-2.0 * scale)
    D.add_(squared_norms(X)[:, None], alpha=scale).clamp_(min=0.0)
    if X is Z:
        D = torch.maximum(D, D.T).fill_diagonal_(0.0)
    return D


def apply_profile(
    base: Tensor,  # (n, m), from `base_matrix` at bandwidth 1; left unchanged
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (n, m)
    """Kernel values from a base matrix at one bandwidth."""
    return PROFILES[kernel](base / bandwidth**2)


#: Derivatives of the profiles in their argument; where one has none at zero, zero stands for it.
_SLOPES: dict[str, Profile] = {
    "gaussian": lambda r2: torch.exp(-0.5 * r2).mul_(-0.5),
    "laplacian": lambda r2: (
        torch.exp(-r2.sqrt()) * torch.where(r2 > 0, -0.5 / r2.clamp(min=1e-30).sqrt(), 0.0)
    ),
    "matern32": lambda r2: torch.exp(-(3.0 * r2).sqrt()).mul_(-1.5),
    "matern52": lambda r2: torch.exp(-(5.0 * r2).sqrt()) * (1.0 + (5.0 * r2).sqrt()) * (-5.0 / 6.0),
    "cauchy": lambda r2: -((1.0 + r2) ** -2),
    "linear": torch.ones_like,
    "polynomial": lambda p: 3.0 * (1.0 + p) ** 2,
}


def profile_slope(
    base: Tensor,  # (n, m), from `base_matrix` at bandwidth 1
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (n, m)
    """Return the derivatives of kernel values in the entries of the base matrix."""
    return _SLOPES[kernel](base / bandwidth**2) / bandwidth**2


def kernel_matrix(
    X: Tensor,  # (n, d)
    Z: Tensor,  # (m, d)
    kernel: str,
    bandwidth: float,
    *,
    Z_norms: Tensor | None = None,
) -> Tensor:  # (n, m)
    """Kernel values between the rows of X and of Z; parameters as for `base_matrix`.

    Examples
    --------
    >>> import torch
    >>> from toptune.kernel.kernels import kernel_matrix
    >>> X = torch.tensor([[0.0], [2.0]])
    >>> kernel_matrix(X, X, "gaussian", 1.0)
    tensor([[1.0000, 0.1353],
            [0.1353, 1.0000]])
    """
    base = base_matrix(X, Z, kernel, bandwidth=bandwidth, Z_norms=Z_norms)
    return PROFILES[kernel](base)


def kernel_diagonal(
    X: Tensor,  # (n, d)
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (n,)
    """k(x, x) of every row."""
    base = squared_norms(X) / bandwidth**2 if kernel in INNER else X.new_zeros(X.shape[0])
    return PROFILES[kernel](base)


def length_scale(
    base: Tensor,  # (n, n), from `base_matrix` of X with itself at bandwidth 1
    kernel: str,
) -> float:
    """Return the length that bandwidths are multiples of; 1.0 where there is none above zero.

    Radial kernels: the median distance between two different rows, so that half of all pairs have
    r above 1. Kernels of inner products: the root mean square of the norms, so that p is of size 1.
    """
    n = base.shape[0]
    if kernel in INNER:
        square = float(base.diagonal().mean())
    elif n < 2:
        square = 0.0
    else:
        i, j = torch.triu_indices(n, n, offset=1, device=base.device)
        square = float(base[i, j].median())
    return math.sqrt(square) if square > 0.0 else 1.0
