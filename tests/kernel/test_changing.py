"""Changed classifiers against dense float64 refits by brute force, and against KernelClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.utils import compute_sample_weight

from toptune.errors import DataError, NotKeptError
from toptune.kernel import KernelClassifier
from toptune.kernel.base import ROUNDED_PENALTY
from toptune.kernel.kept import LEFT_OUT
from toptune.kernel.selection.calibration import fit_temperature

#: Of scores, which are of size 1: float64 throughout, condition numbers up to about 1e8.
CLOSE = 1e-6
WEIGHTS: dict[str, Any] = {"none": None, "balanced": "balanced", "given": {0: 2.0, 2: 0.5}}
CENTERS = {"exact": "auto", "nystrom": 30}
KINDS = [(m, w) for m in CENTERS for w in WEIGHTS]

_X, _y = load_digits(n_class=4, return_X_y=True)
_order = np.random.default_rng(0).permutation(len(_X))
X, Y = _X[_order] / 16.0, _y[_order]
NEW = X[-40:]  # samples to score, in no fit
OLD = np.flatnonzero(Y[:200] < 3)[:110]  # three classes
MORE = np.arange(200, 230)  # four classes: one is new
GROUPS = np.arange(len(X)) // 3


def kernel(A: np.ndarray, B: np.ndarray, bandwidth: float) -> np.ndarray:
    squares = ((A[:, None, :] - B[None, :, :]) ** 2).sum(-1)
    return np.exp(-0.5 * squares / bandwidth**2)


def dense(
    model: KernelClassifier,
    rows: np.ndarray,
    Z: np.ndarray,
    *,
    scored: np.ndarray,
    left_out: np.ndarray | None = None,
) -> np.ndarray:
    """Scores of a refit on `rows` with centers Z, by the normal equations; N stays as it is."""
    classes = np.unique(Y[rows])
    w = np.ones(len(rows))
    if model.class_weight is not None:
        w = compute_sample_weight(model.class_weight, Y[rows])
    N = w.sum()
    if left_out is not None:
        w = w * ~left_out
    targets = np.where(Y[rows][:, None] == classes, 1.0, -1.0)
    K, K_mm = kernel(X[rows], Z, model.bandwidth_), kernel(Z, Z, model.bandwidth_)
    A = K.T @ (w[:, None] * K) + model.penalty_ * N * K_mm
    alpha = np.linalg.solve(A, K.T @ (w[:, None] * targets))
    return kernel(scored, Z, model.bandwidth_) @ alpha


def scores(model: KernelClassifier, samples: np.ndarray = NEW) -> np.ndarray:
    """One column a class, also for two."""
    out: np.ndarray = model._checked_scores(samples)
    return out


def fitted(rows: np.ndarray, centers: str, weights: str, **options: Any) -> KernelClassifier:
    model = KernelClassifier(
        n_centers=CENTERS[centers],
        bandwidth=2.5,
        penalty=1e-4,
        class_weight=WEIGHTS[weights],
        random_state=0,
        **options,
    )
    return model.fit(X[rows], Y[rows], groups=None)


def centers_after(model: KernelClassifier, rows: np.ndarray) -> np.ndarray:
    """Where all samples are centers they are again; else the old ones stay."""
    return X[rows] if len(model.centers_) == len(model.sample_codes_) else model.centers_


def snapshot(model: KernelClassifier) -> dict[str, Any]:
    return {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in vars(model).items()}


def assert_unchanged(model: KernelClassifier, before: dict[str, Any]) -> None:
    assert vars(model).keys() >= before.keys()
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(getattr(model, name), value), name
        elif isinstance(value, torch.Tensor):
            assert torch.equal(getattr(model, name), value), name
        elif name != "_kept":  # may have become sums by class
            assert getattr(model, name) is value, name


# ---------------------------------------------------------------------------- against dense refits


@pytest.mark.parametrize(("centers", "weights"), KINDS)
def test_samples_and_a_class_are_added(centers: str, weights: str) -> None:
    model = fitted(OLD, centers, weights)
    before = snapshot(model)
    changed = model.add_samples(X[MORE], Y[MORE])
    rows = np.concatenate([OLD, MORE])
    Z = centers_after(model, rows)
    assert len(Z) == (len(rows) if centers == "exact" else 30)  # the path that was meant
    assert changed.classes_.tolist() == [0, 1, 2, 3]
    assert np.abs(scores(changed) - dense(model, rows, Z, scored=NEW)).max() < CLOSE
    assert np.array_equal(changed.centers_, Z)
    assert changed.classes_[changed.sample_codes_].tolist() == Y[rows].tolist()
    assert changed.dual_coef_ is not model.dual_coef_
    assert_unchanged(model, before)


@pytest.mark.parametrize(("centers", "weights"), KINDS)
def test_samples_are_taken_away(centers: str, weights: str) -> None:
    model = fitted(OLD, centers, weights)
    before = snapshot(model)
    gone = np.arange(0, len(OLD), 4)
    changed = model.remove_samples(gone)
    rows = np.delete(OLD, gone)
    Z = X[rows] if centers == "exact" else model.centers_
    assert np.abs(scores(changed) - dense(model, rows, Z, scored=NEW)).max() < CLOSE
    places = changed.center_indices_
    assert np.array_equal(X[rows][places[places >= 0]], Z[places >= 0])
    assert (places < 0).sum() == (
        0 if centers == "exact" else np.isin(model.center_indices_, gone).sum()
    )
    assert_unchanged(model, before)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_centers_are_dropped_with_the_samples(weights: str) -> None:
    model = fitted(OLD, "nystrom", weights)
    gone = np.r_[model.center_indices_[:10], 0]
    changed = model.remove_samples(gone, drop_centers=True)
    rows, Z = np.delete(OLD, gone), model.centers_[~np.isin(model.center_indices_, gone)]
    assert len(Z) <= 20
    assert np.array_equal(changed.centers_, Z)
    assert np.array_equal(X[rows][changed.center_indices_], Z)
    assert np.abs(scores(changed) - dense(model, rows, Z, scored=NEW)).max() < CLOSE
    out = np.arange(len(rows)) == 7
    left = dense(changed, rows, Z, scored=X[rows[7:8]], left_out=out)
    assert np.abs(changed.loo_decision_function_[7] - left).max() < CLOSE


@pytest.mark.parametrize("keep", ["sums", "rows"])
def test_centers_taken_away_before_are_dropped_later(keep: Any) -> None:
    """Found in use: once their samples were gone, centers could not be dropped any more."""
    model = fitted(OLD, "nystrom", "none")
    gone = model.center_indices_[:10]
    once = model.remove_samples(gone, drop_centers=True)
    kept = restored(model.remove_samples(gone), keep)
    assert np.count_nonzero(kept.center_indices_ == -1) == 10
    later = kept.remove_samples(np.arange(0), drop_centers=True)
    assert np.array_equal(later.centers_, once.centers_)
    assert np.array_equal(later.center_indices_, once.center_indices_)
    assert np.abs(scores(later) - scores(once)).max() < CLOSE


def test_centers_of_another_model_are_not_dropped() -> None:
    model = fitted(OLD[:50], "nystrom", "none")
    like = model.fit_with_centers(X[OLD[50:]], Y[OLD[50:]], penalty=1e-4)
    assert set(like.center_indices_) == {-2}
    fewer = like.remove_samples(np.arange(5), drop_centers=True)
    assert np.array_equal(fewer.centers_, model.centers_)
    forgot = model.remove_samples(model.center_indices_[:3])
    for merged in (forgot.merge(like), like.merge(forgot)):
        assert np.count_nonzero(merged.center_indices_ == -1) == 3
        dropped = merged.remove_samples(np.arange(0), drop_centers=True)
        assert np.array_equal(dropped.centers_, model.centers_[3:])


def test_a_model_keeps_a_center() -> None:
    model = KernelClassifier(n_centers=3, bandwidth=2.5, penalty=1e-4, random_state=0)
    model.fit(X[OLD], Y[OLD])
    with pytest.raises(DataError, match="no center would be left"):
        model.remove_samples(model.center_indices_, drop_centers=True)


@pytest.mark.parametrize(("centers", "weights"), KINDS)
def test_taking_away_what_was_added_gives_the_model_back(centers: str, weights: str) -> None:
    model = fitted(OLD, centers, weights)
    known = MORE[Y[MORE] < 3]
    changed = model.add_samples(X[known], Y[known])
    back = changed.remove_samples(np.arange(len(OLD), len(OLD) + len(known)))
    assert np.abs(scores(changed) - scores(model)).max() > 1e-3  # something had happened
    assert np.abs(scores(back) - scores(model)).max() < CLOSE
    assert np.array_equal(back.center_indices_, model.center_indices_)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("centers", "weights"), KINDS)
def test_leave_one_out_after_a_change_is_that_of_refits(
    centers: str, weights: str, grouped: bool
) -> None:
    rows = np.concatenate([OLD, MORE])
    groups = GROUPS[rows] if grouped else None
    changed = fitted(OLD, centers, weights).add_samples(X[MORE], Y[MORE], groups=groups)
    assert not set(LEFT_OUT) & vars(changed).keys()  # it waits to be asked for
    Z = changed.centers_
    for k in (0, 5, len(OLD) + 3, len(rows) - 1):
        out = np.arange(len(rows)) == k if groups is None else groups == groups[k]
        left = dense(changed, rows, Z, scored=X[rows[k : k + 1]], left_out=out)
        if centers == "exact":  # a sample left out is no center any more, which changes nothing
            kept = ~out
            alone = dense(changed, rows, Z[kept], scored=X[rows[k : k + 1]], left_out=out)
            assert np.abs(alone - left).max() < CLOSE
        assert np.abs(changed.loo_decision_function_[k] - left).max() < CLOSE
    w = np.ones(len(rows))
    if changed.class_weight is not None:
        w = compute_sample_weight(changed.class_weight, Y[rows])
    temperature, loss = fit_temperature(
        torch.tensor(changed.loo_decision_function_), torch.tensor(Y[rows]), torch.tensor(w)
    )
    assert changed.temperature_ == pytest.approx(temperature)
    assert changed.loo_log_loss_ == pytest.approx(loss)
    hits = changed.loo_decision_function_.argmax(1) == Y[rows]
    assert changed.loo_accuracy_ == pytest.approx(np.average(hits, weights=w))


# -------------------------------------------------------------------------- against the estimator


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_exact_model_becomes_the_fit_of_all(weights: str) -> None:
    rows = np.concatenate([OLD, MORE])
    whole = fitted(rows, "exact", weights)
    changed = fitted(OLD, "exact", weights).add_samples(X[MORE], Y[MORE])
    for name in ("classes_", "centers_", "center_indices_", "sample_codes_"):
        assert np.array_equal(getattr(changed, name), getattr(whole, name)), name
    for name in ("dual_coef_", *LEFT_OUT):
        assert np.allclose(getattr(changed, name), getattr(whole, name), atol=CLOSE), name


@pytest.mark.parametrize("weights", WEIGHTS)
def test_parts_with_the_centers_of_a_fit_merge_to_it(weights: str) -> None:
    whole = fitted(OLD, "nystrom", weights)
    options = {"class_weight": WEIGHTS[weights], "penalty": whole.penalty_}
    parts = [
        whole.fit_with_centers(X[rows], Y[rows], **options)
        for rows in (OLD[:40], OLD[40:70], OLD[70:])
    ]
    before = snapshot(parts[0])
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert np.abs(scores(merged) - scores(whole)).max() < CLOSE
    for name in LEFT_OUT:
        assert np.allclose(getattr(merged, name), getattr(whole, name), atol=CLOSE), name
    assert_unchanged(parts[0], before)


@pytest.mark.parametrize("first", ["exact", "like it"])
def test_a_model_merges_with_those_that_have_its_samples_as_centers(first: str) -> None:
    model = fitted(OLD[:50], "exact", "none")
    like = model.fit_with_centers(X[OLD[50:]], Y[OLD[50:]], penalty=model.penalty_)
    one, other = (model, like) if first == "exact" else (like, model)
    merged = one.merge(other)
    assert np.abs(scores(merged) - dense(model, OLD, X[OLD[:50]], scored=NEW)).max() < CLOSE
    codes = model.classes_[merged.sample_codes_[merged.center_indices_]]
    assert codes.tolist() == Y[OLD[:50]].tolist()


@pytest.mark.parametrize("first", ["model", "like it"])
def test_merged_models_know_their_centers_in_either_order(first: str) -> None:
    """Found in use: from the second of two models with fewer centers than images none came."""
    model = fitted(OLD[:50], "nystrom", "none")
    like = model.fit_with_centers(X[OLD[50:]], Y[OLD[50:]], penalty=model.penalty_)
    one, other, rows = model, like, OLD
    if first == "like it":
        one, other, rows = like, model, np.r_[OLD[50:], OLD[:50]]
    assert np.array_equal(X[rows][one.merge(other).center_indices_], model.centers_)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_way_to_the_same_samples_gives_the_same_model(data: st.DataObject) -> None:
    weights = data.draw(st.sampled_from(sorted(WEIGHTS)))
    base = fitted(OLD[:60], "nystrom", weights)
    model, rows = base, OLD[:60]
    for k in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            more = OLD[60 + 15 * k : 60 + 15 * k + data.draw(st.integers(1, 15))]
            model, rows = model.add_samples(X[more], Y[more]), np.concatenate([rows, more])
        else:
            gone = data.draw(st.integers(0, 9))
            model, rows = (
                model.remove_samples(np.arange(gone, len(rows), 10)),
                np.delete(rows, np.arange(gone, len(rows), 10)),
            )
    whole = base.fit_with_centers(
        X[rows], Y[rows], class_weight=base.class_weight, penalty=base.penalty_
    )
    assert np.abs(scores(model) - scores(whole)).max() < CLOSE
    assert model.temperature_ == pytest.approx(whole.temperature_, abs=CLOSE)


def test_sums_of_another_machine_are_brought_to_the_same_basis() -> None:
    model = fitted(OLD[:50], "nystrom", "none")
    parts = [model.fit_with_centers(X[r], Y[r], penalty=1e-4) for r in (OLD[:60], OLD[60:])]
    straight = parts[0].merge(parts[1])
    kept = parts[1]._kept
    noise = 1.0 + 1e-4 * torch.rand(kept.whiten.shape, dtype=torch.float64).triu()
    parts[1]._kept = kept.rebased(kept.whiten * noise)
    assert not torch.equal(parts[1]._kept.whiten, kept.whiten)
    merged = parts[0].merge(parts[1])
    assert np.abs(scores(merged) - scores(straight)).max() < CLOSE
    assert np.allclose(merged.loo_decision_function_, straight.loo_decision_function_, atol=CLOSE)


@pytest.mark.parametrize("centers", CENTERS)
def test_the_penalty_is_chosen_again(centers: str) -> None:
    model = fitted(OLD, centers, "balanced").set_params(penalty="auto")
    chosen = fitted(OLD, centers, "balanced", solver="auto")
    chosen.set_params(penalty="auto").fit(X[OLD], Y[OLD])
    again = model.reselect_penalty()
    assert model.penalty_ == 1e-4
    assert again.penalty_ == pytest.approx(chosen.penalty_)
    assert again.loo_log_loss_ <= model.loo_log_loss_
    assert np.abs(scores(again) - scores(chosen)).max() < CLOSE


@pytest.mark.parametrize("centers", CENTERS)
def test_single_precision_stays_near_a_refit(centers: str) -> None:
    """Features of float32: as near as two such fits of the same samples in another order."""
    single = X.astype(np.float32)
    options = {"n_centers": CENTERS[centers], "bandwidth": 2.5, "penalty": 1e-4}
    model = KernelClassifier(**options, random_state=0).fit(single[OLD], Y[OLD])
    changed = model.add_samples(single[MORE], Y[MORE])
    rows = np.concatenate([OLD, MORE])
    Z = centers_after(model, rows)
    assert changed.centers_.dtype == np.float32
    difference = scores(changed, single[-40:]) - dense(model, rows, Z, scored=NEW)
    assert np.abs(difference).max() < 2e-3


# ------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("keep", ["sums", "rows"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_what_is_kept_comes_back(weights: str, keep: Any) -> None:
    model = fitted(OLD, "nystrom", weights)
    found = restored(model, keep)
    changed = found.add_samples(X[MORE], Y[MORE])
    straight = model.add_samples(X[MORE], Y[MORE])
    assert np.array_equal(changed.dual_coef_, straight.dual_coef_)
    if keep == "rows":
        assert np.array_equal(changed.loo_decision_function_, straight.loo_decision_function_)
        assert np.array_equal(
            found.remove_samples([1]).dual_coef_, model.remove_samples([1]).dual_coef_
        )
        return
    assert changed.temperature_ == model.temperature_
    assert not hasattr(changed, "loo_decision_function_")
    for refused in (
        lambda: changed.loo_decision_function_,
        lambda: found.remove_samples([1]),
        found.reselect_penalty,
    ):
        with pytest.raises(NotKeptError, match='without kernel rows, which keep="rows" adds'):
            refused()


def restored(model: KernelClassifier, keep: Any) -> KernelClassifier:
    """The model as it comes back from its state."""
    found = KernelClassifier(class_weight=model.class_weight)
    found.restore(model.classes_, *model.state())
    found.restore_update_state(model.sample_codes_, *model.update_state(keep), None)
    return found


def test_merged_without_rows_takes_the_mean_temperature() -> None:
    model = fitted(OLD[:50], "nystrom", "none")
    parts = [model.fit_with_centers(X[r], Y[r], penalty=1e-4) for r in (OLD[:30], OLD[30:])]
    merged = restored(parts[0], "sums").merge(parts[1])
    mean = (30 * parts[0].temperature_ + 80 * parts[1].temperature_) / 110
    assert merged.temperature_ == pytest.approx(mean)
    with pytest.raises(NotKeptError, match="without kernel rows"):
        merged.loo_accuracy_  # noqa: B018


def test_a_file_without_sums_says_so() -> None:
    found = restored(fitted(OLD, "nystrom", "none"), "nothing")
    with pytest.raises(NotKeptError, match=r'cannot be changed: .* written with keep="nothing"'):
        found.add_samples(X[MORE], Y[MORE])
    assert found.loo_accuracy_ > 0.9  # known from the fit


def test_an_exact_model_needs_nothing_but_its_centers() -> None:
    model = fitted(OLD, "exact", "balanced")
    assert model.update_state("rows")[0] == {}
    found = restored(model, "nothing")
    changed = found.add_samples(X[MORE], Y[MORE])
    assert np.abs(scores(changed) - scores(model.add_samples(X[MORE], Y[MORE]))).max() < 1e-9


def test_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toptune.kernel.kept.KEPT_BYTES", 8 * 110 * 30 - 1)
    model = fitted(OLD, "nystrom", "none")
    added = model.add_samples(X[MORE], Y[MORE])  # sums are kept
    assert np.array_equal(
        added.dual_coef_, restored(model, "sums").add_samples(X[MORE], Y[MORE]).dual_coef_
    )
    with pytest.raises(NotKeptError, match=r"its kernel rows take 0\.0 GB and were not kept"):
        model.remove_samples([0])
    with pytest.raises(NotKeptError, match="needs a sum for each class, and its kernel rows"):
        fitted(OLD, "nystrom", "balanced").add_samples(X[MORE], Y[MORE])
    exact = fitted(OLD, "exact", "none")  # its kernel matrix is computed again
    straight = fitted(OLD[1:], "exact", "none")
    assert np.abs(scores(exact.remove_samples([0])) - scores(straight)).max() < CLOSE


def test_a_kernel_matrix_does_not_grow_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in use: a model whose samples are all centers stayed so, whatever was added."""
    model = fitted(OLD, "exact", "none")
    before = snapshot(model)
    monkeypatch.setattr("toptune.kernel.changing.KEPT_BYTES", 8 * 139 * 139)
    assert len(model.add_samples(X[MORE[1:]], Y[MORE[1:]]).centers_) == 139
    with pytest.raises(DataError, match=r"all 140 images would be centers, .* train anew on all"):
        model.add_samples(X[MORE], Y[MORE])
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("options", "fit", "why"),
    [
        ({"solver": "falkon", "n_centers": 30}, {}, "its solver, falkon, forms no sums"),
        ({}, {"sample_weight": np.ones(110)}, "weights of samples"),
    ],
)
def test_fits_that_keep_no_sums_say_why(
    options: dict[str, Any], fit: dict[str, Any], why: str
) -> None:
    model = KernelClassifier(bandwidth=2.5, penalty=1e-3, random_state=0, **options)
    model.fit(X[OLD], Y[OLD], **fit)
    with pytest.raises(NotKeptError, match=f"this model cannot be changed: .*{why}"):
        model.add_samples(X[MORE], Y[MORE])
    assert model.loo_accuracy_ > 0.8


def test_several_labels_keep_no_sums() -> None:
    model = KernelClassifier().fit(X[OLD], np.stack([Y[OLD] > 0, Y[OLD] > 1], axis=1))
    with pytest.raises(NotKeptError, match="several labels"):
        model.remove_samples([0])


# ------------------------------------------------------------------------------ what is refused


def test_the_last_sample_of_a_class_stays() -> None:
    for centers in CENTERS:
        model = fitted(OLD, centers, "none")
        before = snapshot(model)
        with pytest.raises(DataError, match="nothing would be left of 1: a model of fewer classes"):
            model.remove_samples(Y[OLD] == 1)
        assert_unchanged(model, before)


def test_labels_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels are of type <U.*model of type int64"):
        fitted(OLD, "exact", "none").add_samples(X[:1], ["one"])


def test_features_must_fit_the_model() -> None:
    for centers in CENTERS:
        model = fitted(OLD, centers, "none")
        before = snapshot(model)
        with pytest.raises(ValueError, match="63 features"):
            model.add_samples(X[:2, :63], Y[:2])
        with pytest.raises(ValueError, match="NaN or infinity"):
            model.add_samples(np.full((1, 64), np.nan), [0])
        with pytest.raises(ValueError, match="inconsistent numbers"):
            model.add_samples(X[:2], Y[:3])
        assert_unchanged(model, before)


def test_models_that_differ_are_not_merged() -> None:
    model = fitted(OLD, "nystrom", "none")
    like = model.fit_with_centers(X[OLD[:40]], Y[OLD[:40]])
    fewer = OLD[Y[OLD] < 2]
    other = KernelClassifier(n_centers=30, bandwidth=2.5, penalty=1e-4, random_state=1)
    for wrong, why in (
        (model.fit_with_centers(X[fewer], Y[fewer]), "different classes"),
        (model.fit_with_centers(X[OLD], Y[OLD], class_weight="balanced"), "different class_weight"),
        (other.fit(X[OLD], Y[OLD]), "different centers"),
        (fitted(OLD[:40], "exact", "none"), "different centers"),
    ):
        with pytest.raises(DataError, match=why):
            like.merge(wrong)
    exact = fitted(OLD, "exact", "none")
    with pytest.raises(DataError, match="nothing to merge"):
        exact.merge(exact)
    with pytest.raises(DataError, match="at least two classes"):
        model.fit_with_centers(X[:3], [1, 1, 1])


# ------------------------------------------------------------------------- when to begin anew


def test_samples_like_the_old_ones_ask_for_nothing() -> None:
    rows, more = np.arange(400), np.arange(400, 550)
    model = KernelClassifier(n_centers=60, bandwidth=2.5, penalty=1e-4, random_state=0)
    changed = model.fit(X[rows], Y[rows]).add_samples(X[more], Y[more])
    assert changed._coverage.n_added == 150
    assert 0 < changed._coverage.n_uncovered < 20  # about one in twenty
    assert changed.refresh_reason() is None


def test_samples_of_another_kind_ask_for_new_centers() -> None:
    rows, more = np.arange(400), np.arange(400, 440)
    model = KernelClassifier(n_centers=60, bandwidth=2.5, penalty=1e-4, random_state=0)
    changed = model.fit(X[rows], Y[rows]).add_samples(1.0 - X[more], Y[more])
    assert changed.refresh_reason() == (
        "40 of 40 added images are not covered by the centers, where 5% would be usual"
    )


def test_a_site_unlike_the_samples_that_are_all_centers_is_told() -> None:
    """Found in use: the limit was the site's own, which one in twenty always exceeds."""
    public = KernelClassifier(bandwidth=2.5, penalty=1e-4).fit(X[:200], Y[:200])
    assert public._coverage.limit is None
    rows = np.arange(200, 300)
    like = public.fit_with_centers(X[rows], Y[rows], penalty=1e-4)
    assert 0 < like._coverage.n_uncovered < 15
    assert like.refresh_reason() is None
    unlike = public.fit_with_centers(1.0 - X[rows], Y[rows], penalty=1e-4)
    assert unlike.refresh_reason() == (
        "100 of 100 added images are not covered by the centers, where 5% would be usual"
    )
    K = kernel(X[:200], X[:200], 2.5)
    left_out = 1.0 / np.diag(np.linalg.inv(K))
    assert like._coverage.limit == pytest.approx(np.quantile(left_out, 0.95), rel=1e-5)
    for merged in (public.merge(like), like.merge(public)):
        assert merged._coverage.limit == like._coverage.limit


def test_many_samples_that_are_all_centers_merge_with_a_small_site() -> None:
    """The kernel matrix of more than 800 samples is in float32, the site's rows in float64."""
    single = (X[:720] + np.random.default_rng(0).normal(size=(720, 64))).astype(np.float32)
    both = np.concatenate([single, single[:100] + np.float32(0.5)])
    labels = np.concatenate([Y[:720], Y[:100]])
    public = KernelClassifier(bandwidth=6.0, penalty=1e-4, random_state=0).fit(both, labels)
    assert public._kept.K.dtype == torch.float32
    site = public.fit_with_centers(single[:50], Y[:50], penalty=1e-4)
    merged = public.merge(site)
    assert merged._kept.whiten.dtype == torch.float64
    Z, rows = both.astype(np.float64), np.concatenate([both, single[:50]]).astype(np.float64)
    K, K_mm = kernel(rows, Z, 6.0), kernel(Z, Z, 6.0)
    T = np.where(np.concatenate([labels, Y[:50]])[:, None] == merged.classes_, 1.0, -1.0)
    alpha = np.linalg.solve(K.T @ K + 1e-4 * len(rows) * K_mm, K.T @ T)
    assert np.abs(K[::9] @ (merged.dual_coef_ - alpha)).max() < 1e-5


@pytest.mark.parametrize("centers", CENTERS)
def test_many_more_or_fewer_samples_ask_for_a_new_choice(centers: str) -> None:
    model = fitted(OLD, centers, "none")
    assert model.remove_samples(np.arange(30)).refresh_reason() is None
    fewer = model.remove_samples(np.arange(40)).refresh_reason()
    assert fewer == "only 70 images are left of 110 that centers and hyperparameters were chosen on"
    known = np.flatnonzero(Y[300:400] < 3)[:55] + 300
    assert model.add_samples(X[known[:54]], Y[known[:54]]).refresh_reason() is None
    more = model.add_samples(X[known], Y[known]).refresh_reason()
    assert more is not None
    assert more.startswith("there are 165 images, and 110 when")


def test_penalties_below_the_rounding_of_float32_are_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Above 800 samples of float32 the kernel matrix that is kept is of float32."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(850, 3)).astype(np.float32)
    labels = (samples[:, 0] > 0).astype(np.intp)
    model = KernelClassifier(kernel="polynomial", bandwidth=0.5, penalty=10.0, random_state=0)
    model.fit(samples, labels)
    assert model._kept.K.dtype == torch.float32
    least = model._kept.rounding(np.ones(2))
    assert 1e-6 < least < 1.0  # some of those tried are below it
    tried: list[float] = []
    monkeypatch.setattr(
        "toptune.kernel.changing.descend_penalties",
        lambda evaluate, *, start, penalties: tried.extend(penalties) or (start, None, {}),
    )
    assert model.reselect_penalty().penalty_ == max(tried) == 1.0
    assert min(tried) > least
    assert 1 < len(tried) < 19


# ---------------------------------------------------------------- small penalties, few samples


def dense_float64(model: KernelClassifier, single: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Leave-one-out scores of the dual problem in the span of the centers, dense in float64."""
    Z = model.centers_.astype(np.float64)
    K, K_mm = kernel(single[rows], Z, model.bandwidth_), kernel(Z, Z, model.bandwidth_)
    Y01 = np.where(Y[rows][:, None] == model.classes_, 1.0, -1.0)
    Q = K @ np.linalg.solve(K_mm + 1e-13 * np.eye(len(Z)), K.T)
    inverse = np.linalg.inv(Q + model.penalty_ * len(rows) * np.eye(len(rows)))
    left: np.ndarray = Y01 - inverse @ Y01 / np.diag(inverse)[:, None]
    return left


@pytest.mark.parametrize("n", [40, 150])
def test_fewer_samples_than_centers_at_a_small_penalty(n: int) -> None:
    """Found in use: rounding in directions that no sample reaches was divided by the penalty."""
    single = (X + np.random.default_rng(0).normal(size=X.shape)).astype(np.float32)
    public = KernelClassifier(bandwidth=6.0, penalty=1e-4).fit(single[:300], Y[:300])
    rows = np.arange(300, 300 + n)
    site = public.fit_with_centers(single[rows], Y[rows], penalty=1e-7)
    expected = dense_float64(site, single, rows)
    assert np.abs(site.loo_decision_function_ - expected).max() < 1e-5
    assert site._kept.rounding(np.ones(4)) == 0.0


def test_few_samples_left_at_a_small_penalty() -> None:
    """Found in use: what was subtracted left rounding errors that the penalty did not cover."""
    single = (X + np.random.default_rng(0).normal(size=X.shape)).astype(np.float32)
    model = KernelClassifier(n_centers=100, bandwidth=6.0, penalty=1e-7, random_state=0)
    left = np.arange(240, 300)
    model = model.fit(single[:300], Y[:300]).remove_samples(np.arange(240))
    expected = dense_float64(model, single, left)
    assert np.abs(model.loo_decision_function_ - expected).max() < 1e-4


def test_penalties_below_the_rounding_of_float32_rows_are_not_chosen() -> None:
    """Found in use: leave-one-out of rows in float32 says nothing of the least penalties."""
    single = X.astype(np.float32)
    model = KernelClassifier(n_centers=30, bandwidth=2.5, penalty=1e-4, random_state=0)
    model.fit(single[OLD], Y[OLD])
    least = model._kept.rounding(np.ones(3))
    assert least == pytest.approx(ROUNDED_PENALTY, rel=0.2)
    tried: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "toptune.kernel.changing.descend_penalties",
            lambda evaluate, *, start, penalties: tried.extend(penalties) or (start, None, {}),
        )
        model.reselect_penalty()
    assert least < min(tried)
