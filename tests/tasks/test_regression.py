"""Which task it is; and TopTuner on real images with numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import is_classifier, is_regressor
from sklearn.linear_model import Ridge
from task_helpers import DIGITS, MORE, PICTURES, N, ink, names

from toptune import DataError, FineTuner, TopTuner
from toptune.errors import DataWarning
from toptune.images import from_arrays
from toptune.kernel import KernelRegressor
from toptune.reports.comparison import compare
from toptune.reports.model import build_report
from toptune.tasks import chosen_task, training_labels

# ------------------------------------------------------------------------------- which task


@pytest.mark.parametrize(
    ("task", "kind", "expected"),
    [
        ("auto", "class", "classification"),
        ("auto", "number", "regression"),
        ("auto", "set", "multilabel"),
        ("classification", "number", "classification"),
        ("regression", "class", "regression"),
        ("multilabel", "class", "multilabel"),
    ],
)
def test_the_task_is_asked_for_or_follows_the_labels(task: Any, kind: Any, expected: str) -> None:
    assert chosen_task(task, kind).name == expected


def test_a_task_there_is_not(tuner: Callable[..., TopTuner]) -> None:
    with pytest.raises(ValueError, match=r"task must be auto, classification, .* got 'ranking'"):
        tuner(task="ranking").fit(PICTURES, labels=ink(PICTURES))


def test_numbers_asked_to_be_classes_are_by_their_text(tuner: Callable[..., TopTuner]) -> None:
    grades = np.resize([0.0, 0.33, 1.0], N)
    model = tuner(task="classification").fit(PICTURES, labels=grades)
    assert model.task_ == "classification"
    assert model.classes_.tolist() == ["0.0", "0.33", "1.0"]


def test_whole_numbers_asked_to_be_numbers(tuner: Callable[..., TopTuner]) -> None:
    ages = np.round(ink(PICTURES)).astype(int)
    model = tuner(task="regression").fit(PICTURES, labels=ages)
    assert model.task_ == "regression"
    assert model.predict(PICTURES[:3]).dtype == np.float64


# ------------------------------------------------------------------------------- regression


def test_numbers_are_predicted(regression: TopTuner) -> None:
    assert regression.task_ == "regression"
    assert isinstance(regression.head_, KernelRegressor)
    assert regression.loo_.n == N
    found = regression.evaluate(MORE, ink(MORE))
    # What leave-one-out promised holds for images that were not seen.
    assert found.r2 > 0.8
    assert regression.loo_.r2 > 0.8
    assert regression.score(MORE, ink(MORE)) == found.r2
    values = regression.predict(MORE)
    assert values.shape == (N,)
    assert np.abs(values - ink(MORE)).mean() == pytest.approx(found.mae)


def test_regression_is_better_than_ridge_regression_without_a_choice(
    regression: TopTuner,
) -> None:
    """Against an independent solver on the same features: nothing is lost on the way."""
    train, test = (regression.extract(from_arrays(P)).X for P in (PICTURES, MORE))
    peer = Ridge().fit(train, ink(PICTURES))
    ours = regression.evaluate(MORE, ink(MORE)).mae
    assert ours < np.abs(peer.predict(test) - ink(MORE)).mean()


def test_leave_one_out_is_a_refit_without_the_image(
    regression: TopTuner, tuner: Callable[..., TopTuner]
) -> None:
    head = regression.head_
    held = {"kernel": head.kernel_, "bandwidth": head.bandwidth_, "penalty": head.penalty_}
    features = regression.extract(from_arrays(PICTURES, ink(PICTURES)))
    for i in (0, 33):
        rest = np.delete(np.arange(N), i)
        without = tuner(**held).fit_features(features.subset(rest))
        # The mean that is subtracted, and lambda n, are those of one sample fewer.
        assert without.predict(PICTURES[i : i + 1])[0] == pytest.approx(
            head.loo_predictions_[i], abs=0.3
        )


def test_intervals_hold_the_number_about_as_often_as_asked(regression: TopTuner) -> None:
    found = regression.classify(MORE)
    low, high = found.intervals(0.8).T
    inside = np.mean((low <= ink(MORE)) & (ink(MORE) <= high))
    assert 0.65 < inside < 0.95  # standard error 0.045, and the jackknife's own
    wide = found.intervals(0.95)
    assert (wide[:, 0] < low).all()
    assert np.isinf(found.intervals(0.999)).all()
    assert np.allclose((low + high) / 2, found.values)


def test_groups_are_left_out_whole(tuner: Callable[..., TopTuner]) -> None:
    """Copies of every image, told apart by nothing: alone each is predicted by its copy."""
    noise = np.random.default_rng(0).uniform(0, 100, size=N // 2).tolist()
    images = np.concatenate([PICTURES[: N // 2]] * 2)
    alone = tuner().fit(images, labels=noise * 2)
    groups = [f"g{k}" for k in range(N // 2)] * 2
    whole = tuner().fit(images, labels=noise * 2, groups=groups)
    assert alone.loo_.r2 > 0.5 > 0.3 > whole.loo_.r2
    # Wider, for the groups' errors are larger; and of groups there are half as many.
    wide, narrow = (np.diff(m.classify(images[:1]).intervals(0.9))[0, 0] for m in (whole, alone))
    assert wide > narrow
    assert np.isinf(whole.classify(images[:1]).intervals(0.98)).all()  # 40 groups tell up to 40/41
    assert np.isfinite(alone.classify(images[:1]).intervals(0.98)).all()
    found = tuner().fit(images, labels=noise * 2, groups="near-duplicates")
    assert found.loo_.r2 < 0.3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*["1.5"] * 3, "poly", *["1"] * 76], "label 4 of 80 of image image-000003 is 'poly'"),
        ([1.0, float("inf"), *[2.5] * 78], "label 2 of 80 of image image-000001 is 'inf'"),
        ([2.5] * 80, "at least two different numbers, but all labels are 2.5"),
    ],
)
def test_labels_that_are_no_numbers(
    tuner: Callable[..., TopTuner], labels: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        tuner(task="regression").fit(PICTURES, labels=labels)


def test_what_is_for_classes_says_so(regression: TopTuner, tuner: Callable[..., TopTuner]) -> None:
    with pytest.raises(DataError, match="predict_proba is for classification and multilabel, and"):
        regression.predict_proba(MORE[:1])
    with pytest.raises(DataError, match="costs are for classes, and this model predicts numbers"):
        regression.predict(MORE[:1], costs=np.zeros((2, 2)))
    with pytest.raises(DataError, match="thresholds are for classes, and this model predicts"):
        regression.evaluate(MORE, ink(MORE), thresholds={"a": 0.5})
    with pytest.raises(DataError, match="thresholds are for classification and multilabel, and"):
        regression.choose_thresholds("macro-f1")
    with pytest.raises(DataError, match="coverage= is for classification, and this model does"):
        regression.classify(MORE[:1], coverage=0.9)
    with pytest.raises(DataError, match="reject= is for classification, and this model does"):
        regression.predict(MORE[:1], reject=0.1)
    with pytest.raises(DataError, match="unknown_score is for classification, and this model"):
        regression.unknown_score(MORE[:1])
    with pytest.raises(DataError, match="explain is for classification, and this model does"):
        regression.explain([MORE[0]])
    with pytest.raises(DataError, match="a report is for classification, and this model does"):
        build_report(regression)
    with pytest.raises(DataError, match="needs a finite number for every image, but label 1"):
        regression.evaluate(MORE[:1], ["big"])
    with pytest.raises(ValueError, match="class_weight is for classification, got 'balanced'"):
        tuner(class_weight="balanced").fit(PICTURES, labels=ink(PICTURES))


def test_a_network_is_chosen_for_classification_only() -> None:
    with pytest.raises(DataError, match='"auto" is for classification, not regression'):
        TopTuner(backbone="auto").fit(PICTURES, labels=ink(PICTURES))


def test_fine_tuning_and_comparisons_are_for_classes() -> None:
    images = from_arrays(PICTURES, ink(PICTURES))
    with pytest.raises(DataError, match="for classification, and the labels are numbers"):
        FineTuner().fit(images)
    with pytest.raises(DataError, match="for classification, and the labels are sets of labels"):
        training_labels(from_arrays(PICTURES, names(DIGITS.target[:N])))
    with pytest.raises(DataError, match="for classification, and the labels are numbers"):
        compare(images)
    classes = replace(images, label_kind="class")
    np.testing.assert_array_equal(training_labels(classes), ink(PICTURES))


def test_changes_of_a_model_are_for_classification(
    regression: TopTuner, multilabel: TopTuner, classes: TopTuner, tuner: Callable[..., TopTuner]
) -> None:
    features = regression.extract(from_arrays(MORE, ink(MORE)))
    for model, task in ((regression, "regression"), (multilabel, "multilabel")):
        said = f"is for classification, and this model does {task}"
        with pytest.raises(DataError, match=f"adding images {said}"):
            model.partial_fit(MORE, labels=ink(MORE))
        with pytest.raises(DataError, match=f"adding images {said}"):
            model.partial_fit_features(features)
        with pytest.raises(DataError, match=f"forgetting images {said}"):
            model.forget("image-000000")
        with pytest.raises(DataError, match=f"merging models {said}"):
            classes.merge(model)
        with pytest.raises(DataError, match=f"centers= {said}"):
            tuner().fit(MORE, labels=ink(MORE), centers=model)
        assert model.refresh_ is None
    with pytest.raises(DataError, match="centers= is for classification, and these labels"):
        tuner().fit(MORE, labels=ink(MORE), centers=classes)


def test_scikit_learn_takes_it_for_a_regressor() -> None:
    """Its splitters would look for classes otherwise."""
    assert is_regressor(TopTuner(task="regression"))
    assert is_classifier(TopTuner())


def test_a_failed_fit_changes_nothing(tuner: Callable[..., TopTuner]) -> None:
    model = tuner().fit(PICTURES, labels=ink(PICTURES))
    before = model.predict(MORE[:5])
    with pytest.raises(DataError, match=r"all labels are 2\.5"):
        model.set_params(task="regression").fit(PICTURES, labels=[2.5] * N)
    with pytest.raises(ValueError, match="kernel"):
        model.set_params(kernel="rbf").fit(PICTURES, labels=ink(PICTURES))
    assert np.array_equal(model.predict(MORE[:5]), before)


def test_numbers_that_were_lost_are_no_lost_classes(
    tuner: Callable[..., TopTuner], tmp_path: Path
) -> None:
    for k in range(12):
        Image.fromarray((255 * PICTURES[k]).astype(np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "11.png").write_bytes(b"no image")
    rows = [f"{k}.png,{value}" for k, value in enumerate(ink(PICTURES[:12]))]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["image_path,label", *rows]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        model = tuner().fit(table)
    assert (model.task_, model.loo_.n, len(model.quarantined_)) == ("regression", 11, 1)
    said = [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    assert len(said) == 1
    assert said[0].startswith("1 image could not be read")
