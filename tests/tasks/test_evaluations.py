"""Scores of several labels and of numbers, against scikit-learn and counting."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from toptune.tasks import evaluate_labels, evaluate_numbers
from toptune.tasks.multilabel import logistic_curve


def labels(n: int = 60, c: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indicators and probabilities that know something of them, (n, c) each."""
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, c)) < [0.1, 0.3, 0.5, 0.9][:c]).astype(int)
    return Y, 1 / (1 + np.exp(-(2.0 * Y - 1 + rng.normal(size=(n, c)))))


def test_label_scores_are_those_of_scikit_learn() -> None:
    Y, P = labels()
    D = (P >= 0.4).astype(int)
    found = evaluate_labels(Y, P, D, list("abcd"))
    assert found.mean_average_precision == pytest.approx(average_precision_score(Y, P))
    assert found.micro_f1 == pytest.approx(f1_score(Y, D, average="micro"))
    assert found.macro_f1 == pytest.approx(f1_score(Y, D, average="macro"))
    assert found.subset_accuracy == found.score == pytest.approx(accuracy_score(Y, D))
    assert found.hamming_loss == pytest.approx(hamming_loss(Y, D))
    each = [log_loss(Y[:, k], P[:, k]) for k in range(4)]
    assert found.log_loss == pytest.approx(np.mean(each))
    assert found.per_label["a"].support == Y[:, 0].sum()
    assert found.per_label["b"].average_precision == pytest.approx(
        average_precision_score(Y[:, 1], P[:, 1])
    )


def test_a_label_that_does_not_occur_counts_in_no_mean() -> None:
    Y, P = labels()
    rare = np.hstack([Y, np.zeros((60, 1), int)])
    found = evaluate_labels(rare, np.hstack([P, P[:, :1]]), rare, list("abcde"))
    assert found.macro_f1 == 1.0
    assert found.mean_average_precision == pytest.approx(average_precision_score(Y, P))
    assert found.per_label["e"].average_precision is None
    nothing = evaluate_labels([[0, 0]], [[0.1, 0.2]], [[0, 0]], ["a", "b"])
    assert nothing.mean_average_precision is None
    assert (nothing.subset_accuracy, nothing.macro_f1) == (1.0, 0.0)
    assert json.loads(json.dumps(nothing.to_dict()))["mean_average_precision"] is None


def test_labels_that_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="there are no samples"):
        evaluate_labels(np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)), ["a", "b"])
    with pytest.raises(ValueError, match=r"must have shape \(1, 2\), got \(1, 2\), \(1, 3\)"):
        evaluate_labels([[0, 1]], [[0.1, 0.2, 0.3]], [[0, 1]], ["a", "b"])


def test_number_scores_are_those_of_the_libraries() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=50)
    z = y + rng.normal(size=50)
    found = evaluate_numbers(y, z)
    assert found.r2 == found.score == pytest.approx(r2_score(y, z))
    assert found.mae == pytest.approx(mean_absolute_error(y, z))
    assert found.rmse == pytest.approx(root_mean_squared_error(y, z))
    assert found.spearman == pytest.approx(spearmanr(y, z).statistic)
    assert found.n == 50


def test_what_is_not_defined_is_none() -> None:
    constant = evaluate_numbers([2.0, 2.0], [1.0, 3.0])
    assert (constant.r2, constant.spearman, constant.mae) == (None, None, 1.0)
    assert math.isnan(constant.score)
    flat = evaluate_numbers([1.0, 3.0], [2.0, 2.0])
    assert (flat.r2, flat.spearman) == (0.0, None)
    assert "NaN" not in json.dumps(constant.to_dict())
    with pytest.raises(ValueError, match="there are no samples"):
        evaluate_numbers([], [])
    with pytest.raises(ValueError, match=r"must be \(n,\), got \(2,\) and \(1,\)"):
        evaluate_numbers([1.0, 2.0], [1.0])


# ------------------------------------------------------------------------------- probabilities


def test_the_curve_finds_the_one_that_labels_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, size=20_000)
    y = rng.random(20_000) < 1 / (1 + np.exp(-(3.0 * s - 1.0)))
    slope, intercept = logistic_curve(s, y)
    # Standard errors are about 0.04 and 0.02.
    assert slope == pytest.approx(3.0, abs=0.15)
    assert intercept == pytest.approx(-1.0, abs=0.08)


def test_the_curve_has_the_least_smoothed_loss() -> None:
    rng = np.random.default_rng(1)
    s, y = rng.normal(size=30), rng.integers(0, 2, 30)
    s += y
    have = y.sum()
    target = np.where(y == 1, (have + 1) / (have + 2), 1 / (30 - have + 2))

    def loss(slope: float, intercept: float) -> float:
        margin = slope * s + intercept
        return float((np.logaddexp(0, margin) - target * margin).sum())

    slope, intercept = logistic_curve(s, y)
    best = loss(slope, intercept)
    for da, db in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(slope + da, intercept + db) > best


@pytest.mark.parametrize("present", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
def test_curves_of_little_evidence_are_neither_steps_nor_fall(present: list[int]) -> None:
    slope, intercept = logistic_curve(np.array([-1.0, -0.9, 0.9, 1.0]), np.array(present))
    assert 0 <= slope < 20
    p = 1 / (1 + np.exp(-(slope * np.array([-1.0, 1.0]) + intercept)))
    assert (p > 0.02).all()
    assert (p < 0.98).all()
    if present == [1, 1, 0, 0]:
        assert slope == 0
