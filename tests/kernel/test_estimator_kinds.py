"""Regression, several labels, feature groups, ways to draw centers and to solve."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from kernel_helpers import sample
from scipy.sparse import csc_array, csr_matrix
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss, r2_score
from sklearn.preprocessing import StandardScaler

from toptune.kernel import KernelClassifier, KernelRegressor, Rows, base
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.linalg.cholesky import JitterWarning, NotPositiveDefiniteError
from toptune.kernel.selection.search import PENALTIES
from toptune.kernel.systems.exact import exact_solution


def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


# -------------------------------------------------------------------------------- regression


def waves(n: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 2))
    Y = np.stack([np.sin(2 * X[:, 0]) + 7, X[:, 0] * X[:, 1] * 100], axis=1)
    return X, Y + rng.normal(size=(n, 2)) * [0.1, 10]


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_is_kernel_ridge_on_centred_targets(weighted: bool) -> None:
    X, Y = waves()
    w = np.random.default_rng(1).uniform(0.1, 3, 150) if weighted else None
    model = KernelRegressor(bandwidth=0.8, penalty=1e-3).fit(X, Y, sample_weight=w)
    mean = np.average(Y, axis=0, weights=w)
    total = 150 if w is None else w.sum()
    # scikit-learn's solves (K + alpha / w) dual = Y
    peer = KernelRidge(kernel="rbf", gamma=1 / (2 * 0.8**2), alpha=1e-3 * total)
    peer.fit(X, Y - mean, sample_weight=w)
    X_new, _ = waves(40, seed=5)
    np.testing.assert_allclose(model.predict(X_new), peer.predict(X_new) + mean, rtol=1e-7)
    np.testing.assert_allclose(model.intercept_, mean)


@pytest.mark.parametrize("n_centers", [60, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_left_out_predictions_are_those_of_refits(
    n_centers: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = waves(60)
    w = np.random.default_rng(1).uniform(0.1, 3, 60) if weighted else np.ones(60)
    options: dict[str, Any] = {"bandwidth": 0.8, "n_centers": n_centers}
    model = KernelRegressor(penalty=1e-3, random_state=0, **options).fit(X, Y, sample_weight=w)
    centers = model.centers_
    K_nm, K_mm = RBF(0.8)(X, centers), RBF(0.8)(centers)
    expected = np.empty_like(Y)
    for i in range(60):
        kept = np.arange(60) != i
        WK = w[kept, None] * K_nm[kept]
        A = K_nm[kept].T @ WK + 1e-3 * w.sum() * K_mm
        # the mean of the targets and lambda N stay those of all samples
        alpha = np.linalg.lstsq(A, WK.T @ (Y[kept] - model.intercept_), rcond=None)[0]
        expected[i] = K_nm[i] @ alpha + model.intercept_
    np.testing.assert_allclose(model.loo_predictions_, expected, rtol=1e-4)
    mean_r2 = r2_score(Y, expected, sample_weight=w)
    assert model.loo_r2_ == pytest.approx(mean_r2, abs=1e-4)


def test_regression_chooses_what_predicts_left_out_samples_best() -> None:
    X, Y = waves(200)
    model = KernelRegressor().fit(X, Y)
    assert model.loo_r2_ == pytest.approx(1 - min(c.loss for c in model.candidates_), abs=1e-6)
    X_new, Y_new = waves(500, seed=9)
    assert r2_score(Y_new, model.predict(X_new)) > 0.9
    assert abs(r2_score(Y_new, model.predict(X_new)) - model.loo_r2_) < 0.05
    single = KernelRegressor().fit(X, Y[:, 0])
    assert single.predict(X).shape == single.loo_predictions_.shape == (200,)


def test_outputs_of_any_unit_count_alike_and_units_do_not_matter() -> None:
    X, Y = waves(200)
    one = KernelRegressor().fit(X, Y)
    other = KernelRegressor().fit(X, Y * [1e6, 1e-6])
    assert (other.bandwidth_, other.penalty_) == (one.bandwidth_, one.penalty_)
    # the penalised system has a condition number of up to 1 / penalty
    expected = one.predict(X)
    np.testing.assert_allclose(other.predict(X) / [1e6, 1e-6], expected, rtol=0, atol=1e-6)


def test_a_constant_target_is_predicted_exactly() -> None:
    X, _ = waves(50)
    assert np.array_equal(KernelRegressor().fit(X, np.full(50, 3.0)).predict(X), np.full(50, 3.0))


def cubic(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32)
    return X, X[:, 0].astype(float) ** 3 + X[:, 1] * X[:, 2]


def test_penalties_that_float32_cannot_factorise_are_not_chosen() -> None:
    """Above 800 samples float32 features have a float32 walk over the penalties."""
    X, y = cubic(1500)
    model = KernelRegressor(kernel="polynomial", random_state=0).fit(X, y)
    assert model.plan_.solver == "exact"
    losses = {c.penalty: c.loss for c in model.candidates_[len(PENALTIES) :]}
    assert np.inf in losses.values()  # else the walk met none of them
    assert np.isfinite(losses[model.penalty_])
    X_new, y_new = cubic(200)
    assert r2_score(y_new, model.predict(X_new)) > 1 - 1e-6


@pytest.mark.parametrize(("kernel", "bandwidth"), [("gaussian", 4.0), ("polynomial", 2.0)])
@pytest.mark.parametrize("penalty", [1e-8, 1e-10])
def test_a_given_penalty_below_float32_is_solved_in_float64(
    kernel: str, bandwidth: float, penalty: float
) -> None:
    X, y = cubic(1200)
    T = torch.from_numpy(X - X.mean(0))
    K = kernel_matrix(T, T, kernel, bandwidth)
    with pytest.raises(NotPositiveDefiniteError):  # so float32 does not do
        exact_solution(K, torch.ones(1200, 1), torch.ones(1200), penalty)
    options: dict[str, Any] = {"kernel": kernel, "bandwidth": bandwidth, "penalty": penalty}
    model = KernelRegressor(random_state=0, **options).fit(X, y)
    assert model.candidates_[-1].loss == pytest.approx(1 - model.loo_r2_, rel=1e-3, abs=1e-12)
    # The same rows in float64 differ by the rounding of their mean, 6e-8: as much in K as the
    # penalty or more, so that coefficients differ. What is left unexplained hardly does.
    wide = KernelRegressor(random_state=0, **options).fit(X.astype(np.float64), y)
    assert 1 - model.loo_r2_ == pytest.approx(1 - wide.loo_r2_, rel=0.01, abs=1e-9)
    X_new, y_new = cubic(200)
    errors = [np.square(m.predict(X_new) - y_new).mean() / y_new.var() for m in (model, wide)]
    assert errors[0] < 2 * errors[1] + 1e-6


# ----------------------------------------------------------------------------- several labels


def test_several_labels_are_a_choice_each() -> None:
    X, Y = make_multilabel_classification(300, 10, n_classes=4, random_state=0)
    options: dict[str, Any] = {"bandwidth": 12.0, "penalty": 1e-3}
    model = KernelClassifier(**options).fit(X[:200], Y[:200])
    scores = model.decision_function(X[200:])
    assert scores.shape == model.predict_proba(X[200:]).shape == (100, 4)
    np.testing.assert_array_equal(model.classes_, np.arange(4))
    np.testing.assert_array_equal(model.predict(X[200:]), (scores > 0).astype(int))
    for k in range(4):  # each column is a classification by itself
        alone = KernelClassifier(**options).fit(X[:200], Y[:200, k])
        np.testing.assert_allclose(alone.decision_function(X[200:]), scores[:, k], atol=1e-9)
    left_out = (model.loo_decision_function_ > 0) == Y[:200]
    assert model.loo_accuracy_ == pytest.approx(left_out.mean())
    proba = model.probabilities(model.loo_decision_function_)
    losses = [log_loss(Y[:200, k], proba[:, k]) for k in range(4)]
    # the fitted loss smooths labels by one in n c + 1
    assert model.loo_log_loss_ == pytest.approx(np.mean(losses), abs=0.02)


@pytest.mark.parametrize("kind", [csr_matrix, csc_array])
def test_a_sparse_indicator_matrix_is_as_good_as_a_dense_one(kind: type) -> None:
    X, Y = make_multilabel_classification(80, 6, n_classes=3, random_state=0)
    w = np.arange(80) % 3
    dense = KernelClassifier().fit(X, Y, w)
    for rows in (X, Rows(X)):
        model = KernelClassifier().fit(rows, kind(Y), w)
        np.testing.assert_array_equal(model.dual_coef_, dense.dual_coef_)
        assert model.score(X, kind(Y)) == dense.score(X, Y)
    targets = KernelRegressor().fit(X, kind(Y))
    np.testing.assert_array_equal(targets.dual_coef_, KernelRegressor().fit(X, Y).dual_coef_)


def test_several_labels_survive_storage() -> None:
    X, Y = make_multilabel_classification(80, 6, n_classes=3, random_state=0)
    model = KernelClassifier().fit(X, Y)
    again = KernelClassifier().restore(model.classes_, *model.state())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


# ----------------------------------------------------------------------------- feature groups


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "linear", "polynomial"])
@pytest.mark.parametrize("n_centers", [60, 15])
def test_weights_of_groups_are_factors_of_their_features(kernel: str, n_centers: int) -> None:
    X, y = sample(60, 3)
    options: dict[str, Any] = {
        "kernel": kernel,
        "bandwidth": 2.0,
        "penalty": 1e-3,
        "n_centers": n_centers,
        "random_state": 0,
    }
    groups = KernelClassifier(feature_groups=(2, 4), group_weights=(4.0, 0.25), **options)
    scaled = X * np.repeat([2.0, 0.5], [2, 4])
    plain = KernelClassifier(**options).fit(scaled, y)
    groups.fit(X, y)
    np.testing.assert_allclose(
        groups.decision_function(X), plain.decision_function(scaled), rtol=1e-9, atol=1e-9
    )
    again = KernelClassifier().restore(groups.classes_, *groups.state())
    np.testing.assert_array_equal(again.decision_function(X), groups.decision_function(X))


def test_a_group_of_noise_gets_a_small_weight_and_accuracy_is_saved() -> None:
    X, y = digits()
    X = StandardScaler().fit_transform(X[:1200])
    noise = np.random.default_rng(0).normal(size=(1200, 200)) * 3
    both = np.concatenate([X, noise], axis=1)
    chosen = KernelClassifier(feature_groups=(64, 200), random_state=0).fit(both[:500], y[:500])
    signal, nothing = chosen.group_weights_ * [64, 200 * 9]  # times the size of their distances
    assert nothing < 0.3 * signal
    plain = KernelClassifier(random_state=0).fit(both[:500], y[:500])
    alone = KernelClassifier(random_state=0).fit(X[:500], y[:500])
    accuracy = [
        m.score(A[500:], y[500:1200]) for m, A in ((chosen, both), (plain, both), (alone, X))
    ]
    assert accuracy[0] > accuracy[1] + 0.02
    assert accuracy[0] > accuracy[2] - 0.02
    best = min(chosen.candidates_, key=lambda c: c.loss)
    assert tuple(chosen.group_weights_) == best.weights


def test_one_group_is_none_and_given_weights_are_used_as_they_are() -> None:
    X, y = sample(60, 2)
    one = KernelClassifier(feature_groups=(6,), random_state=0).fit(X, y)
    none = KernelClassifier(random_state=0).fit(X, y)
    np.testing.assert_array_equal(one.dual_coef_, none.dual_coef_)
    given = KernelClassifier(feature_groups=(3, 3), group_weights=(1, 1), random_state=0).fit(X, y)
    np.testing.assert_allclose(given.dual_coef_, none.dual_coef_)
    with pytest.raises(ValueError, match=r"2 numbers >= 0"):
        KernelClassifier(feature_groups=(3, 3), group_weights=(1, 2, 3)).fit(X, y)


# ------------------------------------------------------------------- centers, losses, solvers


@pytest.mark.parametrize("centers", ["balanced", "uniform"])
@pytest.mark.parametrize("solver", ["direct", "falkon"])
def test_every_way_to_draw_centers_and_to_solve_is_about_as_accurate(
    centers: str, solver: str
) -> None:
    X, y = digits()
    model = KernelClassifier(n_centers=300, centers=centers, solver=solver, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X[:1200], y[:1200])
    assert model.plan_.solver == solver
    assert model.n_centers_ == len(np.unique(model.centers_, axis=0)) == 300
    assert (model.n_iter_ > 1) == (solver == "falkon")
    # all 1200 as centers: 0.973
    assert model.score(X[1200:], y[1200:]) > 0.955
    assert abs(model.loo_accuracy_ - 0.985) < 0.02


def test_the_solvers_agree_through_the_estimator() -> None:
    X, y = digits()
    options: dict[str, Any] = {"n_centers": 300, "penalty": 1e-4, "random_state": 0}
    direct = KernelClassifier(**options).fit(X[:1200], y[:1200])
    falkon = KernelClassifier(solver="falkon", **options).fit(X[:1200], y[:1200])
    np.testing.assert_array_equal(falkon.centers_, direct.centers_)
    difference = falkon.decision_function(X[1200:]) - direct.decision_function(X[1200:])
    # eps / penalty = 1e-3, mostly much less
    assert np.abs(difference).max() < 1e-3
    # 300 centers are fewer than the direct fit that stands in for Falkon may have: it is exact
    np.testing.assert_allclose(
        falkon.loo_decision_function_, direct.loo_decision_function_, atol=1e-5
    )


def test_too_few_iterations_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits()
    original = base.falkon
    monkeypatch.setattr(base, "falkon", lambda *a, **k: original(*a, **k, max_iter=2))
    with pytest.warns(ConvergenceWarning, match="columns converged in"):
        KernelClassifier(n_centers=200, solver="falkon", random_state=0).fit(X[:600], y[:600])


# --------------------------------------------------------------------------- hard conditions


@pytest.mark.parametrize("solver", ["exact", "direct", "falkon"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "trouble", ["duplicates", "constant", "large", "small", "tiny penalty", "more centers", "far"]
)
def test_ill_conditioned_problems_have_the_right_answer_or_a_named_warning(
    trouble: str, dtype: type, solver: str
) -> None:
    X, y = digits()
    X, X_test, y, y_test = X[:300], X[1000:1300], y[:300], y[1000:1300]
    options: dict[str, Any] = {"random_state": 0}
    if solver != "exact":
        options |= {"n_centers": 100, "solver": solver}
    least = 0.85
    if trouble == "duplicates":
        X, y = np.repeat(X[:150], 2, axis=0), np.repeat(y[:150], 2)
        least = 0.8
    elif trouble == "constant":
        X, X_test = np.ones_like(X), np.ones_like(X_test)
        least = 0.0  # nothing can be told: only that it ends
    elif trouble in ("large", "small"):
        factor = 1e6 if trouble == "large" else 1e-6
        X, X_test = X * factor, X_test * factor
    elif trouble == "tiny penalty":
        options["penalty"] = 1e-12
        least = 0.75
    elif trouble == "more centers":
        options["n_centers"] = 10_000
    elif trouble == "far":  # the mean is 1000 times the spread
        X, X_test = X + 1e4, X_test + 1e4
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = KernelClassifier(**options).fit(X.astype(dtype), y)
    assert all(w.category in (JitterWarning, ConvergenceWarning) for w in caught), caught
    for values in (model.dual_coef_, model.loo_decision_function_, model.predict_proba(X_test)):
        assert np.isfinite(values).all()
    assert model.n_centers_ <= len(X)
    if not caught:
        assert model.score(X_test.astype(dtype), y_test) >= least


# ------------------------------------------------------------------------- the kernel, chosen too


def test_the_better_kernel_is_chosen_and_is_the_one_fitted_alone() -> None:
    """The winner is the kernel of least leave-one-out loss; fitted by itself it is the same."""
    rng = np.random.default_rng(2)
    line, slope = rng.normal(size=(120, 6)), rng.normal(size=6)
    noise = 0.15 * np.linalg.norm(slope) * rng.normal(size=120)
    labels_of_line = np.where(line @ slope + noise > 0, "up", "down")
    ring = rng.normal(size=(120, 2))
    labels_of_ring = np.where((ring**2).sum(1) > 1.4, "far", "near")
    found = []
    for X, y in ((line, labels_of_line), (ring, labels_of_ring)):
        alone = {name: KernelClassifier(kernel=name).fit(X, y) for name in base.AUTO_KERNELS}
        least = min(alone, key=lambda name: min(c.loss for c in alone[name].candidates_))
        chosen = KernelClassifier(kernel="auto").fit(X, y)
        assert chosen.kernel_ == least
        assert {c.kernel for c in chosen.candidates_} == set(base.AUTO_KERNELS)
        same = alone[least]
        assert (chosen.bandwidth_, chosen.penalty_) == (same.bandwidth_, same.penalty_)
        np.testing.assert_allclose(
            chosen.decision_function(X), same.decision_function(X), rtol=1e-9, atol=1e-9
        )
        found.append(chosen.kernel_)
    assert found == ["linear", "gaussian"]


@pytest.mark.parametrize("n_centers", ["auto", 40])
def test_a_chosen_kernel_survives_storage_and_given_values(n_centers: Any) -> None:
    X, y = digits()
    X, y = X[:150], y[:150]
    model = KernelClassifier(
        kernel="auto", n_centers=n_centers, feature_groups=[32, 32], random_state=0
    ).fit(X, y)
    again = KernelClassifier().restore(model.classes_, *model.state())
    assert again.kernel_ == model.kernel_
    np.testing.assert_allclose(again.decision_function(X), model.decision_function(X), atol=1e-6)
    given = KernelClassifier(
        kernel="auto", bandwidth=30.0, penalty=1e-4, n_centers=n_centers, random_state=0
    ).fit(X, y)
    assert given.kernel_ in base.AUTO_KERNELS
    assert (given.bandwidth_, given.penalty_) == (30.0, 1e-4)
