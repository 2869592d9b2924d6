"""Weights of feature groups: the gradient against finite differences, and what the prior does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from kernel_helpers import problem
from torch import Tensor

from toptune.kernel import KERNELS, KernelClassifier
from toptune.kernel.kernels import apply_profile, base_matrix
from toptune.kernel.selection.calibration import calibrated_log_loss
from toptune.kernel.selection.group_weights import loss_and_slope, refine_weights
from toptune.kernel.systems.exact import exact_path
from toptune.kernel.systems.groups import group_batches

PENALTIES = (1e-7, 1.0)


def setting(n: int, c: int, kernel: str) -> tuple[Tensor, Tensor, Tensor, Callable]:
    X, Y, w = problem(n, c, weighted=True)
    parts = torch.stack([base_matrix(x, x, kernel) for x in (X[:, :1].clone(), X[:, 1:].clone())])
    codes = Y.argmax(1)
    return parts, Y, w, lambda scores: calibrated_log_loss(scores, codes, w)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_loss_and_slope_are_those_of_the_path_and_of_finite_differences(
    kernel: str, grouped: bool
) -> None:
    parts, Y, w, loss = setting(30, 3, kernel)
    groups = np.arange(30) // 2 * (np.arange(30) < 12) + np.arange(30) if grouped else None
    if groups is not None:
        groups[:12] = np.arange(12) // 3  # four groups of three, the others single
    batches = group_batches(groups, Y.device, 30)
    theta = np.log([0.7, 0.2, 1e-2])

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        return loss_and_slope(
            parts, Y, w, theta, kernel=kernel, bandwidth=1.3, loss=loss, batches=batches
        )

    value, slope = at(theta)
    base = torch.tensordot(torch.tensor(np.exp(theta[:2])), parts, dims=1)
    path = exact_path(apply_profile(base, kernel, 1.3), Y, w, groups)
    assert value == pytest.approx(float(loss(path.leave_one_out(1e-2))), rel=1e-9)
    step = 1e-4
    for k in range(3):
        ahead, behind = theta.copy(), theta.copy()
        ahead[k] += step
        behind[k] -= step
        # The temperature is found to 1e-4, its effect on the loss is quadratic: errors of 1e-8
        # over steps of 1e-4.
        expected = (at(ahead)[0] - at(behind)[0]) / (2 * step)
        assert slope[k] == pytest.approx(expected, rel=2e-3, abs=3e-5)


def ratio_of_signal(n: int, seed: int) -> float:
    """Weight of a group that tells the classes over that of one of noise."""
    rng = np.random.default_rng(seed)
    codes = torch.tensor(rng.integers(0, 2, n))
    signal = torch.tensor(rng.normal(size=(n, 3))) + 1.5 * codes[:, None]
    noise = torch.tensor(rng.normal(size=(n, 3)))
    parts = torch.stack([base_matrix(x, x, "gaussian") for x in (signal, noise)])
    w = torch.ones(n).double()
    found = refine_weights(
        parts,
        2.0 * torch.nn.functional.one_hot(codes, 2).double() - 1.0,
        w,
        start=(0.2, 0.2),
        penalty=1e-2,
        kernel="gaussian",
        bandwidth=1.0,
        loss=lambda scores: calibrated_log_loss(scores, codes, w),
        penalties=PENALTIES,
    )
    return found[0] / found[1]


def test_informative_groups_get_more_weight_the_more_samples_there_are() -> None:
    few, many = (np.mean([np.log(ratio_of_signal(n, s)) for s in range(5)]) for n in (20, 200))
    assert 0.0 < few < many
    assert many > np.log(1.3)


def test_a_matrix_that_cannot_be_factorised_is_no_step_to_take() -> None:
    parts, Y, w, loss = setting(20, 2, "gaussian")
    parts = torch.full_like(parts, float("nan"))
    value, slope = loss_and_slope(
        parts,
        Y,
        w,
        np.log([1.0, 1.0, 1e-3]),
        kernel="gaussian",
        bandwidth=1.0,
        loss=loss,
        batches=(),
    )
    assert value == np.inf
    assert not slope.any()


def test_the_weights_are_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 9)), rng.integers(0, 3, 120)
    X[:, :3] += y[:, None]
    fits = [KernelClassifier(feature_groups=[3, 6]).fit(X, y) for _ in range(2)]
    assert np.array_equal(fits[0].group_weights_, fits[1].group_weights_)
    assert fits[0].group_weights_[0] > fits[0].group_weights_[1]
