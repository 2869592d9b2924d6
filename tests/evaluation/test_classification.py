"""Evaluation of class probabilities against counting by hand, and against scikit-learn."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss

from toptune.evaluation.classification import (
    evaluate_probabilities,
    expected_calibration_error,
    reliability_table,
)


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
def test_evaluate_probabilities_any_problem_equals_counting(
    problem: tuple[list[str], np.ndarray, list[str]],
) -> None:
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


def test_evaluate_probabilities_random_classes_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, P = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), size=200)
    found = evaluate_probabilities(y, P, [0, 1, 2])
    # The same float64 sums in another order: 200 eps = 4e-14.
    assert found.log_loss == pytest.approx(log_loss(y, P), rel=1e-12)
    assert found.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y, P.argmax(1)), rel=1e-12
    )


def test_evaluate_probabilities_class_without_samples_is_in_no_mean() -> None:
    found = evaluate_probabilities(["a", "a", "b"], np.eye(3)[[0, 2, 1]], ["a", "b", "never"])
    assert found.balanced_accuracy == pytest.approx((0.5 + 1.0) / 2)
    never = found.per_class["never"]
    assert (never.support, never.recall, never.precision, never.f1) == (0, 0.0, 0.0, 0.0)


def test_evaluate_probabilities_wrong_certainty_has_finite_loss() -> None:
    found = evaluate_probabilities(["a"], [[0.0, 1.0]], ["a", "b"])
    assert found.log_loss == pytest.approx(-math.log(np.finfo(np.float64).tiny))


def test_evaluate_probabilities_right_certainty_has_no_loss() -> None:
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
def test_evaluation_labels_of_any_type_are_plain_json(
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
def test_evaluate_probabilities_bad_input_raises(y: list[Any], proba: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_probabilities(y, proba, ["a", "b"])


# ----------------------------------------------------------------------------------- calibration


@given(problem=problems(), n_bins=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_reliability_any_bins_equals_counting(
    problem: tuple[list[str], np.ndarray, list[str]], n_bins: int
) -> None:
    y, P, classes = problem
    codes = [classes.index(label) for label in y]
    table = reliability_table(codes, P, n_bins=n_bins)
    assert [row.low for row in table] == pytest.approx([k / n_bins for k in range(n_bins)])
    gap = 0.0
    for row in table:
        here = [i for i in range(len(y)) if row.low < max(P[i]) <= row.high]
        assert row.count == len(here)
        if here:
            confidence = math.fsum(max(P[i]) for i in here) / len(here)
            right = sum(np.argmax(P[i]) == codes[i] for i in here) / len(here)
            assert row.confidence == pytest.approx(confidence, rel=1e-12)
            assert row.accuracy == pytest.approx(right, rel=1e-12)
            gap += len(here) / len(y) * abs(confidence - right)
    assert expected_calibration_error(codes, P, n_bins=n_bins) == pytest.approx(gap, abs=1e-12)
    found = evaluate_probabilities(y, P, classes)
    assert found.ece == expected_calibration_error(codes, P)
    assert json.loads(json.dumps(found.to_dict()))["reliability"][14] == {
        "low": found.reliability[14].low,
        "high": 1.0,
        "count": found.reliability[14].count,
        "confidence": found.reliability[14].confidence,
        "accuracy": found.reliability[14].accuracy,
    }


def test_reliability_table_extreme_probabilities_have_a_bin() -> None:
    first = reliability_table([0], [[0.0]])
    assert (first[0].count, first[0].confidence, first[0].accuracy) == (1, 0.0, 1.0)
    assert (first[1].count, first[1].confidence, first[1].accuracy) == (0, None, None)
    assert reliability_table([0], [[1.0 + 1e-15, 0.0]])[-1].count == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [[0.5, 0.5], [0.2, 0.8]]), r"got \(1,\) and \(2, 2\)"),
        (([], np.zeros((0, 2))), r"n > 0, got \(0,\) and \(0, 2\)"),
        (([0], [[1.0]], 0), "n_bins must be >= 1, got 0"),
    ],
)
def test_reliability_bad_input_raises(arguments: Any, message: str) -> None:
    y, P, *bins = arguments
    for function in (reliability_table, expected_calibration_error):
        with pytest.raises(ValueError, match=message):
            function(y, P, **({"n_bins": bins[0]} if bins else {}))
