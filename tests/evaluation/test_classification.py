"""Evaluation of class probabilities against counting by hand, and against scikit-learn."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, log_loss

from toptune.evaluation.classification import (
    evaluate_probabilities,
    expected_calibration_error,
    paired_difference,
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


# --------------------------------------------------------------------------- two classifiers


def predictions(better: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted labels, a right and b wrong at 1, b right and a wrong at -1."""
    d = np.array(better)
    return np.zeros(len(d), int), (d < 0).astype(int), (d > 0).astype(int)


@given(
    better=st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=9),
    seed=st.integers(0, 10**6),
    grouped=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_p_value_is_that_of_all_assignments_of_signs(
    better: list[int], seed: int, grouped: bool
) -> None:
    groups = np.arange(len(better))
    if grouped:
        groups = np.random.default_rng(seed).integers(0, 4, len(better))
        groups[:2] = 0, 1  # two at least
    sums = [sum(np.array(better)[groups == g]) for g in np.unique(groups)]
    all_sums = [abs(sum(s * d for s, d in zip(signs, sums, strict=True)))
                for signs in itertools.product((-1, 1), repeat=len(sums))]  # fmt: skip
    expected = np.mean([value >= abs(sum(sums)) for value in all_sums])
    found = paired_difference(*predictions(better), groups=groups, n_resamples=1)
    # Sums of at most 2^9 chances, each with a few roundings.
    assert found.p_value == pytest.approx(expected, rel=1e-12)
    assert found.difference == pytest.approx(np.mean(better))
    assert found.n == len(better)


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 0), (1, 0), (9, 2), (5, 5), (300, 240)])
def test_p_value_without_groups_is_that_of_mcnemar(n_a: int, n_b: int) -> None:
    found = paired_difference(*predictions([1] * n_a + [-1] * n_b + [0] * 50), n_resamples=1)
    expected = 1.0 if n_a + n_b == 0 else binomtest(n_a, n_a + n_b, 0.5).pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 2, 2, 3]])
def test_interval_is_that_of_all_bootstrap_samples(groups: list[int] | None) -> None:
    better = np.array([1, 1, 0, -1, 1, 0, 0])
    members = np.arange(7) if groups is None else np.array(groups)
    units = [better[members == g] for g in np.unique(members)]
    samples = itertools.product(range(len(units)), repeat=len(units))
    means = np.sort([np.concatenate([units[k] for k in drawn]).mean() for drawn in samples])
    found = paired_difference(*predictions(better.tolist()), groups=groups, n_resamples=200_000)
    # 200,000 draws put the quantile within 0.1 % (three standard deviations) of its place.
    for value, level in ((found.low, 0.025), (found.high, 0.975)):
        assert means[int((level - 0.002) * len(means))] <= value + 1e-12
        assert value - 1e-12 <= means[int((level + 0.002) * len(means))]


def test_images_of_one_group_do_not_count_as_many() -> None:
    """Ten copies of every sample tell no more than one, if they are named as groups."""
    better = [1, 1, 0, -1, 1, 0, 1, 1]
    once = paired_difference(*predictions(better))
    copies = np.repeat(better, 10).tolist()
    grouped = paired_difference(*predictions(copies), groups=np.repeat(range(8), 10))
    assert (grouped.low, grouped.high) == (once.low, once.high)
    assert grouped.p_value == pytest.approx(once.p_value, rel=1e-12)
    loose = paired_difference(*predictions(copies))
    assert loose.high - loose.low < 0.5 * (once.high - once.low)


def test_the_bootstrap_is_seeded_and_bounded_in_memory() -> None:
    rng = np.random.default_rng(0)
    y, a, b = rng.integers(0, 2, (3, 3000))
    groups = rng.integers(0, 500, 3000)
    first = paired_difference(y, a, b, groups=groups, random_state=1)
    assert paired_difference(y, a, b, groups=groups, random_state=1) == first
    assert paired_difference(y, a, b, groups=groups, random_state=2) != first
    assert first.low < first.difference < first.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predicted_a": ["x"]}, r"of one shape \(n,\), got \(2,\), \(1,\) and \(2,\)"),
        ({"groups": [1]}, r"groups must have shape \(2,\), got \(1,\)"),
        ({"groups": [1, 1]}, "at least two groups, got 1"),
        ({"y_true": ["x"], "predicted_a": ["x"], "predicted_b": ["x"]}, "two samples, got 1"),
        ({"n_resamples": 0}, "n_resamples must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_paired_is_named(arguments: dict[str, Any], message: str) -> None:
    usual = {"y_true": ["x", "y"], "predicted_a": ["x", "y"], "predicted_b": ["x", "x"]}
    with pytest.raises(ValueError, match=message):
        paired_difference(**(usual | arguments))


# ----------------------------------------------------------------------------------- calibration


@given(problem=problems(), n_bins=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_calibration_is_that_of_counting(
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


def test_probabilities_of_zero_and_a_rounded_one_have_a_bin() -> None:
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
def test_bad_reliability_tables_are_named(arguments: Any, message: str) -> None:
    y, P, *bins = arguments
    for function in (reliability_table, expected_calibration_error):
        with pytest.raises(ValueError, match=message):
            function(y, P, **({"n_bins": bins[0]} if bins else {}))
