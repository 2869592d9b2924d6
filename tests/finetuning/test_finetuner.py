"""FineTuner: images in, labels out; the model file; parameters; what it shares with TopTuner."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from toptune import DataError, FineTuner, TopTuner
from toptune.errors import BackboneError, DataWarning, ModelFileError, StorageError
from toptune.features import load_backbone
from toptune.finetuning.training.trained_file import FINETUNED_VERSION
from toptune.images import decode
from toptune.runtime.tensor_file import load_tensors, save_tensors

N_EACH = 8
LABELS = ["night"] * N_EACH + ["day"] * N_EACH


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


def pixels(seed: int = 0) -> np.ndarray:
    """Eight dark, then eight bright images of 24 x 24 pixels: uint8, (16, 24, 24, 3)."""
    shape = (2 * N_EACH, 24, 24, 3)
    noise = np.random.default_rng(seed).integers(0, 90, size=shape, dtype=np.uint8)
    noise[N_EACH:] += 150
    return noise


def same_weights(a: FineTuner, b: FineTuner) -> bool:
    A, B = a.network_.state_dict(), b.network_.state_dict()
    return A.keys() == B.keys() and all(torch.equal(A[key], B[key]) for key in A)


@pytest.fixture
def make(tiny_name: str) -> Callable[..., FineTuner]:
    """A FineTuner of the tiny network that trains for two epochs."""

    def making(**parameters: Any) -> FineTuner:
        quick = {"learning_rate": 0.01, "epochs": 2, "batch_size": 8, "precision": "float32"}
        return FineTuner(**{"backbone": tiny_name, **quick, **parameters})

    return making


@pytest.fixture(scope="module")
def fitted(tiny_name: str) -> FineTuner:
    """A model of night and day, not to be changed."""
    tuner = FineTuner(
        backbone=tiny_name, learning_rate=0.01, epochs=6, batch_size=8, precision="float32"
    )
    return tuner.fit(pixels(), labels=LABELS)


# -------------------------------------------------------------------------------------- learning


def test_finetuner_separable_classes_are_learnt(fitted: FineTuner) -> None:
    assert fitted.predict(pixels(seed=1)).tolist() == LABELS
    assert fitted.score(pixels(seed=1), LABELS) == 1.0
    assert fitted.classes_.tolist() == ["day", "night"]
    assert fitted.learning_rate_ == 0.01
    assert fitted.selection_ == []
    assert [row["epoch"] for row in fitted.history_] == [1, 2, 3, 4, 5, 6]
    assert fitted.history_[-1]["loss"] < fitted.history_[0]["loss"]
    assert set(fitted.seconds_) == {"decode", "select", "fit"}
    assert fitted.seconds_["select"] == 0.0
    assert fitted.ids_[0] == "image-000000"
    assert fitted.provenance_["architecture"] == "test_resnet"


def test_finetuner_default_network_learns_in_bfloat16() -> None:
    tuner = FineTuner(mode="last-block", learning_rate=0.005, epochs=2, precision="auto")
    tuner.fit(pixels(), labels=[3] * N_EACH + [7] * N_EACH)
    assert tuner.predict(pixels(seed=1)).tolist() == [3] * N_EACH + [7] * N_EACH


def test_finetuner_probabilities_are_those_of_the_network(
    fitted: FineTuner, astronaut: np.ndarray, chelsea: np.ndarray
) -> None:
    preprocessing = load_backbone(fitted.backbone).preprocessing
    seen = np.stack([decode(image, preprocessing.geometry) for image in (astronaut, chelsea)])
    x = (seen / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    with torch.inference_mode():
        logits = fitted.network_(torch.tensor(x).permute(0, 3, 1, 2).float())
    # Another library computes the same in another order; float32 has 7 digits.
    np.testing.assert_allclose(
        fitted.predict_proba([astronaut, chelsea]), logits.softmax(1).numpy(), atol=1e-4
    )


def test_finetuner_learning_rate_is_chosen_and_reported(make: Callable[..., FineTuner]) -> None:
    tuner = make(learning_rate="auto", epochs=1).fit(pixels(), labels=LABELS)
    assert [row["learning_rate"] for row in tuner.selection_] == [5e-4, 2e-3, 8e-3]
    assert tuner.learning_rate_ in (5e-4, 2e-3, 8e-3)
    assert tuner.seconds_["select"] > 0


def test_finetuner_fit_ignores_test_split(
    make: Callable[..., FineTuner], image_tree: Callable[..., Path]
) -> None:
    names = [f"{split}/{c}/{i}.png" for split in ("train", "test") for c in "ab" for i in range(6)]
    folder = image_tree(names)
    tuner = make(learning_rate="auto", epochs=1, patience=1).fit(folder)
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"not an image")
    again = make(learning_rate="auto", epochs=1, patience=1, strict=True).fit(folder)
    assert again.selection_ == tuner.selection_
    assert len(again.ids_) == 12
    assert same_weights(tuner, again)


def test_finetuner_same_seed_repeats_the_fit(
    make: Callable[..., FineTuner],
) -> None:
    images = {"data": pixels(), "labels": LABELS}
    a, b, c = (make(random_state=seed).fit(**images) for seed in (1, 1, 2))
    assert same_weights(a, b)
    assert not same_weights(a, c)


def test_finetuner_second_fit_replaces_first(make: Callable[..., FineTuner]) -> None:
    tuner = make(epochs=1).fit(pixels(), labels=LABELS)
    first = tuner._engine()
    assert tuner._engine()[1] is first[1]
    tuner.set_params(random_state=5).fit(pixels(), labels=LABELS)
    assert tuner._engine()[0].module is tuner.network_ is not first[0].module
    assert tuner._engine()[1] is not first[1]


def test_finetuner_checkpoint_is_written_and_removed(
    make: Callable[..., FineTuner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def saving(path: Path, *args: Any, **more: Any) -> None:
        save_tensors(path, *args, **more)
        written.append(Path(path))

    monkeypatch.setattr("toptune.finetuning.training.fitting.save_tensors", saving)
    make(checkpoint=tmp_path / "fit.checkpoint").fit(pixels(), labels=LABELS)
    assert written == [tmp_path / "fit.checkpoint"] * 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="cannot write"):
        make(checkpoint=tmp_path / "no" / "fit").fit(pixels(), labels=LABELS)


# -------------------------------------------------------------------------------------- bad input


def test_finetuner_one_class_raises(make: Callable[..., FineTuner]) -> None:
    with pytest.raises(DataError, match="at least two classes, found only 'a'"):
        make().fit(pixels(), labels=["a"] * 16)


def test_finetuner_images_given_twice_raise(make: Callable[..., FineTuner]) -> None:
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="'data'"):
        make().fit("folder", images=pixels(), labels=LABELS)
    with pytest.raises(TypeError, match="'data'"):
        make().fit(labels=LABELS)


def test_finetuner_unreadable_training_images_are_quarantined(
    make: Callable[..., FineTuner],
) -> None:
    images = [*pixels(), b"not an image"]
    labels = [*LABELS, "dusk"]
    with pytest.warns(DataWarning) as caught:
        tuner = make(epochs=1).fit(images, labels=labels)
    assert [str(w.message).split(";")[0] for w in caught] == [
        "1 image could not be read and is left out",
        "classes without one readable image are left out: dusk",
    ]
    assert {w.filename for w in caught} == {__file__}
    assert [item.id for item in tuner.quarantined_] == ["image-000016"]
    assert tuner.classes_.tolist() == ["day", "night"]
    assert len(tuner.ids_) == 16
    with pytest.raises(DataError, match="image-000016: not an image"):
        make(strict=True).fit(images, labels=labels)
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        make().fit([b"x", b"y"], labels=["a", "b"])


def test_finetuner_unreadable_images_predicted_are_quarantined(fitted: FineTuner) -> None:
    images = [pixels()[0], b"not an image"]
    with pytest.warns(DataWarning, match="1 image could not be read"):
        found = fitted.classify(images)
    assert (found.ids, found.labels.tolist()) == (("image-000000",), ["night"])
    assert len(found.quarantined) == 1
    with pytest.raises(DataError, match="image-000001: not an image"):
        fitted.predict(images)


def test_finetuner_unknown_classes_are_named(fitted: FineTuner) -> None:
    with pytest.raises(DataError, match=r"does not know: dusk \(it knows day, night\)"):
        fitted.evaluate(pixels()[:2], ["dusk", "day"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "half"),
        ("learning_rate", 0),
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("layer_decay", 0),
        ("layer_decay", 1.1),
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", 1),
        ("patience", 0),
        ("random_state", -1),
        ("random_state", None),
        ("precision", "int8"),
    ],
)
def test_finetuner_wrong_parameters_are_named(
    make: Callable[..., FineTuner], name: str, value: object
) -> None:
    tuner = make(**{name: value})
    with pytest.raises(ValueError, match=f"^{name} must be .*{value!r}"):
        tuner.fit(pixels(), labels=LABELS)


def test_finetuner_diverging_rate_is_named(make: Callable[..., FineTuner]) -> None:
    with pytest.raises(ValueError, match=r"learning_rate=1e\+30 is too high"):
        make(learning_rate=1e30).fit(pixels(), labels=LABELS)


def test_finetuner_unknown_network_raises(make: Callable[..., FineTuner]) -> None:
    with pytest.raises(BackboneError, match="unknown network 'no_net'"):
        make(backbone="no_net").fit(pixels(), labels=LABELS)


# --------------------------------------------------------------------------------- the model file


def test_finetuner_model_file_round_trips(make: Callable[..., FineTuner], tmp_path: Path) -> None:
    labels = [1] * N_EACH + [20] * N_EACH  # numbers stay numbers
    tuner = make(checkpoint=tmp_path / "c", patience=np.int64(2)).fit(pixels(), labels=labels)
    tuner.save(tmp_path / "night.finetuned")
    found = FineTuner.load(tmp_path / "night.finetuned")
    assert np.array_equal(found.predict_proba(pixels(1)), tuner.predict_proba(pixels(1)))
    assert found.predict(pixels(1)).tolist() == tuner.predict(pixels(1)).tolist()
    a, b = (t.evaluate(pixels(1), labels) for t in (found, tuner))
    assert a.to_dict() == b.to_dict()
    assert found.get_params() == {**tuner.get_params(), "checkpoint": None}
    for name in ("ids_", "quarantined_", "provenance_", "history_", "seconds_", "learning_rate_"):
        assert getattr(found, name) == getattr(tuner, name), name
    assert found.classes_.dtype == tuner.classes_.dtype


def test_finetuner_model_file_needs_no_pretrained_weights(
    make: Callable[..., FineTuner], tiny_name: str, tmp_path: Path
) -> None:
    weights = Path(tiny_name.partition("=")[2])
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    tuner = make(backbone=f"test_resnet={moved}", epochs=1).fit(pixels(), labels=LABELS)
    tuner.save(tmp_path / "m")
    moved.unlink()
    found = FineTuner.load(tmp_path / "m")
    assert same_weights(found, tuner)


def test_finetuner_network_with_arguments_round_trips(
    make: Callable[..., FineTuner], tmp_path: Path
) -> None:
    import timm
    from timm.models import save_for_hf

    with torch.random.fork_rng([]):
        network = timm.create_model("test_resnet", act_layer="silu")
    save_for_hf(network, tmp_path / "net", model_args={"act_layer": "silu"})
    tuner = make(backbone=f"local-dir:{tmp_path / 'net'}", epochs=1)
    tuner.fit(pixels(), labels=LABELS)
    tuner.save(tmp_path / "m")
    found = FineTuner.load(tmp_path / "m")
    assert "SiLU" in repr(found.network_)
    assert same_weights(found, tuner)


def test_finetuner_other_file_raises(fitted: FineTuner, tmp_path: Path) -> None:
    path = tmp_path / "m"
    fitted.save(path)
    with pytest.raises(ModelFileError, match="holds toptune fine-tuned model, but a model file"):
        TopTuner.load(path)
    save_tensors(path, {"x": np.zeros(2)}, {}, kind="model", format_version=2)
    with pytest.raises(ModelFileError, match="holds toptune model, but a fine-tuned model file"):
        FineTuner.load(path)
    with pytest.raises(ModelFileError, match="no fine-tuned model file at"):
        FineTuner.load(tmp_path / "none")


@pytest.mark.parametrize("damage", ["tensor", "shape", "architecture", "parameters", "facts"])
def test_finetuner_damaged_file_is_named(fitted: FineTuner, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m"
    fitted.save(path)
    kind = {"kind": "fine-tuned model", "format_version": FINETUNED_VERSION}
    tensors, document = load_tensors(path, **kind, required=())  # type: ignore[arg-type]
    if damage == "tensor":
        del tensors["network.fc.bias"]
    elif damage == "shape":
        tensors["network.fc.bias"] = np.zeros(7, np.float32)
    elif damage == "architecture":
        document["provenance"]["architecture"] = "no_net"
    elif damage == "parameters":
        document["parameters"]["speed"] = 9
    else:
        del document["facts"]["seconds_"]
    for name in kind:
        del document[name]
    save_tensors(path, tensors, document, **kind)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match=rf"{path}.* damaged"):
        FineTuner.load(path)


# ----------------------------------------------------------------------------------- the estimator


def test_finetuner_scikit_learn_contract_holds(
    fitted: FineTuner, make: Callable[..., FineTuner]
) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "classes_")
    tuner = FineTuner(epochs=3, mode="lp-ft")
    assert (tuner.get_params()["epochs"], tuner.mode) == (3, "lp-ft")
    for method in ("predict", "predict_proba", "classify", "evaluate", "score"):
        with pytest.raises(NotFittedError, match="this FineTuner is not fitted yet"):
            getattr(tuner, method)(pixels())
    with pytest.raises(NotFittedError):
        tuner.save("nowhere")
    with pytest.raises(TypeError):
        FineTuner("resnet18")  # type: ignore[misc]


def test_finetuner_used_can_be_pickled(fitted: FineTuner) -> None:
    before = fitted.predict_proba(pixels(1))
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(pixels(1)), before)
