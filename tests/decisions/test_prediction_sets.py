"""Conformal quantiles against their definition, and against the coverage that they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toptune.decisions.prediction_sets import check_rate, conformal_quantile, set_threshold


@given(scores=st.lists(st.integers(0, 20), min_size=1, max_size=60), percent=st.integers(1, 99))
@settings(deadline=None, max_examples=200)
def test_the_quantile_is_the_order_statistic_of_the_definition(
    scores: list[int], percent: int
) -> None:
    place = -(-(len(scores) + 1) * percent // 100)  # ceil, in integers
    expected = sorted(scores)[place - 1] if place <= len(scores) else math.inf
    assert conformal_quantile(scores, percent / 100) == expected
    # Groups of one sample each, and equal weights, change nothing.
    names = [f"g{i}" for i in range(len(scores))]
    assert conformal_quantile(scores, percent / 100, groups=names) == expected
    assert conformal_quantile(scores, percent / 100, weights=[3.0] * len(scores)) == expected


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_coverage_of_a_new_sample_is_what_was_asked_for(coverage: float) -> None:
    rng = np.random.default_rng(0)
    n, trials = 39, 4000
    scores = rng.exponential(size=(trials, n + 1))
    held = [row[-1] <= conformal_quantile(row[:-1], coverage) for row in scores]
    # ceil((n + 1) coverage) / (n + 1) = coverage here; five standard errors of 4000 trials.
    assert np.mean(held) == pytest.approx(coverage, abs=5 * math.sqrt(0.25 / trials))


def test_groups_count_once() -> None:
    """Nine groups: one of 100 copies of a large score must not be most of the distribution."""
    scores = [9.0] * 100 + [float(k) for k in range(1, 9)]
    groups = ["big"] * 100 + list("abcdefgh")
    assert conformal_quantile(scores, 0.5) == 9.0
    assert conformal_quantile(scores, 0.5, groups=groups) == 5.0
    assert conformal_quantile(scores, 0.95, groups=groups) == math.inf


def test_coverage_of_new_groups() -> None:
    rng = np.random.default_rng(0)
    coverage, trials, hits = 0.8, 1500, []
    for _ in range(trials):
        sizes = rng.choice([1, 2, 40], size=20)
        centers = rng.normal(size=20) * 3
        scores = [c + rng.normal(size=s) for c, s in zip(centers, sizes, strict=True)]
        groups = np.repeat(np.arange(19), sizes[:-1])
        bound = conformal_quantile(np.concatenate(scores[:-1]), coverage, groups=groups)
        hits.append((scores[-1] <= bound).mean())
    assert np.mean(hits) == pytest.approx(coverage, abs=5 * np.std(hits) / math.sqrt(trials))


def test_weights_stand_for_samples() -> None:
    assert conformal_quantile([1.0, 2.0, 3.0], 0.6, weights=[1.0, 1.0, 1.0]) == 3.0
    assert conformal_quantile([1.0, 2.0, 3.0], 0.6, weights=[8.0, 1.0, 1.0]) == 1.0


def test_sets_hold_the_true_class_as_often_as_asked() -> None:
    rng = np.random.default_rng(1)
    P = rng.dirichlet(np.ones(4) * 0.5, size=6000)
    y = np.array([rng.choice(4, p=p) for p in P])
    bound = set_threshold(P[:3000], y[:3000], 0.9)
    sets = P[3000:] >= bound
    held = sets[np.arange(3000), y[3000:]].mean()
    assert held == pytest.approx(0.9, abs=0.025)
    assert 1.0 < sets.sum(1).mean() < 3.0
    assert set_threshold(P[:5], y[:5], 0.9) == -math.inf


# Found in use: 1 - 1e-17 is 1, and the error was about a coverage that nobody had asked for.
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 95, float("nan"), True, 1e-17])
def test_rates_outside_are_named(value: float) -> None:
    with pytest.raises(ValueError, match="reject must be between 0 and 1, and neither of them"):
        check_rate("reject", value)
    with pytest.raises(ValueError, match="coverage must be between 0 and 1"):
        conformal_quantile([1.0], value)
    assert check_rate("reject", 1e-12) == 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": []}, r"n > 0, got \(0,\)"),
        ({"scores": [1.0, math.nan]}, "1 of 2 scores are NaN"),
        ({"groups": [1]}, r"groups must have shape \(2,\), got \(1,\)"),
        ({"weights": [1.0, 0.0]}, "weights must be 2 numbers > 0"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conformal_quantile(**({"scores": [1.0, 2.0], "coverage": 0.5} | arguments))
    with pytest.raises(ValueError, match=r"shapes \(n, c\) and \(n,\), got \(2,\) and \(1,\)"):
        set_threshold([0.5, 0.5], [0], 0.5)
