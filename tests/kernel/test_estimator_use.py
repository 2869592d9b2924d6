"""KernelClassifier as users meet it: real data, labels, seeds, stored state, clear refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from kernel_helpers import FIXED, sample
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from toptune.kernel import KernelClassifier, base
from toptune.kernel.selection.search import PENALTIES


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
    monkeypatch.setattr(base, "SELECTION_SAMPLES", 50)
    sizes: list[int] = []
    original = base.select

    def watched(rows: torch.Tensor, *args: object, **named: object) -> object:
        sizes.append(len(rows))
        return original(rows, *args, **named)

    monkeypatch.setattr(base, "select", watched)
    subset = KernelClassifier(random_state=0).fit(X, y)
    monkeypatch.setattr(base, "SELECTION_SAMPLES", 1000)
    whole = KernelClassifier(random_state=0).fit(X, y)
    assert sizes == [50, 120]
    # the penalty of the first was chosen on all samples, at its own bandwidth
    final = [c for c in subset.candidates_ if c.penalty == subset.penalty_]
    assert final[-1].bandwidth == subset.bandwidth_
    assert whole.loo_decision_function_.shape == subset.loo_decision_function_.shape == (120, 3)


@pytest.mark.parametrize(
    "given",
    [{"bandwidth": 3.0}, {"kernel": "linear"}, {"bandwidth": 3.0, "n_centers": 30}],
    ids=["exact", "linear", "nystrom"],
)
def test_the_penalty_is_the_best_of_all_that_could_be_given(given: dict[str, Any]) -> None:
    X, y = sample(60, 3)
    if "kernel" in given:
        X = X / 10  # the best penalty of a linear kernel is in squared units of the features
    model = KernelClassifier(random_state=0, **given).fit(X, y)
    assert model.n_centers_ == given.get("n_centers", 60)
    losses = {
        penalty: KernelClassifier(penalty=penalty, random_state=0, **given).fit(X, y).loo_log_loss_
        for penalty in PENALTIES
    }
    assert PENALTIES[-1] < model.penalty_ < PENALTIES[0]  # else a stuck choice would pass as well
    assert model.penalty_ == min(losses, key=losses.__getitem__)
    assert model.loo_log_loss_ == pytest.approx(losses[model.penalty_], rel=1e-6)


def test_the_penalty_of_a_subset_is_chosen_again_on_all_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = sample(300, 3, seed=3)
    monkeypatch.setattr(base, "SELECTION_SAMPLES", 30)
    model = KernelClassifier(random_state=0).fit(X, y)
    on_subset = min(model.candidates_[: 5 * len(PENALTIES)], key=lambda c: c.loss)
    on_all = model.candidates_[5 * len(PENALTIES) :]
    assert on_subset.bandwidth == model.bandwidth_
    assert {c.bandwidth for c in on_all} == {model.bandwidth_}
    # The samples are ten times as many, and the best penalty is another one.
    assert on_subset.penalty in {c.penalty for c in on_all}
    assert model.penalty_ == min(on_all, key=lambda c: c.loss).penalty != on_subset.penalty
    # No neighbour on the grid is better by a fit of its own.
    k = PENALTIES.index(model.penalty_)
    for penalty in (PENALTIES[k - 1], PENALTIES[k + 1]):
        fixed = KernelClassifier(bandwidth=model.bandwidth_, penalty=penalty).fit(X, y)
        assert fixed.loo_log_loss_ >= model.loo_log_loss_


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_classifier_tries_penalties_that_its_kernel_matrix_resolves(dtype: type) -> None:
    rng = np.random.default_rng(0)
    centers = 3.0 * rng.normal(size=(4, 20))
    y = np.arange(1000) % 4
    X = (centers[y] + 0.3 * rng.normal(size=(1000, 20))).astype(dtype)  # the weakest would be taken
    model = KernelClassifier(random_state=0).fit(X, y)
    assert model.plan_.solver == "exact"
    on_all = [c.penalty for c in model.candidates_[5 * len(PENALTIES) :]]
    if dtype is np.float32:
        assert min(on_all) > base.ROUNDED_PENALTY
    else:
        assert min(on_all) == min(PENALTIES)
    given = KernelClassifier(penalty=1e-8, bandwidth=5.0, random_state=0).fit(X, y)
    assert given.penalty_ == 1e-8  # what is asked for is done
