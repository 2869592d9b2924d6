"""Positive-definite kernels between rows: profile(||x - z||^2 / bandwidth^2), or 1 + <x, z>.

Letters: n rows in X, m rows in Z, d features. Radial kernels are normalised to k(x, x) = 1, so the
bandwidth is a length in feature space and carries the units of the features:

    gaussian    exp(-r^2 / 2)
    laplacian   exp(-r)
    matern32    (1 + sqrt(3) r) exp(-sqrt(3) r)
    matern52    (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)     with r = ||x - z|| / bandwidth
    linear      1 + <x, z>: a linear function with intercept           (the bandwidth is not used)

Splitting distance and profile lets the selection compute the distances once and try every bandwidth
on them. Matern forms: Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.17.
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


#: Radial profiles; each may overwrite its argument.
PROFILES: dict[str, Profile] = {
    "gaussian": _gaussian,
    "laplacian": _laplacian,
    "matern32": _matern32,
    "matern52": _matern52,
}
KERNELS: tuple[str, ...] = (*PROFILES, "linear")


def check_kernel(kernel: str) -> None:
    """Raise ValueError for a name that is not in `KERNELS`."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")


def squared_distances(
    X: Tensor,  # (n, d)
    Z: Tensor,  # (m, d)
) -> Tensor:  # (n, m)
    """Squared Euclidean distances by one matrix product, clipped at zero.

    The product form cancels when rows lie far from the origin compared with their distances: centre
    the features first (`estimators` does).
    """
    D = torch.addmm((Z * Z).sum(1), X, Z.T, alpha=-2.0)
    return D.add_((X * X).sum(1, keepdim=True)).clamp_(min=0.0)


def base_matrix(
    X: Tensor,  # (n, d)
    Z: Tensor,  # (m, d)
    kernel: str,
) -> Tensor:  # (n, m)
    """Return what the bandwidth does not touch: squared distances, or the whole linear kernel.

    Where X and Z are the same tensor the result is made exactly symmetric, with exact zeros of
    distance on the diagonal.
    """
    if kernel == "linear":
        return (X @ Z.T).add_(1.0)
    D = squared_distances(X, Z)
    if X is Z:
        D = torch.maximum(D, D.T).fill_diagonal_(0.0)
    return D


def apply_profile(
    base: Tensor,  # (n, m), from `base_matrix`; left unchanged
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (n, m)
    """Kernel values from a base matrix at one bandwidth."""
    if kernel == "linear":
        return base
    return PROFILES[kernel](base / bandwidth**2)


def kernel_matrix(
    X: Tensor,  # (n, d)
    Z: Tensor,  # (m, d)
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (n, m)
    """Kernel values between the rows of X and of Z.

    Examples
    --------
    >>> import torch
    >>> from toptune.kernel.kernels import kernel_matrix
    >>> X = torch.tensor([[0.0], [2.0]])
    >>> kernel_matrix(X, X, "gaussian", 1.0)
    tensor([[1.0000, 0.1353],
            [0.1353, 1.0000]])
    """
    base = base_matrix(X, Z, kernel)
    if kernel == "linear":
        return base
    return PROFILES[kernel](base.div_(bandwidth**2))


def median_distance(
    base: Tensor,  # (n, n) squared distances
) -> float:
    """Median distance between two different rows; 1.0 where there is none above zero.

    The usual scale for a radial kernel's bandwidth: with it, half of all pairs have r above 1.
    """
    n = base.shape[0]
    if n < 2:
        return 1.0
    i, j = torch.triu_indices(n, n, offset=1, device=base.device)
    median = math.sqrt(float(base[i, j].median()))
    return median if median > 0.0 else 1.0
