"""Evaluation of class probabilities against counting by hand, and against scikit-learn."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score, log_loss

from toptune.metrics import compare_predictions, evaluate_probabilities


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[str], np.ndarray, list[str]]:
    """True labels, probabilities with distinct values in a row, and classes."""
    classes = draw(st.permutations(["ant", "bee", "cat", "dog"]))[: draw(st.integers(2, 4))]
    y = draw(st.lists(st.sampled_from(classes), min_size=1, max_size=25))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return y, rng.dirichlet(np.ones(len(classes)), size=len(y)), classes


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_every_number_is_that_of_counting(problem: tuple[list[str], np.ndarray, list[str]]) -> None:
    y, P, classes = problem
    found = evaluate_probabilities(y, P, classes)
    answers = [classes[max(range(len(classes)), key=row.__getitem__)] for row in P]
    pairs = list(zip(y, answers, strict=True))
    assert found.n == len(y)
    assert found.classes == classes  # in the order given, sorted or not
    assert found.confusion_matrix.tolist() == [
        [pairs.count((t, p)) for p in classes] for t in classes
    ]
    # Sums of at most 25 terms: relative rounding below 25 eps = 6e-15.
    assert found.accuracy == pytest.approx(sum(t == p for t, p in pairs) / len(y), rel=1e-13)
    nats = [-math.log(P[i, classes.index(label)]) for i, label in enumerate(y)]
    assert found.log_loss == pytest.approx(math.fsum(nats) / len(y), rel=1e-13, abs=1e-15)
    recalls = []
    for label in classes:
        hits, truly, said = pairs.count((label, label)), y.count(label), answers.count(label)
        row = found.per_class[label]
        assert row.support == truly
        assert row.recall == pytest.approx(ratio(hits, truly))
        assert row.precision == pytest.approx(ratio(hits, said))
        assert row.f1 == pytest.approx(ratio(2 * hits, truly + said))
        recalls += [ratio(hits, truly)] * (truly > 0)
    assert found.balanced_accuracy == pytest.approx(sum(recalls) / len(recalls))


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, P = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), size=200)
    found = evaluate_probabilities(y, P, [0, 1, 2])
    # The same float64 sums in another order: 200 eps = 4e-14.
    assert found.log_loss == pytest.approx(log_loss(y, P), rel=1e-12)
    assert found.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y, P.argmax(1)), rel=1e-12
    )


def test_a_class_that_does_not_occur_counts_in_no_mean() -> None:
    found = evaluate_probabilities(["a", "a", "b"], np.eye(3)[[0, 2, 1]], ["a", "b", "never"])
    assert found.balanced_accuracy == pytest.approx((0.5 + 1.0) / 2)
    never = found.per_class["never"]
    assert (never.support, never.recall, never.precision, never.f1) == (0, 0.0, 0.0, 0.0)


def test_certainty_that_is_wrong_costs_a_finite_loss() -> None:
    found = evaluate_probabilities(["a"], [[0.0, 1.0]], ["a", "b"])
    assert found.log_loss == pytest.approx(-math.log(np.finfo(np.float64).tiny))


def test_certainty_that_is_right_costs_nothing() -> None:
    found = evaluate_probabilities(["a", "b"], np.eye(2), ["a", "b"])
    assert (found.accuracy, found.balanced_accuracy, found.log_loss) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (np.array(["no", "yes"]), ["no", "yes"]),
        (np.array([3, 10]), [3, 10]),
        (np.array([False, True]), [False, True]),
    ],
)
def test_labels_of_any_type_become_plain_python_and_json(
    classes: np.ndarray, expected: list[Any]
) -> None:
    found = evaluate_probabilities(classes[[1, 0, 1]], np.eye(2)[[1, 0, 0]], classes)
    assert found.classes == expected
    assert list(found.per_class) == expected
    document = json.loads(json.dumps(found.to_dict()))
    assert document["classes"] == expected
    assert document["confusion_matrix"] == [[1, 0], [1, 1]]
    assert document["accuracy"] == pytest.approx(2 / 3)
    assert document["per_class"][str(expected[1])] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }


@pytest.mark.parametrize(
    ("y", "proba", "message"),
    [
        ([], np.empty((0, 2)), "no samples"),
        (["a"], [[0.5, 0.3, 0.2]], r"shape \(1, 2\), got \(1, 3\)"),
        (["a", "b"], [[0.5, 0.5]], r"shape \(2, 2\), got \(1, 2\)"),
        (["a"], [0.5, 0.5], r"shape \(1, 2\), got \(2,\)"),
        (["zoo", "a", "elk"], np.full((3, 2), 0.5), "not among the classes: 'elk', 'zoo'$"),
        ([1], [[0.5, 0.5]], "not among the classes: 1$"),
    ],
)
def test_what_cannot_be_compared_is_named(y: list[Any], proba: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_probabilities(y, proba, ["a", "b"])


ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12)


@given(right=ANSWERS)
@settings(deadline=None)
def test_mcnemar_is_the_share_of_all_outcomes(right: list[tuple[bool, bool]]) -> None:
    a = [int(not first) for first, _ in right]  # the true label is 0, a wrong one 1
    b = [int(not second) for _, second in right]
    found = compare_predictions([0] * len(right), a, b, n_resamples=50)
    split = [first for first, second in right if first != second]
    assert found.only_a == sum(split)
    assert found.only_b == len(split) - sum(split)
    # Under the hypothesis either is right with probability one half; count what is as extreme.
    away = abs(2 * sum(split) - len(split))
    outcomes = [abs(2 * sum(bits) - len(split)) for bits in product((0, 1), repeat=len(split))]
    p = sum(outcome >= away for outcome in outcomes) / len(outcomes)
    assert found.p_value == pytest.approx(p, rel=1e-12)
    assert found.difference == pytest.approx((b.count(1) - a.count(1)) / len(right))


def test_interval_of_a_difference_agrees_with_resampling_the_images() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(3, size=200)
    a, b = (np.where(rng.random(200) < share, y, (y + 1) % 3) for share in (0.9, 0.8))
    gain = (a == y).astype(float) - (b == y)
    expected = bootstrap(
        (gain,), np.mean, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    found = compare_predictions(y, a, b, n_resamples=20_000)
    # Differences are multiples of 1/200; the quantiles may fall on neighbours.
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1.01 / 200)
    assert found == compare_predictions(y, a, b, n_resamples=20_000)


def test_equal_predictions_do_not_differ() -> None:
    found = compare_predictions(["x", "y"], ["x", "x"], ["x", "x"])
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("y", "a", "b", "message"),
    [
        ([], [], [], "no samples"),
        ([0, 1], [0], [0, 1], r"\(2,\), \(1,\) and \(2,\)"),
        ([[0]], [[0]], [[0]], "shapes must be equal"),
    ],
)
def test_what_cannot_be_compared(y: list, a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_predictions(y, a, b)
