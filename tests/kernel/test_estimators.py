"""KernelClassifier against dense float64 references, brute-force refits and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import FIXED, all_scores, coded, sample
from scipy.stats import ortho_group
from sklearn.datasets import load_digits, make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from toptune.kernel import KERNELS, KernelClassifier, base
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.selection.calibration import fit_temperature


def dense_scores(
    X: np.ndarray, y: np.ndarray, X_new: np.ndarray, kernel: str = "gaussian"
) -> np.ndarray:
    """Scores of kernel ridge regression solved densely in float64."""
    tensors = [torch.tensor(A, dtype=torch.float64) for A in (X, X_new)]
    K = kernel_matrix(tensors[0], tensors[0], kernel, FIXED["bandwidth"]).numpy()
    K_new = kernel_matrix(tensors[1], tensors[0], kernel, FIXED["bandwidth"]).numpy()
    n = len(y)
    return K_new @ np.linalg.solve(K + FIXED["penalty"] * n * np.eye(n), coded(y))


# ------------------------------------------------------------------------------- the solution


@pytest.mark.parametrize("kernel", KERNELS)
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
    # All samples but one as centers, the last being a copy: the same space of functions.
    X_twice, y_twice = np.concatenate([X, X[-1:]]), np.concatenate([y, y[-1:]])
    monkeypatch.setattr(base, "balanced_centers", lambda *a, **k: np.arange(len(X)))
    model = KernelClassifier(n_centers=len(X), **FIXED).fit(X_twice, y_twice)
    assert model.plan_.solver == "direct"
    expected = dense_scores(X_twice, y_twice, X)
    # float32: eps 1e-7 over the penalty 1e-3
    tolerance = 1e-6 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(all_scores(model, X), expected, atol=tolerance)


def test_float32_features_are_solved_in_float64() -> None:
    rng = np.random.default_rng(0)
    half = rng.integers(-3, 4, size=(40, 5))
    # Whole numbers with mean zero: the rows and their centring are exact in float32.
    X = np.unique(np.concatenate([half, -half]), axis=0).astype(np.float32)
    y = rng.integers(0, 3, len(X))
    penalty, n = 1e-6, len(X)
    model = KernelClassifier(bandwidth=3.0, penalty=penalty).fit(X, y)
    assert model.n_centers_ == n
    assert model.centers_.dtype == np.float32
    centers = torch.tensor(model.centers_, dtype=torch.float64)
    K = kernel_matrix(centers, centers, "gaussian", 3.0).numpy()
    residual = (K + penalty * n * np.eye(n)) @ model.dual_coef_ - coded(y)
    # Backward stability: n eps ||K|| ||alpha||, with ||alpha|| <= ||y|| / (penalty n): 2e-7 for 80
    # samples. A solution in float32 leaves about 1e-2.
    assert np.abs(residual).max() < 1e-7


@pytest.mark.parametrize("model_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_prediction_has_the_better_precision_of_samples_and_centers(
    model_dtype: type, dtype: type
) -> None:
    X, y = sample(60, 3)
    model = KernelClassifier(bandwidth=3.0, penalty=1e-6).fit(X.astype(model_dtype), y)
    X_new = sample(20, 3, seed=1)[0].astype(dtype)
    tensors = [torch.tensor(A, dtype=torch.float64) for A in (X_new, model.centers_)]
    expected = kernel_matrix(*tensors, "gaussian", 3.0).numpy() @ model.dual_coef_
    # Errors eps of the kernel, a few of them for r^2, times the sum of |alpha|; the rows that are
    # stored in float32 lose another eps when their origin is moved.
    eps = np.finfo(np.float32 if np.float32 in (dtype, model_dtype) else np.float64).eps
    bound = 30 * eps * np.abs(model.dual_coef_).sum(0).max()
    if (dtype, model_dtype) == (np.float32, np.float64):
        bound = 30 * np.finfo(np.float64).eps * np.abs(model.dual_coef_).sum(0).max()
    np.testing.assert_allclose(model.decision_function(X_new), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("n_centers", ["auto", 20])
def test_float32_features_far_from_the_origin_lose_nothing_but_their_own_digits(
    n_centers: int | str,
) -> None:
    X, y = sample(60, 3)
    far = (X + 4096.0).astype(np.float32)  # keeps 2^-11 = 5e-4 of each feature
    near = far.astype(np.float64) - 4096.0  # exactly
    model = KernelClassifier(n_centers=n_centers, random_state=0, **FIXED).fit(far, y)
    expected = KernelClassifier(n_centers=n_centers, random_state=0, **FIXED).fit(near, y)
    # The mean is rounded to 5e-4 and is the same for all rows, so distances are as exact as in
    # float32 near the origin: eps over the penalty, and a few for sums. Uncentred squares of 1e8
    # would be wrong by 10 where distances are about 3.
    np.testing.assert_allclose(
        all_scores(model, far), all_scores(expected, near), rtol=0, atol=2e-3
    )


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_isolated_samples_do_not_leak_their_labels_in_float32(seed: int, dtype: type) -> None:
    """With few samples penalty * n nears eps of float32, and 1 - h is rounding there.

    The rounding has the sign of the label: such a leave-one-out once was right for 10 of 10 random
    labels.
    """
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(10, 5)), rng.permutation(np.arange(10) % 2)
    model = KernelClassifier(bandwidth=0.3).fit(X.astype(dtype), y)
    K = kernel_matrix(torch.tensor(X), torch.tensor(X), "gaussian", 0.3).numpy()
    expected = np.empty((10, 2))
    for i in range(10):
        kept = np.arange(10) != i
        A = K[np.ix_(kept, kept)] + model.penalty_ * 10 * np.eye(9)
        expected[i] = K[i, kept] @ np.linalg.solve(A, coded(y)[kept])
    # float32 features: eps in r^2 of about 5 / 0.3^2, on kernel values that are below 0.1.
    np.testing.assert_allclose(model.loo_decision_function_, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [10, 20, 50])
def test_what_is_selected_on_few_samples_does_not_depend_on_their_dtype(n: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 50)).astype(np.float32)
    y = rng.permutation(np.arange(n) % 2)
    single, double = (KernelClassifier().fit(X.astype(t), y) for t in (np.float32, np.float64))
    assert single.penalty_ == double.penalty_
    # Kernel values are off by 1e-6 and a leave-one-out score by 1e-6 / (penalty n) at most; what
    # float64 computes from the same rows differs by the centring alone.
    for a, b in zip(single.candidates_, double.candidates_, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=0.01)


def test_random_labels_have_the_leave_one_out_accuracy_of_guessing() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.integers(0, 2, 300)
    model = KernelClassifier().fit(X, y)
    # Standard error 0.029; the best of 75 correlated candidates by log-loss adds about two of them.
    assert model.loo_accuracy_ < 0.5 + 5 * 0.029
    assert model.loo_log_loss_ > 0.65


# --------------------------------------------------------------------------------- invariances


@given(seed=st.integers(0, 1000), c=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=8)
def test_the_order_of_samples_does_not_matter(seed: int, c: int) -> None:
    X, y = sample(60, c)
    order = np.random.default_rng(seed).permutation(60)
    first = KernelClassifier().fit(X, y)
    second = KernelClassifier().fit(X[order], y[order])
    assert (second.bandwidth_, second.penalty_) == (pytest.approx(first.bandwidth_), first.penalty_)
    np.testing.assert_allclose(second.predict_proba(X), first.predict_proba(X), atol=1e-5)


@given(seed=st.integers(0, 1000), kernel=st.sampled_from(["gaussian", "matern52", "linear"]))
@settings(deadline=None, max_examples=8)
def test_a_rotation_of_the_features_does_not_matter(seed: int, kernel: str) -> None:
    X, y = sample(60, 3)
    R = ortho_group.rvs(6, random_state=seed)
    first = KernelClassifier(kernel=kernel).fit(X, y)
    second = KernelClassifier(kernel=kernel).fit(X @ R, y)
    assert second.penalty_ == first.penalty_
    np.testing.assert_allclose(second.predict_proba(X @ R), first.predict_proba(X), atol=1e-5)


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-2, 1e2))
@settings(deadline=None, max_examples=8)
def test_the_origin_and_the_unit_of_the_features_do_not_matter(shift: float, scale: float) -> None:
    X, y = sample(60, 3)
    first = KernelClassifier().fit(X, y)
    second = KernelClassifier().fit(scale * X + shift, y)
    assert second.bandwidth_ == pytest.approx(scale * first.bandwidth_, rel=1e-6)
    np.testing.assert_allclose(
        second.predict_proba(scale * X + shift), first.predict_proba(X), atol=1e-4
    )


@given(n_copies=st.integers(1, 20), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=8)
def test_duplicated_centers_do_not_matter(n_copies: int, seed: int) -> None:
    X, y = sample(80, 3)
    rng = np.random.default_rng(seed)
    centers = rng.choice(80, 20, replace=False)
    repeated = np.concatenate([centers, rng.choice(centers, n_copies)])
    scores = []
    for rows in (centers, repeated):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "balanced_centers", lambda *a, r=rows, **k: r)
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


@pytest.mark.parametrize("own", [False, True])
def test_class_weight_multiplies_sample_weight(own: bool) -> None:
    X, y = sample(60, 2)
    y = np.where(y == 1, "rare", "common")
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 60) if own else np.ones(60)
    by_class = KernelClassifier(class_weight={"rare": 3.0, "common": 0.5}, **FIXED)
    by_class.fit(X, y, weight if own else None)
    by_sample = KernelClassifier(**FIXED).fit(X, y, weight * np.where(y == "rare", 3.0, 0.5))
    np.testing.assert_allclose(by_class.dual_coef_, by_sample.dual_coef_)


@pytest.mark.parametrize("n_centers", ["auto", 20])
def test_weights_count_in_the_choice_the_temperature_and_the_accuracy(
    n_centers: int | str,
) -> None:
    X, y = sample(90, 3, seed=2)
    w = np.random.default_rng(0).uniform(0.0, 1.0, 90) ** 6 + 1e-3  # a few samples decide
    model = KernelClassifier(bandwidth=3.0, n_centers=n_centers, random_state=0).fit(X, y, w)
    scores, hits = model.loo_decision_function_, model.loo_decision_function_.argmax(1) == y
    assert abs(w @ hits / w.sum() - hits.mean()) > 1e-3  # or the next line would show nothing
    assert model.loo_accuracy_ == pytest.approx(w @ hits / w.sum())
    temperature, loss = fit_temperature(*map(torch.tensor, (scores, y, w)))
    assert model.temperature_ == pytest.approx(temperature, rel=1e-4)
    assert model.loo_log_loss_ == pytest.approx(loss, rel=1e-6)
    # The last candidate at this penalty is the fit; before it come those of the subset.
    at_fit = [c.loss for c in model.candidates_ if c.penalty == model.penalty_][-1]
    assert at_fit == pytest.approx(loss, rel=1e-6)


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
    np.testing.assert_allclose(model.loo_decision_function_[:10], all_scores(without, X[:10]))


def test_a_sample_of_weight_zero_may_lie_anywhere() -> None:
    X, y = sample(50, 2)
    X[0] = 1e12  # were the origin moved to the mean of all rows, 5 digits of distances were left
    model = KernelClassifier(**FIXED).fit(X, y, np.r_[0.0, np.ones(49)])
    without = KernelClassifier(**FIXED).fit(X[1:], y[1:])
    np.testing.assert_allclose(model.dual_coef_, without.dual_coef_, rtol=1e-9)
