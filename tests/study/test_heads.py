"""The heads of studies against plain ways to do the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

from toptune_study.heads import (
    FINE_TUNING,
    HEADS,
    RIVALS,
    GaussianSVC,
    Span,
    check_head,
    folds,
    rival,
)


def blobs(n: int = 60, d: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of unit vectors, the second half of the rows for testing."""
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[np.arange(n) % 3]
    X = rng.normal(size=(n, d)) + 1.5 * rng.normal(size=(3, d))[np.arange(n) % 3]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X.astype(np.float32), y


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 12),
    t=st.integers(1, 6),
    d=st.integers(1, 30),
    repeat=st.booleans(),
    seed=st.integers(0, 999),
)
def test_span_coordinates_keep_inner_products_and_distances(
    n: int, t: int, d: int, repeat: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(n, d)), rng.normal(size=(t, d))
    if repeat:
        train = np.repeat(train, 2, axis=0)  # a Gram matrix without full rank
    span = Span(train.astype(np.float32))
    A, B = span.coordinates, span.coordinates_of(test.astype(np.float32))
    # Directions are dropped whose squares are below n eps of the largest eigenvalue; an inner
    # product of norms a and b then changes by no more than b times the root of that.
    size = np.linalg.norm(train, ord=2) ** 2
    bound = 4 * np.sqrt(len(train) * np.finfo(np.float32).eps * size)
    bound *= 1 + np.linalg.norm(test, axis=1).max()
    np.testing.assert_allclose(A @ A.T, train @ train.T, atol=bound)
    np.testing.assert_allclose(B @ A.T, test @ train.T, atol=bound)
    expected = euclidean_distances(test, train, squared=True)
    np.testing.assert_allclose(euclidean_distances(B, A, squared=True), expected, atol=3 * bound)


def test_folds_groups_stay_whole() -> None:
    labels = np.repeat(["a", "b"], 30)
    groups = np.arange(60) // 5
    found = folds(labels, groups, seed=0)
    assert len(found) == 3
    assert sorted(np.concatenate([test for _, test in found]).tolist()) == list(range(60))
    for train, test in found:
        assert not set(groups[train]) & set(groups[test])
    two = folds(labels, np.arange(60) % 2, seed=0)  # two groups: two folds, never images alone
    assert len(two) == 2
    assert not all(
        np.array_equal(a[1], b[1])
        for a, b in zip(found, folds(labels, groups, seed=1), strict=True)
    )


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_folds_small_classes_are_accepted() -> None:
    labels = np.array(["a"] * 10 + ["b"] * 10 + ["c"])
    assert len(folds(labels, None, seed=0)) == 3
    pairs = np.repeat(["a", "b", "c"], 2)
    assert len(folds(pairs, None, seed=0)) == 2
    assert len(folds(pairs, np.arange(6), seed=0)) == 2


@pytest.mark.parametrize("name", RIVALS)
def test_rival_separable_classes_are_learned(name: str) -> None:
    X, y = blobs()
    span = Span(X[:30])
    head = rival(name, y[:30], None, seed=0).fit(span.coordinates, y[:30])
    assert np.mean(head.predict(span.coordinates_of(X[30:])) == y[30:]) > 0.9


def test_gaussian_svc_grid_search_is_that_of_scikit_learn() -> None:
    X, y = blobs()
    X, y = X[:30], y[:30].copy()
    y[::7] = "a"  # wrong labels, so that the grid is not flat
    cv = folds(y, None, seed=0)
    ours = GaussianSVC(cv=cv).fit(X, y)
    typical = float(np.median(euclidean_distances(X, squared=True)))
    scores = {
        (C, factor / typical): np.mean(
            [SVC(C=C, gamma=factor / typical).fit(X[a], y[a]).score(X[b], y[b]) for a, b in cv]
        )
        for factor in (0.5, 2.0, 8.0)
        for C in (1.0, 10.0, 100.0)
    }
    assert scores[ours.best_params_["C"], ours.gamma_] == max(scores.values())
    same = SVC(C=ours.best_params_["C"], gamma=ours.gamma_).fit(X, y)
    probe = X + 0.02 * np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    assert np.array_equal(ours.predict(probe), same.predict(probe))
    assert clone(ours).get_params().keys() == {"cv"}


def test_check_head_unknown_names_are_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown head 'forest'; known are kernel, gaussian, laplacian"
    ):
        check_head("forest", {})
    with pytest.raises(ValueError, match="ridge has no setting 'alpha'"):
        check_head("ridge", {"alpha": 1.0})
    for name in HEADS:
        check_head(name, {"epochs": 3} if name in FINE_TUNING else {})
