"""The `.toptune` file: what a fitted model is, as tensors and one JSON document."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import ModelFileError
from toptune.images import Quarantined
from toptune.kernel import FeatureNormalizer, KernelClassifier, KernelRegressor
from toptune.tasks import TASKS, Classification, Regression, Task
from toptune.tensor_file import decode_names, encode_names, load_tensors, save_tensors

#: Raised by one whenever an older reader would misunderstand the file.
FORMAT_VERSION = 3
_TENSORS = (
    "center_features",
    "center_indices",
    "dual_coef",
    "offset",
    "scale",
    "loo_scores",
    "codes",
    "ids",
)


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model without its network.

    Attributes
    ----------
    parameters : dict
        Of the tuner's constructor.
    head : KernelClassifier or KernelRegressor
        Fitted.
    normalizer : FeatureNormalizer
        Fitted.
    center_features : ndarray of float32 or float16, shape (m, d)
        Features of the head's centers before they were normalised: half the space of what they
        become, from which the same numbers come again.
    codes : ndarray of shape (n,) or (n, c)
        Classes of the training images, as positions among `classes`; indicators of their labels; or
        their numbers.
    ids : tuple of str
        Names of the training images.
    provenance : dict
        Backbone, weights hash, preprocessing, precision, and versions of libraries.
    quarantined : tuple of Quarantined
        Training images set aside.
    seconds : dict
        Time of the stages of training.
    task : type of Task
        What the labels are.
    classes : ndarray of shape (c,)
        Labels, sorted; none for regression.
    """

    parameters: dict[str, Any]
    head: KernelClassifier | KernelRegressor
    normalizer: FeatureNormalizer
    center_features: NDArray[Any]
    codes: NDArray[Any]
    ids: tuple[str, ...]
    provenance: dict[str, Any]
    quarantined: tuple[Quarantined, ...]
    seconds: dict[str, float]
    task: type[Task[Any]]
    classes: NDArray[Any]


def write_model(path: str | os.PathLike[str], model: Model) -> None:
    """Write a model to one file, replacing it if it exists.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    arrays, numbers = model.head.state()
    arrays["center_features"] = model.center_features
    del arrays["centers"]
    classes, numbers_of_images = model.classes, model.task is Regression
    codes = model.codes.astype(np.float64 if numbers_of_images else np.int64)
    save_tensors(
        path,
        {**arrays, "codes": codes, "ids": encode_names(model.ids)},
        {
            "parameters": {name: _plain(value) for name, value in model.parameters.items()},
            "task": model.task.name,
            "classes": classes.tolist(),
            "classes_dtype": classes.dtype.str,
            "normalizer": model.normalizer.get_params(),
            "head": numbers,
            "provenance": model.provenance,
            "quarantined": [vars(item) for item in model.quarantined],
            "seconds": model.seconds,
        },
        kind="model",
        format_version=FORMAT_VERSION,
    )


def read_model(path: str | os.PathLike[str]) -> Model:
    """Read a model that `write_model` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of another kind or of another format version.
    """
    tensors, document = load_tensors(
        path, kind="model", format_version=FORMAT_VERSION, required=_TENSORS
    )
    try:
        return _model(tensors, document)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error


def _model(tensors: dict[str, NDArray[Any]], document: dict[str, Any]) -> Model:
    parameters = document["parameters"]
    weights = parameters["class_weight"]
    if isinstance(weights, list):
        parameters["class_weight"] = dict(weights)
    classes = np.array(document["classes"], dtype=document["classes_dtype"])
    task = TASKS[document.get("task", "classification")]
    d = tensors["offset"].shape[0]
    ids = tuple(decode_names(tensors["ids"]))
    lengths = {len(ids), len(tensors["codes"]), len(tensors["loo_scores"])}
    if len(lengths) > 1:
        raise ValueError(f"ids, codes and loo_scores have different lengths: {lengths}")
    normalizer = FeatureNormalizer(**document["normalizer"]).fit(np.zeros((1, d), np.float32))
    raw = tensors["center_features"]
    tensors["centers"] = normalizer.transform(np.asarray(raw, dtype=np.float32))
    return Model(
        parameters=parameters,
        head=_head(task, classes, parameters["class_weight"], tensors, document["head"]),
        normalizer=normalizer,
        center_features=raw,
        codes=tensors["codes"],
        ids=ids,
        provenance=document["provenance"],
        quarantined=tuple(Quarantined(**item) for item in document["quarantined"]),
        seconds=document["seconds"],
        task=task,
        classes=classes,
    )


def _head(
    task: type[Task[Any]],
    classes: NDArray[Any],
    class_weight: Any,
    tensors: dict[str, NDArray[Any]],
    numbers: dict[str, Any],
) -> KernelClassifier | KernelRegressor:
    if task is Regression:
        return KernelRegressor().restore(tensors, numbers)
    head = KernelClassifier(class_weight=class_weight)
    # The head of several labels knows them by their columns.
    names = classes if task is Classification else np.arange(len(classes))
    return head.restore(names, tensors, numbers)


def _plain(value: Any) -> Any:
    """Value of a parameter as JSON can hold it; a dict as pairs, for its keys may be numbers."""
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    return value.item() if isinstance(value, np.generic) else value
