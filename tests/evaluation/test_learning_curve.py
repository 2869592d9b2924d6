"""Learning curves: known power laws are recovered, and no forecast is given without evidence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls

from toptune.evaluation.learning_curve import (
    EXPONENTS,
    extrapolate,
    fit_power_law,
    nested_subsets,
    resampled_errors,
)

SIZES = [50, 100, 200, 400]


def drawn(
    errors: list[float], n: int, *, n_draws: int = 5, sd: float = 0.003, seed: int = 0
) -> np.ndarray:
    """Wrong or right (S, K, n): images differ in difficulty, draws in luck."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)  # an image is wrong where this is below the error
    luck = rng.normal(0, sd, (n_draws, len(errors), 1))
    luck[:, -1] = luck[:1, -1]
    return difficulty < np.array(errors)[None, :, None] + luck


def law(a: float, b: float, c: float) -> list[float]:
    return [a + b * n**-c for n in SIZES]


# ---------------------------------------------------------------------------------------- the fit


@pytest.mark.parametrize(("a", "b", "c"), [(0, 2, 0.5), (0.1, 3, 0.8), (0.02, 0.6, 0.25)])
def test_fit_power_law_exact_law_is_recovered(a: float, b: float, c: float) -> None:
    found = fit_power_law(SIZES, law(a, b, c), 10_000)
    # Exponents lie 1.26 % apart, and a and b follow.
    assert found.c == pytest.approx(c, rel=0.0126)
    assert found.a == pytest.approx(a, abs=0.003)
    for n in (50, 400, 800, 1600):
        assert found.a + found.b * n**-found.c == pytest.approx(a + b * n**-c, abs=5e-4)


def test_fit_power_law_noise_equals_best_of_grid() -> None:
    """Against non-negative least squares of SciPy, exponent by exponent."""
    rng = np.random.default_rng(0)
    t = np.array(SIZES) / SIZES[-1]
    for _ in range(25):
        y = np.sort(rng.random(4))[:: rng.choice([-1, 1])]
        w = 1 / (y * (1 - y) + 1 / 100)
        w /= w.sum()
        best = np.inf
        for c in EXPONENTS:
            X = np.stack([np.ones(4), t**-c], axis=1) * np.sqrt(w)[:, None]
            best = min(best, nnls(X, np.sqrt(w) * y)[1] ** 2)
        found = fit_power_law(t, y, 100)
        assert min(found.a, found.b) >= 0
        assert float(w @ (y - found.a - found.b * t**-found.c) ** 2) == pytest.approx(
            best, rel=1e-6, abs=1e-12
        )


def test_fit_power_law_two_sizes_raises() -> None:
    with pytest.raises(ValueError, match="needs 3 sizes, got 2"):
        fit_power_law([1, 2], [0.5, 0.4], 10)


# --------------------------------------------------------------------------------- the forecasts


def test_extrapolate_clear_curve_interval_holds_truth() -> None:
    truth = law(0.02, 2.0, 0.5)
    found = extrapolate(SIZES, drawn(truth, 4000))
    assert found.status == "power law"
    assert found.law is not None
    for forecast, multiple in zip(found.forecasts, (2, 4), strict=True):
        gain = truth[-1] - (0.02 + 2.0 * (multiple * 400) ** -0.5)
        assert forecast.low is not None
        assert forecast.high is not None
        assert forecast.low < gain < forecast.high
        assert forecast.low < forecast.gain < forecast.high  # type: ignore[operator]


def test_extrapolate_many_seeds_most_intervals_hold_truth() -> None:
    truth = law(0.02, 2.0, 0.5)
    gain = truth[-1] - (0.02 + 2.0 * 800**-0.5)
    forecasts = [
        extrapolate(SIZES, drawn(truth, 3000, seed=seed), n_resamples=300).forecasts[0]
        for seed in range(40)
    ]
    told = [f for f in forecasts if f.gain is not None]
    assert len(told) > 20
    hits = sum(f.low <= gain <= f.high for f in told)  # type: ignore[operator]
    # 95 % at best; the last size has one draw only, whose luck no bootstrap knows. Fewer than
    # 0.8 of 20 or more would be one in a thousand at 95 %.
    assert hits / len(told) >= 0.8


def test_extrapolate_error_without_fall_is_flat() -> None:
    for errors in ([0.2] * 4, [0.2, 0.21, 0.2, 0.2], [0.3, 0.2, 0.1, 0.0]):
        found = extrapolate(SIZES, drawn(errors, 300, sd=0.0 if errors[-1] == 0 else 0.01))
        assert (found.status, found.law) == ("flat", None)
        assert [f.gain for f in found.forecasts] == [None, None]


def test_extrapolate_few_test_images_gives_no_forecast() -> None:
    for seed in range(6):
        found = extrapolate(SIZES, drawn(law(0.05, 2.0, 0.5), 12, seed=seed), n_resamples=500)
        assert found.status in ("not identified", "flat")
        assert found.law is None
        assert all(f.gain is f.low is f.high is None for f in found.forecasts)


def test_extrapolate_two_sizes_is_too_few() -> None:
    found = extrapolate(SIZES[:2], drawn([0.4, 0.2], 1000), multiples=(3,))
    assert found.status == "too few sizes"
    assert [f.multiple for f in found.forecasts] == [3]


def test_resampled_errors_small_problem_equals_enumeration() -> None:
    """Against all samples of 3 units and 2 draws, each as probable as the next."""
    rng = np.random.default_rng(0)
    wrong = (rng.random((2, 3, 5)) < 0.5).astype(float)
    unit = np.array([0, 0, 1, 2, 2])
    rates = []
    for units in itertools.product(range(3), repeat=3):
        columns = np.concatenate([np.flatnonzero(unit == u) for u in units])
        for draws in itertools.product(range(2), repeat=2):
            rates.append(wrong[list(draws)][:, :, columns].mean(axis=(0, 2)))
    found = resampled_errors(wrong, unit, 40_000, np.random.default_rng(1))
    # Means of 40,000 numbers in [0, 1]: standard errors of at most 0.0025, four of them.
    assert found.mean(axis=0) == pytest.approx(np.mean(rates, axis=0), abs=0.01)
    assert np.cov(found.T) == pytest.approx(np.cov(np.array(rates).T, bias=True), abs=0.01)


def test_extrapolate_copies_in_groups_keep_interval() -> None:
    wrong = drawn(law(0.02, 2.0, 0.5), 1500)
    once = extrapolate(SIZES, wrong)
    copies = extrapolate(SIZES, np.repeat(wrong, 3, axis=2), groups=np.repeat(range(1500), 3))
    # The weights count images, so that the fits differ a little.
    for a, b in zip(once.forecasts, copies.forecasts, strict=True):
        assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=0.02)


@pytest.mark.parametrize(
    ("wrong", "more", "message"),
    [
        (np.zeros((5, 3, 10)), {}, r"shape \(S, 4, n\), got \(5, 3, 10\)"),
        (np.zeros((4, 10)), {}, r"shape \(S, 4, n\)"),
        (np.zeros((5, 4, 10)), {"groups": [1]}, r"groups must have shape \(10,\)"),
    ],
)
def test_extrapolate_bad_shapes_raise(
    wrong: np.ndarray, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        extrapolate(SIZES, wrong, **more)


# ----------------------------------------------------------------------------------- the subsets

FRACTIONS = [0.125, 0.25, 0.5, 1.0]


def test_nested_subsets_classes_are_nested_and_stratified() -> None:
    labels = np.array(["a"] * 80 + ["b"] * 16 + ["c"] * 3 + ["d"])
    subsets = nested_subsets(labels, FRACTIONS, random_state=3)
    for small, large in itertools.pairwise(subsets):
        assert set(small) < set(large)
    assert subsets[-1].tolist() == list(range(100))
    counts = [{c: int((labels[rows] == c).sum()) for c in "abcd"} for rows in subsets]
    assert counts[0] == {"a": 10, "b": 2, "c": 2, "d": 1}
    assert counts[1] == {"a": 20, "b": 4, "c": 2, "d": 1}
    assert counts[2] == {"a": 40, "b": 8, "c": 2, "d": 1}
    again = nested_subsets(labels, FRACTIONS, random_state=3)
    assert all(np.array_equal(a, b) for a, b in zip(subsets, again, strict=True))
    other = nested_subsets(labels, FRACTIONS, random_state=4)
    assert not np.array_equal(other[0], subsets[0])


def test_nested_subsets_groups_are_whole() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 60)
    groups = np.concatenate([rng.integers(0, 20, 60), rng.integers(15, 40, 60)])
    for seed in range(5):
        subsets = nested_subsets(labels, FRACTIONS, groups=groups, random_state=seed)
        for rows in subsets:
            assert not set(groups[rows]) & set(np.delete(groups, rows))
            for c in "ab":
                assert len(set(groups[rows][labels[rows] == c])) >= 2
        for small, large in itertools.pairwise(subsets):
            assert set(small) <= set(large)
        assert len(subsets[0]) < len(subsets[1]) < len(subsets[2]) < 120


def test_nested_subsets_groups_of_one_equal_no_groups() -> None:
    labels = np.repeat(["a", "b"], 40)
    alone = nested_subsets(labels, FRACTIONS)
    grouped = nested_subsets(labels, FRACTIONS, groups=np.arange(80))
    assert all(np.array_equal(a, b) for a, b in zip(alone, grouped, strict=True))


def test_nested_subsets_bad_input_raises() -> None:
    for fraction in (0, 1.5):
        with pytest.raises(ValueError, match=r"fractions must be in \(0, 1\]"):
            nested_subsets(["a"], [fraction])
    with pytest.raises(ValueError, match=r"groups must have shape \(1,\), got \(2,\)"):
        nested_subsets(["a"], [0.5], groups=[1, 2])
