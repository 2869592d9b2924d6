"""The temperature against a general minimiser and on scores whose temperature is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from toptune.kernel.selection.calibration import INVERSE_TEMPERATURES, fit_temperature


def calibrated(n: int, c: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, and labels drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2.0 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    codes = torch.multinomial(torch.softmax(scores, 1), 1, generator=generator)[:, 0]
    return scores, codes


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("c", [2, 6])
def test_the_factor_by_which_scores_are_off_is_found(factor: float, c: int) -> None:
    scores, codes = calibrated(20_000, c)
    temperature, _ = fit_temperature(scores * factor, codes, torch.ones(20_000))
    # The estimate's standard error is about 1 / sqrt(n Var(score)), below 1 %.
    assert temperature == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("start", [0.01, 0.2, 50.0])
def test_is_the_minimum_of_the_smoothed_log_loss(seed: int, start: float) -> None:
    scores, codes = calibrated(50, 3, seed)
    weights = torch.tensor(np.random.default_rng(seed).uniform(0.1, 2.0, 50))
    S, w, smooth = scores.numpy(), (weights / weights.sum()).numpy(), 1 / 51
    target = (1 - smooth) * np.eye(3)[codes.numpy()] + smooth / 3

    def loss(log_b: float) -> float:
        return float(-(w[:, None] * target * log_softmax(np.exp(log_b) * S, axis=1)).sum())

    reference = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-9})
    temperature, unsmoothed = fit_temperature(scores, codes, weights, start=start)
    assert temperature == pytest.approx(np.exp(-reference.x), rel=1e-4)
    logp = log_softmax(S / temperature, axis=1)[np.arange(50), codes.numpy()]
    assert unsmoothed == pytest.approx(-(w * logp).sum(), rel=1e-10)


@pytest.mark.parametrize("n", [4, 400])
def test_perfect_scores_do_not_make_certainty(n: int) -> None:
    codes = torch.arange(n) % 2
    scores = 2.0 * torch.nn.functional.one_hot(codes, 2).double() - 1.0
    temperature, loss = fit_temperature(scores, codes, torch.ones(n))
    wrong = 1 / (1 + np.exp(2 / temperature))
    assert wrong == pytest.approx(0.5 / (n + 1), rel=1e-3)  # the smoothed share of the other class
    assert 0 < loss < 1


def test_scores_without_information_end_at_the_bounds() -> None:
    temperature, loss = fit_temperature(torch.zeros(6, 3), torch.arange(6) % 3, torch.ones(6))
    assert 1 / INVERSE_TEMPERATURES[1] <= temperature <= 1 / INVERSE_TEMPERATURES[0]
    assert loss == pytest.approx(np.log(3))


def test_scores_that_are_wrong_get_flat_probabilities() -> None:
    codes = torch.arange(40) % 2
    scores = 1.0 - 2.0 * torch.nn.functional.one_hot(codes, 2).double()
    temperature, loss = fit_temperature(scores, codes, torch.ones(40))
    assert temperature > 100
    assert loss == pytest.approx(np.log(2), rel=0.01)
