"""Model files: what is written comes back, and files that do not fit are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toptune.errors import ModelFileError, StorageError
from toptune.images import Quarantined
from toptune.kernel import FeatureNormalizer, KernelClassifier
from toptune.model.file import FORMAT_VERSION, read_model, write_model
from toptune.model.fitted_model import FittedModel
from toptune.runtime.tensor_file import load_tensors, save_tensors

N, D = 30, 8
X = X_SINGLE = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
X_HALF = X.astype(np.float16)


def fitted(
    labels: np.ndarray | None = None,
    *,
    class_weight: Any = None,
    kernel: Any = "gaussian",
    n_centers: Any = "auto",
    power: float = 0.5,
    groups: list[int] | None = None,
    half: bool = False,
) -> FittedModel:
    """A model of N samples whose labels go round the classes."""
    # Half precision holds the features of several layers; these are such from the beginning.
    X = X_HALF.astype(np.float32) if half else X_SINGLE
    classes = np.array(["ant", "bee", "cat"]) if labels is None else labels
    y = np.resize(classes, N)
    normalizer = FeatureNormalizer(power=power, groups=groups).fit(X)
    head = KernelClassifier(
        kernel=kernel,
        class_weight=class_weight,
        n_centers=n_centers,
        feature_groups=groups,
        random_state=0,
    )
    head.fit(normalizer.transform(X), y)
    features = X[head.center_indices_]
    return FittedModel(
        parameters={"backbone": "tiny", "class_weight": class_weight, "seed": np.int64(3)},
        head=head,
        normalizer=normalizer,
        center_features=features.astype(np.float16) if half else features,
        codes=np.searchsorted(head.classes_, y),
        ids=tuple(f"folder/{k}é.png" for k in range(N)),
        provenance={"backbone": "tiny", "versions": {"torch": "2"}},
        quarantined=(Quarantined("folder/bad.png", "cut short"),),
        seconds={"fit": 0.25},
        task_name="classification",
        groups=None,
        classes=head.classes_,
    )


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return fitted()


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ant", "bée", "cat"]),
        np.array([3, 10, 200]),
        np.array([1, 2], dtype=np.uint8),
        np.array([False, True]),
    ],
    ids=["text", "integers", "bytes", "truth values"],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": "laplacian", "n_centers": 12, "power": 1.0},
        {"class_weight": "balanced"},
        {"groups": [3, 5], "half": True},
    ],
    ids=["exact", "nystrom", "balanced", "layers"],
)
def test_a_model_comes_back(labels: np.ndarray, options: dict[str, Any], tmp_path: Path) -> None:
    model = fitted(labels, **options)
    write_model(tmp_path / "m", model)
    found = read_model(tmp_path / "m")
    assert found.head.n_centers_ == options.get("n_centers", N)  # the path that was meant
    assert found.head.classes_.dtype == labels.dtype
    assert found.head.classes_.tolist() == labels.tolist()
    assert found.normalizer.groups == options.get("groups")
    assert found.center_features.dtype == model.center_features.dtype
    assert np.array_equal(found.center_features, model.center_features)
    assert np.array_equal(found.head.centers_, model.head.centers_)
    assert np.array_equal(found.head.center_indices_, model.head.center_indices_)
    rows = found.normalizer.transform(X[:7] + 0.1)
    assert np.array_equal(rows, model.normalizer.transform(X[:7] + 0.1))
    # The same numbers in the same layout: the same bits.
    assert np.array_equal(found.head.predict_proba(rows), model.head.predict_proba(rows))
    assert np.array_equal(found.head.loo_decision_function_, model.head.loo_decision_function_)
    for name in ("kernel", "bandwidth_", "penalty_", "temperature_", "loo_accuracy_"):
        assert getattr(found.head, name) == getattr(model.head, name)
    assert np.array_equal(found.codes, model.codes)
    for name in ("parameters", "ids", "provenance", "quarantined", "seconds"):
        assert getattr(found, name) == getattr(model, name)


@pytest.mark.parametrize(
    ("labels", "weights"),
    [(np.array([1, 2]), {1: 0.5, 2: 4.0}), (np.array(["a", "b"]), {"a": 1, "b": np.float32(0.5)})],
    ids=["integers", "text"],
)
def test_weights_of_classes_keep_the_type_of_their_labels(
    labels: np.ndarray, weights: dict[Any, float], tmp_path: Path
) -> None:
    write_model(tmp_path / "m", fitted(labels, class_weight=weights))
    found = read_model(tmp_path / "m")
    assert found.parameters["class_weight"] == weights
    assert found.head.class_weight == weights
    refit = found.head.fit(X, np.resize(labels, N))  # JSON would have turned 1 into "1"
    assert refit.classes_.tolist() == labels.tolist()


def test_a_file_that_cannot_be_written_is_named(model: FittedModel, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere"):
        write_model(tmp_path / "nowhere" / "m", model)


# --------------------------------------------------------------------------- files that do not fit


def rewritten(
    path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], model: FittedModel
) -> Path:
    """Write the model with its tensors and its document changed."""
    write_model(path, model)
    tensors, document = load_tensors(path, kind="model", format_version=FORMAT_VERSION, required=())
    del document["kind"], document["format_version"]
    change(tensors, document)
    save_tensors(path, tensors, document, kind="model", format_version=FORMAT_VERSION)
    return path


@pytest.mark.parametrize(
    "name",
    ["center_features", "center_indices", "dual_coef", "offset", "loo_scores", "codes"],
)
def test_a_tensor_that_is_missing_is_named(name: str, model: FittedModel, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "m", lambda tensors, _: tensors.pop(name), model)
    with pytest.raises(ModelFileError, match=f"lacks the tensors {name}$"):
        read_model(path)


@pytest.mark.parametrize("name", ["center_features", "dual_coef", "offset", "loo_scores"])
@pytest.mark.parametrize(
    "cut",
    [lambda A: A[..., :-1], lambda A: A[0], lambda A: A[None]],
    ids=["short", "one dimension less", "one dimension more"],
)
def test_tensors_that_do_not_fit_each_other(
    name: str, cut: Callable[[np.ndarray], np.ndarray], model: FittedModel, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Any], document: dict[str, Any]) -> None:
        tensors[name] = cut(tensors[name])

    path = rewritten(tmp_path / "m", change, model)
    with pytest.raises(ModelFileError, match="its description is damaged"):
        read_model(path)


@pytest.mark.parametrize(
    "name",
    [
        *("parameters", "classes", "classes_dtype", "normalizer", "head"),
        *("provenance", "quarantined", "seconds"),
    ],
)
def test_a_description_that_lacks_something_is_damaged(
    name: str, model: FittedModel, tmp_path: Path
) -> None:
    path = rewritten(tmp_path / "m", lambda _, document: document.pop(name), model)
    with pytest.raises(ModelFileError, match=f"its description is damaged: KeyError.*'{name}'"):
        read_model(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters", None),
        ("parameters", {}),
        ("classes", ["ant", "bee"]),
        ("classes_dtype", "no such type"),
        ("normalizer", {"power": -1.0}),
        ("normalizer", {"strength": 1.0}),
        ("normalizer", {"groups": [D, 1]}),
        ("normalizer", {"groups": [D, 0]}),
        ("normalizer", {"groups": "all"}),
        ("head", {"kernel": "rbf"}),
        ("head", {"kernel": "gaussian"}),
        ("head", []),
        ("quarantined", [{"shape": "round"}]),
    ],
)
def test_a_description_that_makes_no_sense_is_damaged(
    name: str, value: Any, model: FittedModel, tmp_path: Path
) -> None:
    path = rewritten(tmp_path / "m", lambda _, document: document.update({name: value}), model)
    with pytest.raises(ModelFileError, match="its description is damaged"):
        read_model(path)


def test_names_and_classes_of_other_images_are_damage(model: FittedModel, tmp_path: Path) -> None:
    path = rewritten(
        tmp_path / "m", lambda tensors, _: tensors.update(codes=tensors["codes"][1:]), model
    )
    with pytest.raises(ModelFileError, match="groups, codes and loo_scores have different lengths"):
        read_model(path)


@pytest.fixture(scope="module")
def with_rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Any, Any]]:
    """Tensors and document of a Nystrom model that holds all that there can be."""
    path = tmp_path_factory.mktemp("rows") / "m"
    write_model(path, fitted(n_centers=12), keep="rows")

    def read() -> tuple[Any, Any]:
        found = load_tensors(path, kind="model", format_version=FORMAT_VERSION, required=())
        del found[1]["kind"], found[1]["format_version"]
        return found

    return read


def assert_damaged(path: Path, tensors: Any, document: Any, match: str) -> None:
    save_tensors(path, tensors, document, kind="model", format_version=FORMAT_VERSION)
    with pytest.raises(ModelFileError, match=f"its description is damaged: .*{match}"):
        read_model(path)


@pytest.mark.parametrize(
    "name",
    [
        *("center_features", "dual_coef", "offset", "scale", "loo_scores"),
        *("whiten", "grams", "class_sums", "rows"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_numbers_that_are_none_are_damage(
    name: str, value: float, with_rows: Any, tmp_path: Path
) -> None:
    """Found in use: they loaded, and predict printed probabilities of NaN."""
    tensors, document = with_rows()
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    assert_damaged(tmp_path / "m", tensors, document, f"{name} holds NaN or infinity")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("codes", 3), ("codes", 7), ("codes", -1)),
        *(("center_indices", N), ("center_indices", 99), ("center_indices", -3)),
    ],
)
def test_positions_out_of_range_are_damage(
    name: str, value: int, with_rows: Any, tmp_path: Path
) -> None:
    """Found in use: they loaded, and an IndexError came later."""
    tensors, document = with_rows()
    tensors[name] = tensors[name].copy()
    tensors[name][0] = value
    assert_damaged(tmp_path / "m", tensors, document, f"{name} must be integers from")


@pytest.mark.parametrize("value", [-1, -2])
def test_centers_may_be_no_training_images(value: int, with_rows: Any, tmp_path: Path) -> None:
    tensors, document = with_rows()
    tensors["center_indices"] = np.full_like(tensors["center_indices"], value)
    save_tensors(tmp_path / "m", tensors, document, kind="model", format_version=FORMAT_VERSION)
    assert read_model(tmp_path / "m").head.center_indices_.tolist() == [value] * 12


def test_codes_that_are_no_integers_are_damage(with_rows: Any, tmp_path: Path) -> None:
    tensors, document = with_rows()
    tensors["codes"] = tensors["codes"].astype(np.float64)
    assert_damaged(tmp_path / "m", tensors, document, "codes must be integers")


@pytest.mark.parametrize(
    ("task", "shape"),
    [("multilabel", (N,)), ("classification", (N, 3)), ("multilabel", (N, 2))],
)
def test_codes_of_another_task_are_damage(
    task: str, shape: tuple[int, ...], with_rows: Any, tmp_path: Path
) -> None:
    """Found in use: loading raised a bare TypeError."""
    tensors, document = with_rows()
    tensors["codes"] = np.zeros(shape, dtype=np.int64)
    document["task"] = task
    assert_damaged(tmp_path / "m", tensors, document, f"codes of {task} .* cannot have shape")


@pytest.mark.parametrize(
    ("gone", "match"),
    [
        (["grams"], "whiten, class_sums, rows but no grams"),
        (["grams", "rows", "whiten"], "class_sums but no grams"),
        (["grams", "rows", "whiten", "class_sums"], "no grams, and the centers are not all"),
        (["whiten"], "whiten"),
        (["class_sums"], "class_sums"),
    ],
)
def test_sums_in_part_are_damage(
    gone: list[str], match: str, with_rows: Any, tmp_path: Path
) -> None:
    """Found in use: without grams a model loaded as if its centers were all images."""
    tensors, document = with_rows()
    for name in gone:
        del tensors[name]
    assert_damaged(tmp_path / "m", tensors, document, match)


@pytest.mark.parametrize("keep", ["nothing", "sums", "rows"])
@pytest.mark.parametrize("n_centers", ["auto", 12])
def test_what_was_written_is_never_damage(keep: Any, n_centers: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "m", fitted(n_centers=n_centers), keep=keep)
    assert read_model(tmp_path / "m").ids == tuple(f"folder/{k}é.png" for k in range(N))


def test_features_are_no_model(tmp_path: Path) -> None:
    save_tensors(tmp_path / "f", {"features": X}, {}, kind="features", format_version=1)
    with pytest.raises(ModelFileError, match="holds toptune features, but a model file is needed"):
        read_model(tmp_path / "f")
