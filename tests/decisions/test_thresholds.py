"""Thresholds that are chosen, against brute force over all that make a difference."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from toptune.decisions.thresholds import (
    OBJECTIVES,
    best_label_threshold,
    best_thresholds,
    threshold_for,
)
from toptune.errors import DataError


@st.composite
def single(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Whether samples are of a class, at least one is, and probabilities with ties."""
    n = draw(st.integers(2, 25))
    y = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    y[draw(st.integers(0, n - 1))] = True
    p = draw(st.lists(st.sampled_from(np.linspace(0.05, 0.95, 10)), min_size=n, max_size=n))
    return y, np.array(p)


@given(problem=single(), wanted=st.sampled_from([0.01, 0.5, 2 / 3, 0.9, 1.0]))
@settings(deadline=None, max_examples=40)
def test_wanted_recall(problem: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    y, p = problem
    t = threshold_for(y, p, recall=wanted)
    assert recall_score(y, p >= t) >= wanted - 1e-12
    higher = [v for v in np.unique(p) if v > t]
    assert all(recall_score(y, p >= v) < wanted for v in higher)  # no higher one finds so many


@given(problem=single(), wanted=st.sampled_from([0.2, 0.5, 2 / 3, 0.9, 1.0]))
@settings(deadline=None, max_examples=40)
def test_wanted_precision(problem: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    y, p = problem
    good = [v for v in np.unique(p) if precision_score(y, p >= v) >= wanted]
    if good:
        assert threshold_for(y, p, precision=wanted) == min(good)
    else:
        with pytest.raises(DataError, match="no threshold gives a precision of"):
            threshold_for(y, p, precision=wanted)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "either the recall or the precision"),
        ({"recall": 0.9, "precision": 0.9}, "either the recall or the precision"),
        ({"recall": 0.0}, r"wanted recall must be in \(0, 1\], got 0.0"),
        ({"precision": 1.1}, r"wanted precision must be in \(0, 1\], got 1.1"),
        ({"recall": float("nan")}, "got nan"),
    ],
)
def test_wishes_that_make_no_sense(wishes: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        threshold_for([True, False], [0.9, 0.1], **wishes)


def test_a_class_without_samples() -> None:
    with pytest.raises(DataError, match="no sample is of the class"):
        threshold_for([False, False], [0.9, 0.1], recall=0.5)


def scored(y: np.ndarray, decided: np.ndarray, objective: Any) -> float:
    occurring = np.unique(y)
    if objective == "macro-f1":
        return float(f1_score(y, decided, labels=occurring, average="macro", zero_division=0.0))
    return float(recall_score(y, decided, labels=occurring, average="macro", zero_division=0.0))


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_two_classes_get_the_best_threshold_there_is(objective: Any, data: st.DataObject) -> None:
    y, p = data.draw(single())
    P = np.stack([1 - p, p], axis=1)
    t = best_thresholds(y.astype(int), P, objective)
    assert t.sum() == pytest.approx(1)
    found = scored(y, (P / t).argmax(axis=1), objective)
    edges = [*(np.unique(p) - 0.02), 2.0]
    every = [scored(y, (p > edge).astype(int), objective) for edge in edges]
    assert found == pytest.approx(max(every), abs=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_classes_get_no_worse_and_no_single_change_helps(objective: Any) -> None:
    rng = np.random.default_rng(0)
    gained = 0.0
    for _ in range(10):
        y = rng.choice(3, size=40, p=[0.7, 0.2, 0.1])
        scores = 2.0 * np.eye(3)[y] + rng.normal(size=(40, 3)) + np.log([0.7, 0.2, 0.1])
        P = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        t = best_thresholds(y, P, objective)
        found = scored(y, (P / t).argmax(axis=1), objective)
        gained += found - scored(y, P.argmax(axis=1), objective)
        for k, factor in itertools.product(range(3), np.geomspace(0.05, 20, 41)):
            changed = t.copy()
            changed[k] *= factor
            assert scored(y, (P / changed).argmax(axis=1), objective) <= found + 1e-12
    assert gained > 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(problem=single())
@settings(deadline=None, max_examples=60)
def test_the_threshold_of_a_label(objective: Any, problem: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = problem
    t = best_label_threshold(y, p, objective)
    if y.all() or np.ptp(p) == 0:
        assert t == 0.5
        return

    def score(edge: float) -> float:
        if objective == "macro-f1":
            return float(f1_score(y, p >= edge, zero_division=0.0))
        return float(balanced_accuracy_score(y, p >= edge))

    best = max(score(edge) for edge in (0.5, *np.unique(p)))
    assert score(t) == pytest.approx(best)
    assert t == 0.5 or best > score(0.5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_label_that_cannot_be_learned_keeps_one_half(objective: Any) -> None:
    """Found in use: every image got it, as all had the probability 0.05341 of the threshold."""
    y = np.arange(40) < 2
    assert best_label_threshold(y, np.full(40, 0.05341), objective) == 0.5
    assert best_label_threshold(y, 0.05341 + 1e-12 * y, objective) == 0.5
    assert best_label_threshold(y, 0.05341 + 0.1 * y, objective) == pytest.approx(0.15341)


def test_objectives_there_are_not() -> None:
    with pytest.raises(DataError, match="must be one of macro-f1, balanced-accuracy, got 'f2'"):
        best_thresholds(np.array([0, 1]), np.eye(2), "f2")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="must be one of macro-f1, balanced-accuracy, got 'f2'"):
        best_label_threshold([True, False], [0.9, 0.1], "f2")  # type: ignore[arg-type]
