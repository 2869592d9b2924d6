"""Weights of feature groups by the gradient of the leave-one-out loss, with a prior against whims.

The kernel acts on the weighted sum of the groups' squared distances (or inner products),

    base = sum_g v_g base_g,   K = profile(base),   A = W^1/2 K W^1/2 + lambda N I.

With B = A^-1, beta = B W^1/2 Y, the scores without group G of samples (G = {i}: leave-one-out) are
y_G - e_G / sqrt(w), e_G = (B_GG)^-1 beta_G. For a loss of these scores with gradient q in e,

    p_G = (B_GG)^-1 q_G,   dloss/dA = -(B p) beta^T + B blockdiag(p_G e_G^T) B,

from which the derivatives in log v_g and log lambda follow: all of them for one inverse and one
more product, however many groups there are. What is minimised is

    loss + (PRIOR / (2 u)) sum_g (delta_g - mean delta)^2,

delta_g the difference of log v_g from its start, u the number of samples, or of groups of samples,
that are left out. The second term is a normal prior on the ratios of the weights: u losses of one
sample each against one log-prior. With few samples the weights stay near the start, with many they
go where the data say.

Letters: n samples, c outputs, g feature groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from toptune.kernel.kernels import apply_profile, profile_slope
from toptune.kernel.systems.groups import group_batches

#: Inverse variance of the log-weights: a factor of exp(3 ** -0.5) = 1.8 is one standard deviation.
PRIOR = 3.0
#: Steps of L-BFGS, each about three products of n x n matrices, and the relative decrease of the
#: loss below which it ends: far below what the loss itself is uncertain by.
MAX_STEPS, MIN_DECREASE = 12, 1e-5
#: How far a weight may go from its start, as a factor either way.
FARTHEST = 100.0

#: Loss of scores (n, c), differentiable in them.
Loss = Callable[[Tensor], Tensor]


def refine_weights(
    parts: Tensor,  # (g, n, n), base matrix of each group at bandwidth 1
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    *,
    start: tuple[float, ...],  # (g,)
    penalty: float,
    kernel: str,
    bandwidth: float,
    loss: Loss,
    groups: NDArray[np.intp] | None = None,  # (n,)
    penalties: tuple[float, float],
) -> tuple[float, ...]:  # (g,)
    """Go from the weights at the start to those of least loss and prior.

    Parameters
    ----------
    parts, Y, w
        Samples; their leave-one-out scores decide.
    start
        Weights > 0 to start from, the mode of the prior.
    penalty
        lambda to start from; it moves along and is not returned, for it is chosen afterwards.
    kernel, bandwidth
        Of the profile; the weights make up for any bandwidth.
    loss
        What is minimised.
    groups
        Codes of the groups of samples that are left out whole; None: every sample by itself.
    penalties
        Least and largest penalty.
    """
    origin = np.log(np.array([*start, penalty]))
    units = len(Y) if groups is None else len(np.unique(groups))
    batches = group_batches(groups, Y.device, len(Y))

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = loss_and_slope(
            parts, Y, w, theta, kernel=kernel, bandwidth=bandwidth, loss=loss, batches=batches
        )
        delta = theta[:-1] - origin[:-1]
        delta -= delta.mean()
        slope[:-1] += PRIOR / units * delta
        return value + PRIOR / (2 * units) * float(delta @ delta), slope

    reach = np.log(FARTHEST)
    bounds = [(x - reach, x + reach) for x in origin[:-1]]
    bounds.append((np.log(penalties[0]), np.log(penalties[1])))
    found = minimize(
        objective,
        np.clip(origin, *np.transpose(bounds)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": MAX_STEPS, "maxfun": 2 * MAX_STEPS, "ftol": MIN_DECREASE},
    )
    return tuple(np.exp(found.x[:-1]).tolist())


def loss_and_slope(
    parts: Tensor,  # (g, n, n)
    Y: Tensor,  # (n, c)
    w: Tensor,  # (n,)
    theta: NDArray[np.float64],  # (g + 1,), logarithms of the weights and of the penalty
    *,
    kernel: str,
    bandwidth: float,
    loss: Loss,
    batches: tuple[Tensor, ...],  # rows left out together, see `group_batches`
) -> tuple[float, NDArray[np.float64]]:
    """Leave-one-out loss and its derivatives in theta, (g + 1,).

    Where the penalised kernel matrix cannot be factorised the loss is infinite.
    """
    weights = torch.as_tensor(np.exp(theta), dtype=parts.dtype, device=parts.device)
    base = torch.tensordot(weights[:-1], parts, dims=1)
    sqrt_w = w.sqrt()[:, None]
    A = sqrt_w * apply_profile(base, kernel, bandwidth) * sqrt_w.T
    ridge = weights[-1] * w.sum()
    A.diagonal().add_(ridge)
    L, info = torch.linalg.cholesky_ex(A)
    if int(info) != 0:
        return np.inf, np.zeros_like(theta)
    B = torch.cholesky_inverse(L)
    R = sqrt_w * Y
    beta = B @ R
    diagonal = B.diagonal()[:, None]
    e = beta / diagonal
    blocks = [B[rows[:, :, None], rows[:, None, :]] for rows in batches]  # each (k, size, size)
    for rows, block in zip(batches, blocks, strict=True):
        e[rows] = torch.linalg.solve(block, beta[rows])
    scores = (Y - e / sqrt_w).requires_grad_()
    value = loss(scores)
    q = -torch.autograd.grad(value, scores)[0] / sqrt_w
    p = q / diagonal
    for rows, block in zip(batches, blocks, strict=True):
        p[rows] = torch.linalg.solve(block, q[rows])
    # B blockdiag(p e^T) B; rows that are left out alone have a block of one number.
    middle = B * (p * e).sum(1)
    for rows in batches:
        middle[:, rows] = torch.einsum("nks,kst->nkt", B[:, rows], p[rows] @ e[rows].mT)
    slope_A = middle @ B - (B @ p) @ beta.T
    slope_base = (sqrt_w * slope_A * sqrt_w.T).mul_(profile_slope(base, kernel, bandwidth))
    slopes = torch.tensordot(parts, slope_base, dims=2) * weights[:-1]
    slope_penalty = slope_A.diagonal().sum() * ridge
    return float(value.detach()), torch.cat([slopes, slope_penalty[None]]).double().cpu().numpy()
