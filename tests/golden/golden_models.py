"""The models and heads that are pinned: how each is made, and what is recorded of it.

A recipe makes a model from stored feature files and from stored models, so that nothing of it
depends on how a processor computes a network. A case is a kernel head on arrays alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from golden_material import FILES, NETWORK
from numpy.typing import NDArray

from toptune import Features, FineTuner, KernelClassifier, TopTuner
from toptune.kernel import KERNELS, FeatureNormalizer, KernelRegressor

Arrays = dict[str, NDArray[Any]]

#: Arguments of `toptune features` that made each feature file.
FEATURE_FILES: dict[str, tuple[str, ...]] = {
    "train": ("digits", "--split", "train", "--layers", "last"),
    "test": ("digits", "--split", "test", "--layers", "last"),
    "more": ("more", "--layers", "last"),
    "groups": ("groups.csv", "--layers", "last"),
    "sets": ("sets.csv", "--layers", "last"),
    "numbers": ("numbers.csv", "--layers", "last"),
    "half": ("digits", "--split", "train", "--layers", "last", "--half"),
    "layers": ("digits", "--split", "test", "--layers", "blocks.3,last"),
}


def stored_features(name: str) -> Features:
    """Read a stored feature file."""
    return Features.load(FILES / f"{name}.safetensors")


def stored_model(name: str) -> TopTuner:
    """Read a stored model; the network must be in the current folder."""
    return TopTuner.load(FILES / f"{name}.toptune")


def feature_rows(features: Features) -> NDArray[np.float32]:
    """Features as a head takes them: normalised, float32."""
    widths = [width for _, width in features.provenance["layers"]]
    normalizer = FeatureNormalizer(groups=widths).fit(features.X[:1])
    rows: NDArray[np.float32] = normalizer.transform(np.asarray(features.X, dtype=np.float32))
    return rows


# --------------------------------------------------------------------------------------- models


@dataclass(frozen=True)
class Recipe:
    """How a model is made, and how much its file keeps."""

    make: Callable[[], TopTuner]
    keep: Any = "auto"
    #: Feature file whose rows the model is asked about.
    probe: str = "test"


def _fit(features: str, *, rows: slice | None = None, centers: str = "", **given: Any) -> TopTuner:
    found = stored_features(features)
    if rows is not None:
        found = found.subset(np.arange(len(found))[rows])
    parameters = {"layers": "last", "precision": "float32"} | given
    model = stored_model(centers) if centers else None
    return TopTuner(backbone=NETWORK, **parameters).fit_features(found, centers=model)


def _nystrom(features: str, **given: Any) -> TopTuner:
    return _fit(features, n_centers=15, **({"kernel": "gaussian"} | given))


def _fit_whole_numbers() -> TopTuner:
    """Fit to labels of a type that feature files do not have: the integers 3 and 10."""
    pixels = np.random.default_rng(1).integers(0, 90, size=(12, 32, 32, 3), dtype=np.uint8)
    pixels[::2] += 140
    tuner = TopTuner(backbone=NETWORK, layers="last", precision="float32", cache=None)
    return tuner.fit(list(pixels), labels=np.arange(12) % 2 * 7 + 3)


def _add(model: str, **given: Any) -> TopTuner:
    return stored_model(model).partial_fit_features(stored_features("more"), **given)


def _forget(model: str, **given: Any) -> TopTuner:
    """Forget a center and an image that is none, where not all images are centers."""
    tuner = stored_model(model)
    centers = set(tuner.head_.center_indices_.tolist())
    last = max(centers)
    other = next((k for k in range(len(tuner.ids_)) if k not in centers), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that features of centers stay is said elsewhere
        return tuner.forget([tuner.ids_[last], tuner.ids_[other]], **given)


def _merge(first: str, second: str, **given: Any) -> TopTuner:
    return stored_model(first).merge(stored_model(second), prefixes=["north/", "south/"], **given)


_WEIGHTS = {"zero": 2.0, "one": 0.5, "two": 1.0}
#: Made in this order: later ones start from the files of earlier ones.
RECIPES: dict[str, Recipe] = {
    "exact": Recipe(lambda: _fit("train", kernel="gaussian")),
    "exact_auto": Recipe(lambda: _fit("train")),
    "exact_groups": Recipe(lambda: _fit("groups", kernel="gaussian", class_weight="balanced")),
    "exact_whole_numbers": Recipe(_fit_whole_numbers),
    "exact_half": Recipe(lambda: _fit("half", kernel="gaussian")),
    "exact_layers": Recipe(lambda: _fit("layers", layers=["blocks.3", "last"]), probe="layers"),
    "exact_sets": Recipe(lambda: _fit("sets")),
    "exact_numbers": Recipe(lambda: _fit("numbers")),
    "nystrom_nothing": Recipe(lambda: _nystrom("train"), keep="nothing"),
    "nystrom_sums": Recipe(lambda: _nystrom("train"), keep="sums"),
    "nystrom_rows": Recipe(lambda: _nystrom("train"), keep="rows"),
    "nystrom_groups": Recipe(
        lambda: _nystrom("groups", class_weight=_WEIGHTS, kernel="laplacian"), keep="rows"
    ),
    "nystrom_sets": Recipe(lambda: _nystrom("sets", kernel="linear")),
    "nystrom_numbers": Recipe(lambda: _nystrom("numbers")),
    "site_north": Recipe(
        lambda: _fit("train", rows=slice(0, None, 2), centers="nystrom_sums", penalty=1e-4),
        keep="rows",
    ),
    "site_south": Recipe(
        lambda: _fit("train", rows=slice(1, None, 2), centers="nystrom_sums"), keep="rows"
    ),
    "exact_added": Recipe(lambda: _add("exact")),
    "exact_forgotten": Recipe(lambda: _forget("exact")),
    "nystrom_added": Recipe(lambda: _add("nystrom_sums")),
    "nystrom_added_reselected": Recipe(lambda: _add("nystrom_rows", reselect=True)),
    "nystrom_forgotten": Recipe(lambda: _forget("nystrom_rows")),
    "nystrom_dropped": Recipe(lambda: _forget("nystrom_rows", drop_centers=True)),
    "groups_forgotten": Recipe(lambda: _forget("nystrom_groups", reselect=True)),
    "sites_merged": Recipe(lambda: _merge("site_north", "site_south"), keep="sums"),
    "sites_merged_reselected": Recipe(lambda: _merge("site_north", "site_south", reselect=True)),
}


def model_answers(tuner: TopTuner, probe: str) -> Arrays:
    """Answers of a model's head to stored features: only kernel arithmetic, in float32."""
    return head_answers(tuner.head_, feature_rows(stored_features(probe)))


def head_answers(head: Any, rows: NDArray[Any]) -> Arrays:
    """Return predictions, and for classes scores and probabilities, as arrays."""
    if isinstance(head, KernelRegressor):
        return {"predictions": head.predict(rows)}
    return {
        "scores": head.decision_function(rows),
        "probabilities": head.predict_proba(rows),
        "predictions": _as_numbers(head.predict(rows), head.classes_),
    }


def _as_numbers(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Labels as positions among the classes: files of tensors hold no text."""
    return labels if labels.ndim == 2 else np.searchsorted(classes, labels)


def fine_tuned_model() -> FineTuner:
    """Train the last layer of the network on stored images; for `make_golden.py`."""
    tuner = FineTuner(
        backbone=NETWORK,
        mode="head-only",
        learning_rate=0.02,
        epochs=2,
        flip=False,
        precision="float32",
    )
    return tuner.fit("digits", split="train")


def fine_tuned_answers() -> Arrays:
    """Probabilities of the stored fine-tuned model for the images of digits/test/one."""
    tuner = FineTuner.load(FILES / "trained.finetuned")
    return {"probabilities": tuner.predict_proba("digits/test/one")}


# ---------------------------------------------------------------------------------------- heads


@dataclass(frozen=True)
class Case:
    """Parameters of a head, and what it is fitted to."""

    parameters: dict[str, Any]
    target: str = "classes"
    grouped: bool = False
    weighted: bool = False
    dtype: type = np.float32


CASES: dict[str, Case] = {
    **{kernel: Case({"kernel": kernel}) for kernel in KERNELS},
    "auto_kernel": Case({"kernel": "auto"}),
    "float64": Case({}, dtype=np.float64),
    "groups": Case({}, grouped=True),
    "weights": Case({"class_weight": "balanced"}, weighted=True),
    "layers": Case({"feature_groups": [56, 200]}),
    "labels": Case({}, target="labels"),
    "numbers": Case({}, target="numbers"),
    "numbers_groups": Case({}, target="numbers", grouped=True),
    "nystrom": Case({"n_centers": 15}),
    "nystrom_float64": Case({"n_centers": 15}, dtype=np.float64),
    "nystrom_linear": Case({"n_centers": 15, "kernel": "linear"}),
    "nystrom_groups": Case({"n_centers": 15}, grouped=True),
    "nystrom_weights": Case({"n_centers": 15}, weighted=True),
    "nystrom_layers": Case({"n_centers": 15, "feature_groups": [56, 200]}),
    "nystrom_labels": Case({"n_centers": 15}, target="labels"),
    "nystrom_numbers": Case({"n_centers": 15}, target="numbers"),
    "uniform": Case({"n_centers": 15, "centers": "uniform"}),
    "falkon": Case({"n_centers": 15, "solver": "falkon"}),
    "falkon_groups": Case({"n_centers": 15, "solver": "falkon"}, grouped=True),
    "falkon_numbers": Case({"n_centers": 15, "solver": "falkon"}, target="numbers"),
}
#: Attributes of a fitted head that are recorded, where it has them.
_ATTRIBUTES = (
    *("bandwidth_", "penalty_", "group_weights_", "center_indices_", "dual_coef_", "intercept_"),
    *("temperature_", "loo_decision_function_", "loo_predictions_"),
    *("loo_accuracy_", "loo_log_loss_", "loo_r2_"),
)


def fitted_case(case: Case) -> Arrays:
    """Fit the head of a case to stored features, and return what is recorded of it."""
    name = "groups" if case.target == "classes" else {"labels": "sets"}.get(case.target, "numbers")
    features = stored_features(name)
    assert features.labels is not None
    X, n = feature_rows(features).astype(case.dtype), len(features)
    probe = feature_rows(stored_features("test")).astype(case.dtype)
    y: NDArray[Any] = features.labels
    if case.target == "labels":
        y = np.stack([["curved" in label, "dark" in label] for label in y]).astype(np.int64)
    elif case.target == "numbers":
        y = y.astype(np.float64)
    kind = KernelRegressor if case.target == "numbers" else KernelClassifier
    head: Any = kind(random_state=0, **case.parameters)
    weight = np.arange(n) % 3 / 2.0 if case.weighted else None  # a third of them weighs nothing
    groups = np.arange(n) // 3 if case.grouped else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # conjugate gradient may say that it stopped early
        head.fit(X, y, weight, groups)
    found = {
        name.rstrip("_"): np.asarray(getattr(head, name))
        for name in _ATTRIBUTES
        if hasattr(head, name)
    }
    return found | head_answers(head, probe)
