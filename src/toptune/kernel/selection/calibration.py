"""Temperature scaling: probabilities softmax(scores / T), T fitted on leave-one-out scores.

Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599) fit T on a validation
split; leave-one-out scores are as honest about unseen images and cost no images.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Inverse temperatures searched. Scores are in units of the +1/-1 coding, so 1/T = 1000 makes a
#: score difference of 0.01 a ratio of e^10: beyond that, probabilities no longer change.
INVERSE_TEMPERATURES = (1e-3, 1e3)
#: Most Newton steps.
MAX_STEPS = 30


def fit_temperature(
    scores: Tensor,  # (n, c)
    codes: Tensor,  # (n,) int64 class codes
    weights: Tensor,  # (n,)
    *,
    start: float = 0.2,
) -> tuple[float, float]:
    """Return the temperature of least log-loss, and that log-loss (nats per sample).

    The loss is convex in b = 1 / T, so Newton steps kept inside a shrinking bracket find its
    minimum. Labels are smoothed by one sample in n + 1: perfectly separated scores would otherwise
    drive T to zero, and n correct answers do not prove that the next one is certain.

    Examples
    --------
    >>> import torch
    >>> scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [-0.2, 0.2], [0.4, -0.4]])
    >>> temperature, loss = fit_temperature(scores, torch.tensor([0, 1, 0, 0]), torch.ones(4))
    >>> round(temperature, 2), round(loss, 2)
    (0.96, 0.38)
    """
    S = scores.double()
    w = weights.double() / weights.double().sum()
    smooth = 1.0 / (len(codes) + 1)
    s_y = S.gather(1, codes[:, None])[:, 0]
    target = float(w @ ((1.0 - smooth) * s_y + smooth * S.mean(1)))
    low, high = INVERSE_TEMPERATURES
    b = min(max(1.0 / start, low), high)
    for _ in range(MAX_STEPS):
        P = torch.softmax(b * S, dim=1)
        mean = (P * S).sum(1)
        slope = float(w @ mean) - target
        curvature = float(w @ ((P * S * S).sum(1) - mean**2))
        low, high = (b, high) if slope < 0.0 else (low, b)
        step = b - slope / curvature if curvature > 0.0 else (low * high) ** 0.5
        # A step that leaves the bracket is replaced by bisection on the logarithm.
        following = step if low < step < high else (low * high) ** 0.5
        done = abs(following - b) <= 1e-4 * b
        b = following
        if done:  # Newton's error is squared by a step: what is left is about 1e-8
            break
    loss = float(w @ (torch.logsumexp(b * S, dim=1) - b * s_y))
    return 1.0 / b, loss


def calibrated_log_loss(
    scores: Tensor,  # (n, c)
    codes: Tensor,  # (n,)
    w: Tensor,  # (n,)
) -> Tensor:
    """Log-loss of scores of classes at their best temperature, differentiable in the scores.

    What the temperature changes with the scores has no part in the gradient: it is the best one.
    """
    temperature, _ = fit_temperature(scores.detach(), codes, w)
    S = scores.double() / temperature
    losses = torch.logsumexp(S, dim=1) - S.gather(1, codes[:, None])[:, 0]
    return w.double() @ losses / w.double().sum()
