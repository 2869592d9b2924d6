"""Suspected labels against a loop over samples, and on digits with labels changed on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from toptune.evaluation.label_errors import MARGIN, label_suspicion, suspected_labels, weak_evidence
from toptune.kernel import KernelClassifier


@given(n=st.integers(1, 30), c=st.integers(2, 5), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_suspected_labels_any_problem_equals_loop(n: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    P, y = rng.dirichlet(np.ones(c), size=n), rng.integers(0, c, n)
    usual = [np.mean(P[y == k, k]) if (y == k).any() else 1.0 for k in range(c)]
    suspicion = label_suspicion(P, y)
    expected = []
    for i in range(n):
        assert suspicion[i] == pytest.approx(1 - P[i, y[i]] / usual[y[i]], rel=1e-12)
        best = max(range(c), key=lambda k: P[i, k])
        if P[i, best] - P[i, y[i]] >= MARGIN:
            expected.append((i, best, suspicion[i], P[i, best] >= usual[best]))
    expected.sort(key=lambda row: -row[2])
    found = suspected_labels(P, y)
    assert len(found) == len(expected)
    got = zip(found.index, found.suggested, found.score, found.confident, strict=True)
    assert [tuple(row) for row in got] == expected


def test_suspected_labels_changed_digits_are_ranked_first() -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600].copy()
    rng = np.random.default_rng(0)
    changed = rng.choice(600, 30, replace=False)
    y[changed] = (y[changed] + rng.integers(1, 10, 30)) % 10
    model = KernelClassifier(random_state=0).fit(X, y)
    found = suspected_labels(model.probabilities(model.loo_decision_function_), y)
    hits = np.isin(found.index[:30], changed)
    assert hits.mean() >= 0.9
    right = found.index[:30][hits]
    assert (found.suggested[:30][hits] == load_digits().target[right]).mean() >= 0.9
    assert found.confident[:20].all()


def test_suspected_labels_ties_are_no_evidence() -> None:
    assert len(suspected_labels([[0.9, 0.1], [0.5, 0.5]], [0, 1])) == 0  # a tie is no evidence


def test_suspected_labels_uninformative_model_suspects_nothing() -> None:
    """A model that gives 0.200 to each of 5 classes must not suspect all labels."""
    y = np.arange(16) % 5
    P = np.full((16, 5), 0.2) - 1e-6 * np.eye(5)[y]  # leave-one-out is always wrong
    assert len(suspected_labels(P, y)) == 0
    assert "right on 0.0 %" in weak_evidence(P, y)
    assert "largest class on 25.0 %" in weak_evidence(P, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 0.5]], [0, 1]), r"got \(1, 2\) and \(2,\)"),
        (([[1.0]], [0]), r"c > 1, and \(n,\), got \(1, 1\)"),
        (([[0.5, 0.5]], [2]), "the 2 columns of proba, got 2 to 2"),
        (([[0.5, 0.5]], [-1]), "got -1 to -1"),
    ],
)
def test_suspected_labels_bad_input_raises(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suspected_labels(*arguments)
