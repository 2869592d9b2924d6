"""Evaluation of a model against the model itself and against counting."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_labels import WRONG
from sklearn.base import clone

from page_checks import Page
from toptune import TopTuner
from toptune.errors import DataError, NotKeptError
from toptune.evaluation.learning_curve import nested_subsets
from toptune.images import open_images
from toptune.reports.model import Report, build_report, report_page
from toptune.reports.model.compute import kernel_components, training_features


def test_build_report_without_data_is_leave_one_out(tuner: TopTuner, left_out: Report) -> None:
    assert left_out.source == "leave-one-out"
    assert left_out.evaluation is tuner.loo_
    low, high = left_out.interval
    assert low < tuner.loo_.accuracy < high
    P = tuner.head_.probabilities(tuner.head_.loo_decision_function_)
    wrong = P.argmax(axis=1) != tuner.codes_
    assert left_out.n_errors == wrong.sum() == len(left_out.errors)
    place = {name: i for i, name in enumerate(tuner.ids_)}
    confidences = [row.probability for row in left_out.errors]
    assert confidences == sorted(confidences, reverse=True)
    for row in left_out.errors:
        i = place[row.id]
        assert row.probability == pytest.approx(P[i].max())
        assert row.label_probability == pytest.approx(P[i, tuner.codes_[i]])
        assert row.predicted == tuner.classes_[P[i].argmax()] != row.label
        assert row.id == f"train/{row.label}/{Path(row.id).name}"
        assert row.file is not None
        assert Path(row.file).read_bytes()


def test_build_report_wrong_labels_are_suspected(left_out: Report, on_data: Report) -> None:
    for report in (left_out, on_data):
        found = [row.id for row in report.suspected]
        assert set(WRONG) <= set(found[:3])
        assert report.n_suspected == len(found)


def test_build_report_uninformative_model_is_weak_evidence(
    left_out: Report, tiny_name: str, kept: Path
) -> None:
    """A model whose leave-one-out is always wrong must not suspect labels."""
    same = [np.zeros((32, 32, 3), np.uint8)] * 15
    nothing = TopTuner(backbone=tiny_name, layers="last", cache=kept)
    nothing.fit(same, labels=np.arange(15) % 5)
    report = build_report(nothing, curve=False)
    assert report.n_suspected == 0
    assert "always naming the largest class on 20.0 %" in report.weak_evidence
    assert report.weak_evidence in Page(report_page(report)).text
    assert left_out.weak_evidence == ""
    assert "too little" not in report_page(left_out)


def test_build_report_data_equals_evaluate(
    tuner: TopTuner, on_data: Report, digit_files: Path
) -> None:
    expected = tuner.evaluate(digit_files)
    assert on_data.source == "data"
    assert on_data.data == str(digit_files)
    assert on_data.evaluation.to_dict() == expected.to_dict()
    assert on_data.n_errors == round(24 * (1 - expected.accuracy))
    assert all(row.id.startswith("test/") for row in on_data.errors)
    assert on_data.seconds["predict"] > 0
    assert on_data.seconds.keys() - {"predict"} == tuner.seconds_.keys()
    assert "predict" not in tuner.seconds_


def test_build_report_recalls_are_in_their_intervals(left_out: Report) -> None:
    for label, interval in left_out.recalls.items():
        assert interval is not None
        assert interval[0] < left_out.evaluation.per_class[label].recall < interval[1] or (
            left_out.evaluation.per_class[label].recall == pytest.approx(interval[1])
        )


def test_training_features_all_centers_come_from_the_model(
    tuner: TopTuner, digit_files: Path
) -> None:
    found = training_features(tuner, [])
    assert found is not None
    expected = tuner.extract(open_images(digit_files))
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.X, expected.X)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_training_features_few_centers_come_from_the_files(
    digit_files: Path, tiny_name: str, kept: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(digit_files, tmp_path / "moved")
    few = TopTuner(backbone=tiny_name, layers="last", cache=kept, n_centers=9).fit(moved)
    found = training_features(few, few.provenance_["image_folders"])
    assert found is not None
    assert len(found) == 48
    (moved / few.ids_[5]).unlink()
    assert training_features(few, [moved]) is None
    report = build_report(few)
    assert report.curve is None
    assert "holds the features of its centers only" in report.no_curve
    assert training_features(few, [digit_files]) is not None


def test_learning_curve_without_data_is_out_of_sample(tuner: TopTuner, left_out: Report) -> None:
    curve = left_out.curve
    assert curve is not None
    assert curve.points[-1].test_accuracy == pytest.approx(tuner.loo_.accuracy)
    assert curve.points[-1].n == 48
    features = training_features(tuner, [])
    assert features is not None
    accuracies = []
    for seed in range(5):
        rows = nested_subsets(features.labels, [0.5], random_state=seed)[0]
        part = clone(tuner).fit_features(features.subset(rows))
        answers = part.classes_[part.predict_proba_features(features).argmax(axis=1)]
        answers[rows] = part.classes_[part.head_.loo_decision_function_.argmax(axis=1)]
        accuracies.append((answers == features.labels).mean())
    half = next(point for point in curve.points if point.fraction == 0.5)
    assert half.test_accuracy == pytest.approx(np.mean(accuracies))


def test_learning_curve_on_data_ends_at_its_accuracy(on_data: Report) -> None:
    assert on_data.curve is not None
    assert on_data.curve.points[-1].test_accuracy == pytest.approx(on_data.evaluation.accuracy)


def test_feature_map_has_each_training_image(tuner: TopTuner, left_out: Report) -> None:
    found = left_out.feature_map
    assert found is not None
    assert found.ids == tuner.ids_
    assert found.points.shape == (48, 2)
    wrong = {row.id for row in left_out.errors}
    assert {name for name, right in zip(found.ids, found.right, strict=True) if not right} == wrong
    assert 0 < found.shares[1] <= found.shares[0] < 1


def test_kernel_components_linear_kernel_equals_svd() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5)) * [4, 2, 1, 0.5, 0.1] + 3
    points, shares = kernel_components(X @ X.T)
    centred = X - X.mean(axis=0)
    U, s, _ = np.linalg.svd(centred, full_matrices=False)
    for k in range(2):
        expected = U[:, k] * s[k]
        sign = np.sign(expected @ points[:, k])
        np.testing.assert_allclose(sign * points[:, k], expected, atol=1e-9)
    np.testing.assert_allclose(shares, s[:2] ** 2 / (s**2).sum(), atol=1e-9)


def test_kernel_components_constant_kernel_is_zero() -> None:
    points, shares = kernel_components(np.ones((4, 4)))
    np.testing.assert_allclose(points, 0, atol=1e-7)
    assert shares == (0.0, 0.0)


def test_build_report_groups_are_the_unit(tuner: TopTuner, digit_files: Path) -> None:
    images = open_images(digit_files, split="test")
    pairs = np.array([f"pair {i // 2}" for i in range(len(images))])
    report = build_report(tuner, replace(images, groups=pairs), curve=False)
    assert report.n_groups == 12
    assert report.no_curve == "it was not asked for"


def test_report_to_dict_is_json_and_keeps_the_model(
    tuner: TopTuner, left_out: Report, on_data: Report
) -> None:
    before = json.dumps(tuner.provenance_)
    for report in (left_out, on_data):
        document = json.loads(json.dumps(report.to_dict()))
        assert document["evaluation"]["accuracy"] == report.evaluation.accuracy
        assert len(document["feature_map"]["points"]) == 48
        assert document["suspected"][0]["id"] == report.suspected[0].id
    assert json.dumps(tuner.provenance_) == before


def test_build_report_unknown_class_raises(tuner: TopTuner, digit_files: Path) -> None:
    images = open_images(digit_files, split="test")
    other = replace(images, labels=np.array(["7"] * len(images)))
    with pytest.raises(DataError, match="classes that the model does not know: 7"):
        build_report(tuner, other)


def test_build_report_changed_model_without_leave_one_out(
    digit_files: Path, tiny_name: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(kept))
    few = TopTuner(backbone=tiny_name, layers="last", n_centers=9).fit(digit_files)
    few.save(tmp_path / "sums.toptune", keep="sums")
    changed = TopTuner.load(tmp_path / "sums.toptune")
    changed.partial_fit(open_images(digit_files, split="test").subset([0, 8, 16]))
    assert changed.provenance_["image_folders"] == [str(digit_files)]
    with pytest.raises(NotKeptError, match="leave-one-out after a change is not known"):
        build_report(changed)
    report = build_report(changed, digit_files)
    assert report.evaluation.n == 24
    assert "leave-one-out after a change is not known" in report.no_leave_one_out
    assert (report.suspected, report.curve) == ((), None)
    assert report.feature_map is not None
    assert report.feature_map.right.all()
    assert f"Not known: {report.no_leave_one_out}" in Page(report_page(report)).text
