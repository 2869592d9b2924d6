"""Model and feature files of every task."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from task_helpers import DIGITS, MORE, PICTURES, N, ink, names

from toptune import TopTuner
from toptune.errors import BackboneError, DataError, ModelFileError
from toptune.features import Features
from toptune.images import from_arrays
from toptune.model.file import read_model


@pytest.mark.parametrize("name", ["regression", "multilabel", "classes"])
def test_a_model_comes_back(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: TopTuner = request.getfixturevalue(name)
    model.save(tmp_path / "m.toptune")
    for again in (TopTuner.load(tmp_path / "m.toptune"), pickle.loads(pickle.dumps(model))):
        assert again.task_ == model.task_
        assert again.classes_.tolist() == model.classes_.tolist()
        assert again.loo_.to_dict() == model.loo_.to_dict()
        assert np.array_equal(again.predict(MORE[:9]), model.predict(MORE[:9]))
        assert np.array_equal(again.codes_, model.codes_)
    if name == "regression":
        again = TopTuner.load(tmp_path / "m.toptune")
        assert np.array_equal(
            again.classify(MORE[:3]).intervals(), model.classify(MORE[:3]).intervals()
        )
        assert again.head_.loo_r2_ == model.head_.loo_r2_


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_a_model_of_few_centers_comes_back(
    task: str, tuner: Callable[..., TopTuner], tmp_path: Path
) -> None:
    labels = ink(PICTURES) if task == "regression" else names(DIGITS.target[:N])
    model = tuner(n_centers=20).fit(PICTURES, labels=labels)
    assert (model.task_, model.head_.n_centers_) == (task, 20)
    assert model.loo_.n == N
    for keep in ("sums", "rows", "nothing"):
        model.save(tmp_path / "m.toptune", keep=keep)
        again = TopTuner.load(tmp_path / "m.toptune")
        assert np.array_equal(again.predict(MORE[:9]), model.predict(MORE[:9]))
        assert again.loo_.to_dict() == model.loo_.to_dict()


def test_a_file_of_numbers_that_is_damaged(regression: TopTuner, tmp_path: Path) -> None:
    from toptune.runtime.tensor_file import load_tensors, save_tensors

    path = tmp_path / "m.toptune"
    regression.save(path)
    tensors, document = load_tensors(path, kind="model", format_version=3, required=())
    del document["kind"], document["format_version"]
    for change in ({"task": "ranking"}, {"head": {}}):
        save_tensors(path, tensors, document | change, kind="model", format_version=3)
        with pytest.raises(ModelFileError, match="its description is damaged"):
            read_model(path)
    del tensors["intercept"]
    save_tensors(path, tensors, document, kind="model", format_version=3)
    with pytest.raises(ModelFileError, match=r"its description is damaged: KeyError.*intercept"):
        read_model(path)


def test_features_bring_their_kind_of_labels(
    regression: TopTuner, tuner: Callable[..., TopTuner], tmp_path: Path
) -> None:
    features = regression.extract(from_arrays(PICTURES, ink(PICTURES)))
    features.save(tmp_path / "f")
    again = tuner().fit_features(Features.load(tmp_path / "f"))
    assert again.task_ == "regression"
    assert again.loo_.r2 == pytest.approx(regression.loo_.r2, rel=1e-6)
    assert regression.evaluate_features(features).mae < regression.loo_.mae


def test_a_file_written_before_there_were_tasks(classes: TopTuner, tmp_path: Path) -> None:
    from toptune.runtime.tensor_file import load_tensors, save_tensors

    path = tmp_path / "m.toptune"
    classes.save(path)
    tensors, document = load_tensors(path, kind="model", format_version=3, required=())
    for name in ("kind", "format_version", "task"):
        del document[name]
    del document["parameters"]["task"]
    save_tensors(path, tensors, document, kind="model", format_version=3)
    old = TopTuner.load(path)
    assert read_model(path).task_name == "classification"
    assert np.array_equal(old.predict(MORE[:9]), classes.predict(MORE[:9]))


def test_the_network_still_has_to_be_there(regression: TopTuner, tmp_path: Path) -> None:
    regression.save(tmp_path / "m.toptune")
    with pytest.raises(BackboneError):
        TopTuner.load(tmp_path / "m.toptune", backbone="test_resnet=gone.safetensors")


@pytest.mark.parametrize(
    ("labels", "what"),
    [(ink(MORE[:4]), "numbers"), (["five;small", "other", "five", "other"], "sets of labels")],
)
def test_other_labels_are_not_added_to_classes(
    labels: object, what: str, classes: TopTuner, tuner: Callable[..., TopTuner]
) -> None:
    """Found in use: they became classes without a word, such as "ants;stripe"."""
    before = classes.head_
    with pytest.raises(DataError, match=f"the labels are {what}: give every image one class"):
        classes.partial_fit(MORE[:4], labels=labels)
    features = classes.extract(from_arrays(MORE[:4], labels))
    with pytest.raises(DataError, match=f"the labels are {what}"):
        classes.partial_fit_features(features)
    assert classes.head_ is before
    asked = tuner(task="classification").fit(PICTURES[:20], labels=["0.5", "five;x"] * 10)
    assert len(asked.partial_fit(MORE[:4], labels=labels).classes_) > 3
