"""TopTuner: images of every kind in, labels out; the model file; parameters."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from toptune import DataError, Features, TopTuner
from toptune.errors import BackboneError, DataWarning, ModelFileError, StorageError
from toptune.images import from_arrays, open_images, stratified_split

N_EACH = 8
#: Relative difference of the log-losses of two fits of the same images: the search for the weights
#: of the layers amplifies rounding, which depends on where arrays lie in memory.
SAME_FIT = 1e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module: converting the network takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


def pixels(seed: int = 0, n: int = N_EACH) -> np.ndarray:
    """n dark, then n bright images of 32 x 32 pixels: uint8, (2n, 32, 32, 3)."""
    noise = np.random.default_rng(seed).integers(0, 90, size=(2 * n, 32, 32, 3), dtype=np.uint8)
    noise[n:] += 150
    return noise


LABELS = ["night"] * N_EACH + ["day"] * N_EACH


def encoded(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_tree(root: Path, images: np.ndarray, labels: list[str]) -> Path:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:02d}.png").write_bytes(encoded(image))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures", pixels(), LABELS)


@pytest.fixture(scope="module")
def fitted(cache: Path) -> TopTuner:
    """A model of night and day; not to be changed."""
    return TopTuner(cache=cache).fit(pixels(), labels=LABELS)


@pytest.fixture(scope="module")
def features(cache: Path, fitted: TopTuner) -> Features:
    """What `fitted` was trained on."""
    return fitted.extract(from_arrays(pixels(), LABELS))


def tells_night_from_day(tuner: TopTuner) -> bool:
    return tuner.predict(pixels(seed=1)).tolist() == LABELS


# ------------------------------------------------------------------------- ways to give images


def test_a_folder_tree(tree: Path, fitted: TopTuner) -> None:
    tuner = TopTuner()
    assert tuner.fit(tree) is tuner
    assert tuner.classes_.tolist() == ["day", "night"]
    assert tuner.ids_[0] == "day/08.png"
    assert tuner.quarantined_ == ()
    assert tells_night_from_day(tuner)
    # A PNG file holds the very pixels of the array. The order of the images is another, and where
    # two penalties are as good as each other, rounding decides between them.
    assert tuner.loo_.log_loss == pytest.approx(fitted.loo_.log_loss, rel=0.02)


def test_a_tree_with_splits(tmp_path: Path) -> None:
    write_tree(tmp_path / "train", pixels(), LABELS)
    write_tree(tmp_path / "test", pixels(seed=1, n=3), ["night"] * 3 + ["day"] * 3)
    tuner = TopTuner().fit(tmp_path)
    assert tuner.loo_.n == 16
    assert tuner.evaluate(tmp_path).n == 6
    assert tuner.score(tmp_path) == 1.0
    assert tuner.evaluate(str(tmp_path), split="train").n == 16
    assert TopTuner().fit(tmp_path, split="test").loo_.n == 6


def test_a_manifest_and_a_label_file(tree: Path, tmp_path: Path) -> None:
    lines = [f"{label}/{i:02d}.png,{label.upper()}" for i, label in enumerate(LABELS)]
    for path in (tree / "list.csv", tmp_path / "labels.csv"):
        path.write_text("\n".join(["image_path,label", *lines]))
    for tuner in (
        TopTuner().fit(tree / "list.csv"),
        TopTuner().fit(tree, labels=tmp_path / "labels.csv"),
        TopTuner().fit(tree, str(tmp_path / "labels.csv")),
    ):
        assert tuner.classes_.tolist() == ["DAY", "NIGHT"]
        assert tuner.loo_.n == 16
    assert tuner.evaluate(tree, labels=tmp_path / "labels.csv").accuracy == 1.0


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda X: X, id="one array"),
        pytest.param(list, id="arrays"),
        pytest.param(lambda X: [Image.fromarray(x) for x in X], id="Pillow"),
        pytest.param(lambda X: [encoded(x) for x in X], id="bytes"),
        pytest.param(lambda X: [*X[:8], *map(encoded, X[8:])], id="mixed"),
        pytest.param(lambda X: X / 255, id="floats"),
    ],
)
def test_images_in_memory(fitted: TopTuner, convert: Callable[[np.ndarray], Any]) -> None:
    tuner = TopTuner().fit(convert(pixels()), labels=LABELS)
    assert tuner.ids_[0] == "image-000000"
    assert tuner.loo_.log_loss == pytest.approx(fitted.loo_.log_loss, rel=SAME_FIT)
    new = convert(pixels(seed=1))
    assert tuner.predict(new).tolist() == LABELS
    assert tuner.score(new, LABELS) == 1.0


def test_paths_with_labels(tree: Path, fitted: TopTuner) -> None:
    paths = [tree / label / f"{i:02d}.png" for i, label in enumerate(LABELS)]
    for tuner in (
        TopTuner().fit(paths, labels=LABELS),
        TopTuner().fit([str(path) for path in paths], np.array(LABELS, dtype=object)),
    ):
        assert tuner.ids_[0] == paths[0].as_posix()
        assert tuner.loo_.log_loss == pytest.approx(fitted.loo_.log_loss, rel=SAME_FIT)


def test_an_image_set(tree: Path) -> None:
    tuner = TopTuner().fit(open_images(tree))
    assert tuner.evaluate(open_images(tree)).accuracy == 1.0
    assert tuner.predict(open_images(tree, labelled=False)).shape == (16,)


def test_ways_that_are_none(tree: Path) -> None:
    tuner = TopTuner()
    with pytest.raises(TypeError, match="'data'"):
        tuner.fit(labels=LABELS)
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="'data'"):
        tuner.fit(tree, images=pixels(), labels=LABELS)
    with pytest.raises(DataError, match="needs a list with one label per image"):
        tuner.fit(pixels())
    with pytest.raises(DataError, match="16 images but 15 labels"):
        tuner.fit(pixels(), labels=LABELS[1:])
    with pytest.raises(DataError, match="labels for a folder must be a manifest file"):
        tuner.fit(tree, LABELS)
    with pytest.raises(DataError, match="no images were given"):
        tuner.fit([], labels=[])
    with pytest.raises(DataError, match="images must be a list, got one Image"):
        tuner.fit(Image.new("RGB", (8, 8)), labels=["a"])
    with pytest.raises(DataError, match=r"labels\[3\] is missing \(None\)"):
        tuner.fit(pixels(), labels=[*LABELS[:3], None, *LABELS[4:]])


# --------------------------------------------------------------------------------------- labels


def test_integer_labels_stay_integers_in_numeric_order() -> None:
    """As text, 10 would come before 9."""
    y = np.repeat([10, 9], N_EACH)
    tuner = TopTuner().fit(pixels(), labels=y)
    assert tuner.classes_.dtype == y.dtype
    assert tuner.classes_.tolist() == [9, 10]
    answers = tuner.predict(pixels(seed=1))
    assert answers.dtype == y.dtype
    np.testing.assert_array_equal(answers, y)
    assert tuner.score(pixels(seed=1), y) == 1.0
    assert tuner.loo_.per_class.keys() == {9, 10}


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([True, False], "bool"), ([-1, 300], "int16"), ([1.0, 0.0], "float64"), (["10", "9"], "U2")],
)
def test_labels_keep_their_type(labels: list[Any], dtype: str, tmp_path: Path) -> None:
    y = np.repeat(np.array(labels, dtype=dtype), N_EACH)
    tuner = TopTuner().fit(pixels(), labels=y)
    assert tuner.classes_.tolist() == sorted(labels)
    assert tuner.classes_.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(tuner.predict(pixels(seed=1)), y)
    tuner.save(tmp_path / "m.toptune")
    loaded = TopTuner.load(tmp_path / "m.toptune")
    assert loaded.classes_.dtype == tuner.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(pixels(seed=1)), y)


def test_one_class_is_not_enough() -> None:
    with pytest.raises(DataError, match="at least two classes, found only 'night'"):
        TopTuner().fit(pixels()[:4], labels=LABELS[:4])


def test_a_class_with_one_image_is_warned_of() -> None:
    with pytest.warns(DataWarning, match="classes with a single image: day; leave-one-out"):
        tuner = TopTuner().fit(pixels()[:9], labels=LABELS[:9])
    assert tuner.classes_.tolist() == ["day", "night"]
    assert tuner.loo_.per_class["day"].support == 1
    assert np.isfinite(tuner.predict_proba(pixels(seed=1))).all()


def test_two_images_are_enough_to_go_on() -> None:
    with pytest.warns(DataWarning, match="classes with a single image: day, night"):
        tuner = TopTuner().fit(pixels()[[0, -1]], labels=["night", "day"])
    P = tuner.predict_proba(pixels(seed=1))
    assert np.isfinite(P).all()
    np.testing.assert_allclose(P.sum(axis=1), 1)


# -------------------------------------------------------------------------------------- answers


def test_leave_one_out_is_reported(fitted: TopTuner) -> None:
    loo = fitted.loo_
    assert loo.accuracy == 1.0
    assert 0 < loo.log_loss < np.log(2)
    assert loo.n == 16
    assert loo.confusion_matrix.tolist() == [[8, 0], [0, 8]]
    assert loo.per_class["day"].recall == 1.0
    assert loo.log_loss == pytest.approx(fitted.head_.loo_log_loss_, rel=1e-6)
    assert fitted.seconds_.keys() == {"decode_extract", "select", "fit"}
    assert fitted.provenance_["versions"].keys() > {"toptune", "torch", "timm"}


def test_probabilities(fitted: TopTuner) -> None:
    P = fitted.predict_proba(pixels(seed=1))
    assert P.shape == (16, 2)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.predict(pixels(seed=1)), fitted.classes_[P.argmax(axis=1)])
    reverse = fitted.predict_proba(pixels(seed=1)[::-1])
    np.testing.assert_array_equal(reverse, P[::-1])


def test_evaluate_counts(fitted: TopTuner) -> None:
    wrong = ["day", *LABELS[1:]]
    found = fitted.evaluate(pixels(seed=1), wrong)
    assert found.accuracy == fitted.score(pixels(seed=1), wrong) == 15 / 16
    assert found.confusion_matrix.tolist() == [[8, 1], [0, 7]]
    with pytest.raises(DataError, match=r"does not know: dusk \(it knows day, night\)"):
        fitted.evaluate(pixels(seed=1), ["dusk", *LABELS[1:]])
    with pytest.raises(DataError, match="no labels to compare with"):
        fitted.evaluate(from_arrays(pixels()))


def test_predict_refuses_what_classify_sets_aside(fitted: TopTuner, tree: Path) -> None:
    (tree / "day" / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"^day/text\.png: not an image"):
        fitted.predict(tree)
    with pytest.raises(DataError, match=r"^image-000001: empty"):
        fitted.predict_proba([pixels()[0], b""])
    with pytest.warns(DataWarning, match="1 image could not be read"):
        found = fitted.classify(tree)
    assert len(found.ids) == len(found.labels) == len(found.probabilities) == 16
    assert [item.id for item in found.quarantined] == ["day/text.png"]
    assert found.labels.tolist() == [name.split("/")[0] for name in found.ids]
    with pytest.raises(DataError, match=r"^day/text\.png: not an image"):
        fitted.classify(tree, strict=True)


def test_top(fitted: TopTuner) -> None:
    found = fitted.classify(pixels(seed=1)[:1])
    (both,), (best,) = found.top(2), found.top(1)
    assert [row["label"] for row in both] == ["night", "day"]
    assert sum(row["probability"] for row in both) == pytest.approx(1)
    assert best == both[:1]


def test_strict_is_about_fitting_and_scoring(tree: Path) -> None:
    (tree / "day" / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"^day/text\.png: not an image"):
        TopTuner(strict=True).fit(tree)
    with pytest.warns(DataWarning, match="1 image could not be read"):
        tuner = TopTuner().fit(tree)
    assert [item.id for item in tuner.quarantined_] == ["day/text.png"]
    with pytest.raises(DataError, match=r"^day/text\.png: not an image"):
        tuner.set_params(strict=True).score(tree)


@pytest.mark.parametrize(
    "use",
    [
        lambda tuner: tuner.predict([pixels()[0]]),
        lambda tuner: tuner.predict_proba([pixels()[0]]),
        lambda tuner: tuner.classify([pixels()[0]]),
        lambda tuner: tuner.score(pixels(), LABELS),
        lambda tuner: tuner.save("m.toptune"),
    ],
)
def test_a_tuner_that_is_not_fitted(use: Callable[[TopTuner], object]) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet: call fit or load first"):
        use(TopTuner())


# ------------------------------------------------------------------------------------- features


def replaced(features: Features, **changes: Any) -> Features:
    return Features(**{**vars(features), **changes})


def test_features_extracted_before(fitted: TopTuner, features: Features) -> None:
    tuner = TopTuner().fit_features(features)
    assert tuner.loo_.log_loss == pytest.approx(fitted.loo_.log_loss, rel=SAME_FIT)
    assert tuner.evaluate_features(features).accuracy == 1.0
    assert tells_night_from_day(tuner)


def test_features_left_in_their_file_train_the_same_model(
    features: Features, tmp_path: Path
) -> None:
    features.save(tmp_path / "f.safetensors")
    there = Features.load(tmp_path / "f.safetensors", mapped=True)
    here, from_file = TopTuner().fit_features(features), TopTuner().fit_features(there)
    np.testing.assert_array_equal(from_file.head_.dual_coef_, here.head_.dual_coef_)
    assert from_file.evaluate_features(there).log_loss == here.evaluate_features(features).log_loss
    features.save(tmp_path / "half.safetensors", half=True)
    half = Features.load(tmp_path / "half.safetensors", mapped=True)
    assert TopTuner().fit_features(half).evaluate_features(half).accuracy == 1.0


def test_features_that_cannot_be_used(features: Features) -> None:
    with pytest.raises(DataError, match="these features have no labels"):
        TopTuner().fit_features(replaced(features, labels=None))
    other = {**features.provenance, "weights_sha256": "0" * 64, "backbone": "another"}
    with pytest.raises(ModelFileError, match=r"from the network 'another'.*SHA-256 000000000000"):
        TopTuner().fit_features(replaced(features, provenance=other))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(fitted: TopTuner, features: Features, value: float) -> None:
    X = features.X.copy()
    X[3, 7] = value
    message = r"features of 1 of 16 images hold NaN or infinity, the first is image-000003"
    with pytest.raises(DataError, match=message):
        TopTuner().fit_features(replaced(features, X=X))
    with pytest.raises(DataError, match=message):
        fitted.evaluate_features(replaced(features, X=X))


# --------------------------------------------------------------------------------- the model file


@pytest.fixture
def saved(fitted: TopTuner, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "m.toptune")
    return tmp_path / "m.toptune"


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Apply `change(tensors, document)` to a model file."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = json.loads(file.metadata()["toptune"])
    change(tensors, document)
    save_file(tensors, path, metadata={"toptune": json.dumps(document)})


def test_a_model_survives_its_file(fitted: TopTuner, saved: Path) -> None:
    loaded = TopTuner.load(saved)
    np.testing.assert_array_equal(
        loaded.predict_proba(pixels(seed=1)), fitted.predict_proba(pixels(seed=1))
    )
    assert loaded.loo_.to_dict() == fitted.loo_.to_dict()
    assert loaded.classes_.dtype == fitted.classes_.dtype
    for name in ("ids_", "quarantined_", "seconds_", "provenance_"):
        assert getattr(loaded, name) == getattr(fitted, name), name
    assert loaded.get_params() == {**fitted.get_params(), "cache": "auto"}


def test_a_loaded_model_can_be_saved_and_fitted_again(saved: Path, tmp_path: Path) -> None:
    loaded = TopTuner.load(saved)
    loaded.save(tmp_path / "again.toptune")
    again = TopTuner.load(tmp_path / "again.toptune")
    assert again.loo_.to_dict() == loaded.loo_.to_dict()
    assert tells_night_from_day(again.fit(pixels(seed=2), labels=LABELS))


def test_the_file_is_safetensors_and_json(saved: Path) -> None:
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header.pop("__metadata__")["toptune"])
    assert (document["kind"], document["format_version"]) == ("model", 3)
    assert document["classes"] == ["day", "night"]
    assert {entry["dtype"] for entry in header.values()} <= {"F16", "F32", "F64", "I64", "U8"}
    assert header["center_features"]["dtype"] == "F16"  # of several layers, as they were extracted
    assert header["center_features"]["shape"] == [16, 15304]
    # The first byte, of the header's length, may by chance be one that begins a pickle.
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        pickle.loads(content)


def test_what_was_set_aside_is_in_the_file(tree: Path, tmp_path: Path) -> None:
    (tree / "day" / "été.png").write_text("no image")
    with pytest.warns(DataWarning):
        tuner = TopTuner().fit(tree)
    tuner.save(tmp_path / "m.toptune")
    assert TopTuner.load(tmp_path / "m.toptune").quarantined_ == tuner.quarantined_
    assert tuner.quarantined_[0].id == "day/été.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, d: d.update(format_version=99), "has format version 99; this toptune reads"),
        (lambda t, d: d.update(kind="features"), "holds toptune features, but a model"),
        (lambda t, d: t.pop("dual_coef"), "lacks the tensors dual_coef"),
        (lambda t, d: t.pop("codes"), "lacks the tensors codes"),
        (lambda t, d: d.pop("classes"), "its description is damaged: KeyError"),
        (lambda t, d: d["head"].pop("bandwidth"), "its description is damaged: KeyError"),
        (lambda t, d: d["parameters"].update(colour=1), "its description is damaged: TypeError"),
        (lambda t, d: d["classes"].append("dusk"), "its description is damaged: ValueError"),
        (
            lambda t, d: d["provenance"].update(weights_sha256="f" * 64),
            r"came from the network 'efficientnet_lite0', which does not match "
            r"'efficientnet_lite0' on this machine: weights with SHA-256 ffffffffffff\.\.\., here ",
        ),
        (
            lambda t, d: d["provenance"]["preprocessing"].update(mean=[0, 0, 0]),
            "other layers, another view or another resolution: preprocessing ",
        ),
    ],
)
def test_files_that_do_not_fit(
    saved: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], message: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        TopTuner.load(saved)
    assert str(saved) in str(caught.value)


def test_damaged_files(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for damaged in (b"", b"\x80\x04 pickled", content[: len(content) // 2], content[:4]):
        saved.write_bytes(damaged)
        with pytest.raises(ModelFileError, match="is damaged or no model file"):
            TopTuner.load(saved)
    for absent in (tmp_path / "no.toptune", tmp_path):
        with pytest.raises(ModelFileError, match="no model file at"):
            TopTuner.load(absent)


def test_a_model_that_cannot_be_written(fitted: TopTuner, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*no/m\.toptune: No such file"):
        fitted.save(tmp_path / "no" / "m.toptune")


# ------------------------------------------------------------------------ networks and parameters


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network with random weights, as ARCH=FILE."""
    import timm
    import torch
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet").state_dict(), path)
    return f"test_resnet={path}"


def test_a_network_from_a_file(tiny: str, tmp_path: Path) -> None:
    tuner = TopTuner(backbone=tiny).fit(pixels(), labels=LABELS)
    assert tells_night_from_day(tuner)
    assert tuner.provenance_["architecture"] == "test_resnet"
    tuner.save(tmp_path / "m.toptune")

    # The weights lie elsewhere on the machine that the model goes to.
    file = Path(tiny.partition("=")[2])
    elsewhere = shutil.copy(file, tmp_path / "same.safetensors")
    moved = TopTuner.load(tmp_path / "m.toptune", backbone=f"test_resnet={elsewhere}")
    np.testing.assert_allclose(moved.predict_proba(pixels(1)), tuner.predict_proba(pixels(1)))
    with pytest.raises(ModelFileError, match="does not match 'efficientnet_lite0'"):
        TopTuner.load(tmp_path / "m.toptune", backbone="efficientnet_lite0")
    with pytest.raises(BackboneError, match="no weights file at"):
        TopTuner.load(tmp_path / "m.toptune", backbone="test_resnet=no.safetensors")


def test_another_network_after_set_params(tiny: str, fitted: TopTuner, features: Features) -> None:
    tuner = TopTuner().fit(pixels(), labels=LABELS)
    tuner.set_params(backbone=tiny).fit(pixels(), labels=LABELS)
    assert tuner.provenance_["architecture"] == "test_resnet"
    assert tuner.head_.n_features_in_ != fitted.head_.n_features_in_
    assert tells_night_from_day(tuner)
    with pytest.raises(ModelFileError, match=r"these features came from .*does not match"):
        tuner.fit_features(features)


def test_parameters_like_scikit_learns(fitted: TopTuner) -> None:
    tuner = TopTuner(kernel="laplacian", penalty=0.01, random_state=3)
    copy = clone(tuner)
    assert copy is not tuner
    assert copy.get_params() == tuner.get_params()
    assert tuner.set_params(bandwidth=0.5).get_params()["bandwidth"] == 0.5
    assert "kernel='laplacian'" in repr(tuner)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(pixels())
    with pytest.raises(ValueError, match="colour"):
        tuner.set_params(colour="red")


def test_parameters_reach_the_head() -> None:
    tuner = TopTuner(kernel="matern32", bandwidth=0.8, penalty=0.01, n_centers=10)
    tuner.fit(pixels(), labels=LABELS)
    head = tuner.head_
    assert (head.kernel, head.bandwidth_, head.penalty_) == ("matern32", 0.8, 0.01)
    assert head.n_centers_ == 10
    assert tells_night_from_day(tuner)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": -1.0}, "penalty"),
        ({"bandwidth": "wide"}, "bandwidth"),
        ({"kernel": "cubic"}, "cubic"),
        ({"n_centers": 0}, "n_centers"),
        ({"precision": "float16"}, "float16"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopTuner(**parameters).fit(pixels(), labels=LABELS)


def test_class_weights(features: Features, fitted: TopTuner) -> None:
    """The heavier class gains everywhere."""
    middle = fitted.extract(from_arrays(pixels(seed=1)[:N_EACH] + 75)).X

    def scores(weights: Any) -> np.ndarray:
        tuner = TopTuner(class_weight=weights, bandwidth=1.0, penalty=0.1).fit_features(features)
        return tuner.head_.decision_function(tuner.normalizer_.transform(middle))  # of "night"

    assert (scores({"night": 20.0, "day": 1.0}) > scores(None)).all()
    assert (scores({"night": 1.0, "day": 20.0}) < scores(None)).all()
    np.testing.assert_allclose(scores("balanced"), scores(None))  # they are balanced already


def test_parameters_survive_the_file(tmp_path: Path) -> None:
    """Also weights of classes that are numbers, and numbers that are NumPy's."""
    y = np.repeat([1, 2], N_EACH)
    weights = {np.int64(1): np.float32(3.0), 2: 1.0}
    tuner = TopTuner(class_weight=weights, random_state=np.int64(3)).fit(pixels(), labels=y)
    tuner.save(tmp_path / "m.toptune")
    loaded = TopTuner.load(tmp_path / "m.toptune")
    assert loaded.get_params() == tuner.get_params()
    loaded.fit(pixels(), labels=y)
    assert loaded.loo_.log_loss == tuner.loo_.log_loss


def test_pickling_leaves_the_network_behind(fitted: TopTuner) -> None:
    fitted.predict(pixels()[:1])
    content = pickle.dumps(fitted)
    # The network alone has 14 MB; 16 centers of 15,304 features have 1 MB, and half of it again as
    # they were extracted.
    assert len(content) < 2_000_000
    copy = pickle.loads(content)
    np.testing.assert_array_equal(
        copy.predict_proba(pixels(seed=1)), fitted.predict_proba(pixels(seed=1))
    )


def test_the_seed_decides(features: Features) -> None:
    def scores(seed: int) -> np.ndarray:
        tuner = TopTuner(n_centers=4, random_state=seed).fit_features(features)
        return tuner.head_.loo_decision_function_

    np.testing.assert_array_equal(scores(0), scores(0))
    assert not np.array_equal(scores(0), scores(1))


def test_without_a_cache_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: str
) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "cache"))
    tuner = TopTuner(cache=None, backbone=tiny).fit(pixels(), labels=LABELS)
    assert tells_night_from_day(tuner)
    assert list(tmp_path.iterdir()) == []
    TopTuner(cache=tmp_path / "own", backbone=tiny).fit(pixels(), labels=LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


# ----------------------------------------------------------------------------------- real images


def test_solar_cells() -> None:
    """Leave-one-out on 120 real pictures foretells the accuracy on 80 others."""
    from toptune.images.demo import solar_cells

    cells = solar_cells()
    assert cells.labels is not None
    rng = np.random.default_rng(0)
    chosen = np.concatenate(
        [
            rng.choice(np.flatnonzero(cells.labels == grade), n, replace=False)
            for grade, n in (("0.00", 120), ("1.00", 80))
        ]
    )
    cells = cells.subset(chosen)
    train, test = stratified_split(cells.labels, test_size=0.4, random_state=0)
    tuner = TopTuner().fit(cells.subset(train))
    found = tuner.evaluate(cells.subset(test))
    assert (tuner.loo_.n, found.n) == (120, 80)
    # The larger class is 0.6 of the pictures. With p = 0.8, the difference of two shares of 120
    # and 80 answers has a standard deviation of 0.06.
    assert tuner.loo_.accuracy > 0.7
    assert found.accuracy > 0.7
    assert abs(tuner.loo_.accuracy - found.accuracy) < 0.12
    assert found.log_loss < np.log(2)
