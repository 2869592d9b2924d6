"""KernelClassifier against dense float64 references, brute-force refits and its invariances."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from toptune.kernel import KernelClassifier, estimators
from toptune.kernel.kernels import kernel_matrix

FIXED = {"bandwidth": 3.0, "penalty": 1e-3}


def sample(n: int, c: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return make_classification(
        n, 6, n_informative=4, n_classes=c, n_clusters_per_class=1, random_state=seed
    )


def coded(y: np.ndarray) -> np.ndarray:
    return 2.0 * (y[:, None] == np.unique(y)) - 1.0


def dense_scores(
    X: np.ndarray, y: np.ndarray, X_new: np.ndarray, kernel: str = "gaussian"
) -> np.ndarray:
    """Scores of kernel ridge regression solved densely in float64."""
    tensors = [torch.tensor(A, dtype=torch.float64) for A in (X, X_new)]
    K = kernel_matrix(tensors[0], tensors[0], kernel, FIXED["bandwidth"]).numpy()
    K_new = kernel_matrix(tensors[1], tensors[0], kernel, FIXED["bandwidth"]).numpy()
    n = len(y)
    return K_new @ np.linalg.solve(K + FIXED["penalty"] * n * np.eye(n), coded(y))


def all_scores(model: KernelClassifier, X: np.ndarray) -> np.ndarray:
    """One column per class, also for two classes."""
    scores = model.decision_function(X)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


# ------------------------------------------------------------------------------- the solution


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "matern32", "matern52", "linear"])
@pytest.mark.parametrize("c", [2, 4])
def test_is_dense_kernel_ridge_regression(kernel: str, c: int) -> None:
    X, y = sample(120, c)
    model = KernelClassifier(kernel=kernel, **FIXED).fit(X[:90], y[:90])
    assert model.n_centers_ == 90
    expected = dense_scores(X[:90], y[:90], X[90:], kernel)
    np.testing.assert_allclose(all_scores(model, X[90:]), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nystrom_with_every_sample_as_center_is_dense_too(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = sample(120, 3)
    X = X.astype(dtype)
    paths: list[str] = []
    original = estimators.nystrom_system

    def watched(*args: object) -> object:
        paths.append("nystrom")
        return original(*args)

    # All samples but one as centers, the last being a copy: the same space of functions.
    monkeypatch.setattr(estimators, "nystrom_system", watched)
    X_twice, y_twice = np.concatenate([X, X[-1:]]), np.concatenate([y, y[-1:]])
    monkeypatch.setattr(estimators, "balanced_centers", lambda *a, **k: np.arange(len(X)))
    model = KernelClassifier(n_centers=len(X), **FIXED).fit(X_twice, y_twice)
    assert paths == ["nystrom"]
    expected = dense_scores(X_twice, y_twice, X)
    # float32: eps 1e-7 over the penalty 1e-3
    tolerance = 1e-6 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(all_scores(model, X), expected, atol=tolerance)


def test_more_centers_approach_the_exact_solution() -> None:
    X, y = sample(400, 3)
    exact = all_scores(KernelClassifier(**FIXED).fit(X, y), X)
    errors = []
    for m in (20, 80, 320):
        model = KernelClassifier(n_centers=m, random_state=0, **FIXED).fit(X, y)
        assert model.centers_.shape == (m, 6)
        errors.append(float(np.abs(all_scores(model, X) - exact).max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1 * errors[0]


# ------------------------------------------------------------------------------ leave-one-out


@pytest.mark.parametrize("c", [2, 3])
def test_leave_one_out_attributes_are_those_of_refits(c: int) -> None:
    X, y = sample(60, c)
    model = KernelClassifier(**FIXED).fit(X, y)
    n = len(y)
    expected = np.empty((n, c))
    for i in range(n):
        kept = np.arange(n) != i
        # lambda n is held fixed: the refit has n - 1 samples
        refit = KernelClassifier(bandwidth=3.0, penalty=FIXED["penalty"] * n / (n - 1))
        refit.fit(X[kept], y[kept])
        expected[i] = all_scores(refit, X[i : i + 1])[0]
    # The origin moves to the mean of the kept samples, which changes no distance.
    np.testing.assert_allclose(model.loo_decision_function_, expected, atol=1e-6)
    predicted = model.classes_[expected.argmax(1)]
    assert model.loo_accuracy_ == pytest.approx((predicted == y).mean())
    proba = model.probabilities(expected)
    assert model.loo_log_loss_ == pytest.approx(log_loss(y, proba), rel=1e-4)


def test_leave_one_out_of_few_centers_predicts_the_test_accuracy() -> None:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    model = KernelClassifier(n_centers=100, random_state=0).fit(X, y)
    accuracy = model.score(X_test, y_test)
    # Two estimates of one accuracy near 0.97 from 900 samples: each with a standard error of 0.6 %.
    assert abs(model.loo_accuracy_ - accuracy) < 4 * 0.006 * 2**0.5
    assert model.n_centers_ == 100


def test_random_labels_have_the_leave_one_out_accuracy_of_guessing() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.integers(0, 2, 300)
    model = KernelClassifier().fit(X, y)
    # Standard error 0.029; the best of 75 correlated candidates by log-loss adds about two of them.
    assert model.loo_accuracy_ < 0.5 + 5 * 0.029
    assert model.loo_log_loss_ > 0.65


# --------------------------------------------------------------------------------- invariances


@given(seed=st.integers(0, 1000), c=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=15)
def test_the_order_of_samples_does_not_matter(seed: int, c: int) -> None:
    X, y = sample(60, c)
    order = np.random.default_rng(seed).permutation(60)
    first = KernelClassifier().fit(X, y)
    second = KernelClassifier().fit(X[order], y[order])
    assert (second.bandwidth_, second.penalty_) == (pytest.approx(first.bandwidth_), first.penalty_)
    np.testing.assert_allclose(second.predict_proba(X), first.predict_proba(X), atol=1e-5)


@given(seed=st.integers(0, 1000), kernel=st.sampled_from(["gaussian", "matern52", "linear"]))
@settings(deadline=None, max_examples=15)
def test_a_rotation_of_the_features_does_not_matter(seed: int, kernel: str) -> None:
    X, y = sample(60, 3)
    R = ortho_group.rvs(6, random_state=seed)
    first = KernelClassifier(kernel=kernel).fit(X, y)
    second = KernelClassifier(kernel=kernel).fit(X @ R, y)
    assert second.penalty_ == first.penalty_
    np.testing.assert_allclose(second.predict_proba(X @ R), first.predict_proba(X), atol=1e-5)


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-2, 1e2))
@settings(deadline=None, max_examples=15)
def test_the_origin_and_the_unit_of_the_features_do_not_matter(shift: float, scale: float) -> None:
    X, y = sample(60, 3)
    first = KernelClassifier().fit(X, y)
    second = KernelClassifier().fit(scale * X + shift, y)
    assert second.bandwidth_ == pytest.approx(scale * first.bandwidth_, rel=1e-6)
    np.testing.assert_allclose(
        second.predict_proba(scale * X + shift), first.predict_proba(X), atol=1e-4
    )


@given(n_copies=st.integers(1, 20), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_duplicated_centers_do_not_matter(n_copies: int, seed: int) -> None:
    X, y = sample(80, 3)
    rng = np.random.default_rng(seed)
    centers = rng.choice(80, 20, replace=False)
    repeated = np.concatenate([centers, rng.choice(centers, n_copies)])
    scores = []
    for rows in (centers, repeated):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(estimators, "balanced_centers", lambda *a, r=rows, **k: r)
            model = KernelClassifier(n_centers=len(rows), **FIXED).fit(X, y)
        assert model.n_centers_ == len(rows) < 80
        scores.append(all_scores(model, X))
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)


# -------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("c", [2, 3])
def test_decision_function_with_integer_weights_is_that_of_repeated_samples(c: int) -> None:
    X, y = sample(60, c)
    counts = np.random.default_rng(0).integers(0, 4, 60)
    weighted = KernelClassifier(**FIXED).fit(X, y, sample_weight=counts)
    repeated = KernelClassifier(**FIXED).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), atol=1e-6
    )


def test_class_weight_multiplies_sample_weight() -> None:
    X, y = sample(60, 2)
    y = np.where(y == 1, "rare", "common")
    by_class = KernelClassifier(class_weight={"rare": 3.0, "common": 0.5}, **FIXED).fit(X, y)
    by_sample = KernelClassifier(**FIXED).fit(X, y, np.where(y == "rare", 3.0, 0.5))
    np.testing.assert_allclose(by_class.dual_coef_, by_sample.dual_coef_)


def test_balanced_weights_raise_the_recall_of_a_rare_class() -> None:
    X, y = make_classification(
        600, 5, n_informative=3, n_redundant=0, weights=[0.9], class_sep=0.5, random_state=0
    )
    plain = KernelClassifier().fit(X[:400], y[:400])
    balanced = KernelClassifier(class_weight="balanced").fit(X[:400], y[:400])
    rare = y[400:] == 1
    recall = [float((m.predict(X[400:])[rare] == 1).mean()) for m in (plain, balanced)]
    assert recall[1] > recall[0] + 0.1


def test_samples_of_weight_zero_are_absent_from_the_model_but_predicted() -> None:
    X, y = sample(50, 2)
    weight = np.ones(50)
    weight[:10] = 0.0
    model = KernelClassifier().fit(X, y, weight)
    without = KernelClassifier().fit(X[10:], y[10:])
    np.testing.assert_allclose(model.dual_coef_, without.dual_coef_)
    assert model.loo_decision_function_.shape == (50, 2)
    np.testing.assert_allclose(model.loo_decision_function_[10:], without.loo_decision_function_)


# ---------------------------------------------------------------------- what users lean on


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "matern52"])
def test_real_digits_are_learned_and_the_probabilities_are_honest(kernel: str) -> None:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, train_size=600, stratify=y, random_state=0)
    model = KernelClassifier(kernel=kernel).fit(X, y)
    assert model.score(X_test, y_test) > 0.97
    proba = model.predict_proba(X_test)
    np.testing.assert_allclose(proba.sum(1), 1.0)
    assert log_loss(y_test, proba) < 0.15
    # Mean confidence is the accuracy, up to the standard error of 1197 samples (0.5 %) and the same
    # for the training samples.
    assert abs(proba.max(1).mean() - model.score(X_test, y_test)) < 0.025


def test_string_labels_and_iris() -> None:
    data = load_iris()
    names = data.target_names[data.target]
    model = KernelClassifier().fit(data.data, names)
    assert model.classes_.tolist() == sorted(set(names))
    assert model.loo_accuracy_ > 0.94
    assert set(model.predict(data.data)) == set(names)
    assert {c.penalty for c in model.candidates_} >= {model.penalty_}
    assert model.selection_seconds_ > 0


def test_few_samples_select_on_all_and_many_on_a_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = sample(120, 3)
    monkeypatch.setattr(estimators, "SELECTION_SAMPLES", 50)
    sizes: list[int] = []
    original = estimators.select

    def watched(rows: torch.Tensor, *args: object, **named: object) -> object:
        sizes.append(len(rows))
        return original(rows, *args, **named)

    monkeypatch.setattr(estimators, "select", watched)
    subset = KernelClassifier(random_state=0).fit(X, y)
    monkeypatch.setattr(estimators, "SELECTION_SAMPLES", 1000)
    whole = KernelClassifier(random_state=0).fit(X, y)
    assert sizes == [50, 120]
    # the penalty of the first was chosen on all samples, at its own bandwidth
    final = [c for c in subset.candidates_ if c.penalty == subset.penalty_]
    assert final[-1].bandwidth == subset.bandwidth_
    assert whole.loo_decision_function_.shape == subset.loo_decision_function_.shape == (120, 3)


def test_given_values_are_used_and_nothing_is_tried() -> None:
    X, y = sample(60, 2)
    model = KernelClassifier(**FIXED).fit(X, y)
    assert (model.bandwidth_, model.penalty_) == (3.0, 1e-3)
    assert [(c.bandwidth, c.penalty) for c in model.candidates_] == [(3.0, 1e-3)]


def test_the_seed_decides_the_centers() -> None:
    X, y = sample(100, 2)
    models = [KernelClassifier(n_centers=10, random_state=s, **FIXED).fit(X, y) for s in (0, 0, 1)]
    assert np.array_equal(models[0].centers_, models[1].centers_)
    assert not np.array_equal(models[0].centers_, models[2].centers_)


def test_a_class_with_one_sample_is_learned() -> None:
    X, y = sample(40, 2)
    y = y.copy()
    X[0], y[0] = 50.0, 7
    model = KernelClassifier(**FIXED).fit(X, y)
    assert model.predict(X[:1])[0] == 7
    assert model.loo_decision_function_[0].argmax() != 2  # left out, nothing shows the class


def test_identical_samples_with_different_labels() -> None:
    X, y = np.ones((10, 3)), np.array([0] * 7 + [1] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KernelClassifier().fit(X, y)
    assert model.predict(X[:1])[0] == 0
    # Leaving one out moves the majority away from the label left out, which lowers confidence.
    assert 0.5 < model.predict_proba(X[:1])[0, 0] < 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("when", ["fit", "predict"])
def test_features_that_are_not_finite_are_named(value: float, when: str) -> None:
    X, y = sample(30, 2)
    model = KernelClassifier(**FIXED)
    if when == "predict":
        model.fit(X, y)
    X[3, 2] = value
    with pytest.raises(ValueError, match="NaN" if np.isnan(value) else "infinity"):
        model.fit(X, y) if when == "fit" else model.predict(X)


def test_one_class_is_named() -> None:
    with pytest.raises(ValueError, match="at least two classes, got one class: 'cat'"):
        KernelClassifier().fit([[0.0], [1.0]], ["cat", "cat"])


@pytest.mark.parametrize("c", [2, 4])
def test_state_restores_the_same_predictions(c: int) -> None:
    X, y = sample(60, c)
    model = KernelClassifier(kernel="matern32", n_centers=20, random_state=0).fit(X, y)
    arrays, numbers = model.state()
    again = KernelClassifier().restore(model.classes_, arrays, numbers)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.loo_accuracy_ == model.loo_accuracy_
    arrays["dual_coef"] = arrays["dual_coef"][:-1]
    with pytest.raises(ValueError, match="do not fit"):
        KernelClassifier().restore(model.classes_, arrays, numbers)


def test_clones_are_unfitted_with_the_same_parameters() -> None:
    model = KernelClassifier(kernel="laplacian", n_centers=7, class_weight="balanced")
    copy = clone(model.fit(*sample(30, 2)))
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "classes_")
