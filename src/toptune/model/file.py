"""The `.toptune` file: what a fitted model is, as tensors and one JSON document."""

from __future__ import annotations

import os
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from toptune.errors import ModelFileError
from toptune.images import Quarantined
from toptune.kernel import FeatureNormalizer, KernelClassifier, KernelRegressor
from toptune.kernel.kept import Keep
from toptune.model.fitted_model import FittedModel
from toptune.runtime.tensor_file import decode_names, encode_names, load_tensors, save_tensors
from toptune.tasks import TASKS, TaskName

#: Raised by one whenever an older reader would misunderstand the file.
FORMAT_VERSION = 3
#: Of the section "updates" and its tensors, which a reader may do without: it can still predict.
UPDATES_VERSION = 1
_TENSORS = (
    "center_features",
    "center_indices",
    "dual_coef",
    "offset",
    "scale",
    "codes",
    "ids",
)


def write_model(path: str | os.PathLike[str], model: FittedModel, *, keep: Keep = "sums") -> None:
    """Write a model to one file, replacing it if it exists.

    Parameters
    ----------
    path : path
        File to write.
    model : FittedModel
        What goes into it.
    keep : {"nothing", "sums", "rows"}, default="sums"
        How much of what changes need; see `KernelClassifier.update_state`.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be one of {', '.join(get_args(Keep))}, got {keep!r}")
    arrays, numbers = model.head.state()
    kept, updates = _kept_state(model.head, keep)
    if model.groups is not None:
        kept["groups"] = encode_names(model.groups.tolist())
    arrays["center_features"] = model.center_features
    del arrays["centers"]
    classes = model.classes
    codes = model.codes.astype(np.float64 if model.task_name == "regression" else np.int64)
    save_tensors(
        path,
        {**arrays, **kept, "codes": codes, "ids": encode_names(model.ids)},
        {
            "parameters": {name: _plain(value) for name, value in model.parameters.items()},
            "task": model.task_name,
            "classes": classes.tolist(),
            "classes_dtype": classes.dtype.str,
            "normalizer": model.normalizer.get_params(),
            "head": numbers,
            "provenance": model.provenance,
            "quarantined": [vars(item) for item in model.quarantined],
            "seconds": model.seconds,
            "updates": {"version": UPDATES_VERSION, **updates},
        },
        kind="model",
        format_version=FORMAT_VERSION,
    )


def read_model(path: str | os.PathLike[str]) -> FittedModel:
    """Read a model that `write_model` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of another kind or of another format version.
    """
    tensors, document = load_tensors(
        path, kind="model", format_version=FORMAT_VERSION, required=_TENSORS
    )
    if "loo_scores" not in tensors and document.get("updates", {}).get("left_out", True):
        raise ModelFileError(f"{os.fspath(path)} lacks the tensors loo_scores")
    try:
        return _model(tensors, document)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error


def _model(tensors: dict[str, NDArray[Any]], document: dict[str, Any]) -> FittedModel:
    parameters = document["parameters"]
    weights = parameters["class_weight"]
    if isinstance(weights, list):
        parameters["class_weight"] = dict(weights)
    classes = np.array(document["classes"], dtype=document["classes_dtype"])
    task = TASKS[document.get("task", "classification")].name
    d = tensors["offset"].shape[0]
    ids = tuple(decode_names(tensors["ids"]))
    codes = tensors["codes"]
    lengths = {len(ids), len(codes), len(tensors.get("loo_scores", codes))}
    groups = np.array(decode_names(tensors["groups"])) if "groups" in tensors else None
    lengths |= set() if groups is None else {len(groups)}
    if len(lengths) > 1:
        raise ValueError(f"ids, groups, codes and loo_scores have different lengths: {lengths}")
    _check_values(task, classes, tensors)
    normalizer = FeatureNormalizer(**document["normalizer"]).fit(np.zeros((1, d), np.float32))
    raw = tensors["center_features"]
    tensors["centers"] = normalizer.transform(np.asarray(raw, dtype=np.float32))
    return FittedModel(
        parameters=parameters,
        head=_head(task, classes, codes, groups, tensors, document),
        normalizer=normalizer,
        center_features=raw,
        codes=codes,
        ids=ids,
        provenance=document["provenance"],
        quarantined=tuple(Quarantined(**item) for item in document["quarantined"]),
        seconds=document["seconds"],
        task_name=task,
        classes=classes,
        groups=groups,
        kept="rows" if "rows" in tensors else "sums",
    )


def _check_values(task: TaskName, classes: NDArray[Any], tensors: dict[str, NDArray[Any]]) -> None:
    """Refuse numbers that no fit writes: they would load, and answer nonsense."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity")
    codes, c = tensors["codes"], len(classes)
    columns = codes.shape[1:]
    if columns != ((c,) if task == "multilabel" else ()):
        raise ValueError(f"codes of {task} with {c} classes cannot have shape {codes.shape}")
    if task != "regression":
        _check_range("codes", codes, 0, 2 if columns else c)
    # Below 0 are centers that are no training image of this model.
    _check_range("center_indices", tensors["center_indices"], -2, len(codes))


def _check_range(name: str, tensor: NDArray[Any], low: int, high: int) -> None:
    if tensor.dtype.kind != "i" or ((tensor < low) | (tensor >= high)).any():
        raise ValueError(f"{name} must be integers from {low} to {high - 1}")


def _head(
    task: TaskName,
    classes: NDArray[Any],
    codes: NDArray[Any],
    groups: NDArray[np.str_] | None,
    tensors: dict[str, NDArray[Any]],
    document: dict[str, Any],
) -> KernelClassifier | KernelRegressor:
    if task == "regression":
        return KernelRegressor().restore(tensors, document["head"])
    head = KernelClassifier(class_weight=document["parameters"]["class_weight"])
    # The head of several labels knows them by their columns.
    names = classes if task == "classification" else np.arange(len(classes))
    head.restore(names, tensors, document["head"])
    head.restore_update_state(codes, tensors, _updates(head, codes, document), groups)
    return head


def _kept_state(
    head: KernelClassifier | KernelRegressor, keep: Keep
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return what changes of the model need, which is for classification only."""
    return ({}, {}) if isinstance(head, KernelRegressor) else head.update_state(keep)


def _updates(
    head: KernelClassifier, codes: NDArray[np.intp], document: dict[str, Any]
) -> dict[str, Any]:
    """Section of the document that says what is kept for changes, as this version has it."""
    section = dict(document.get("updates", {"version": None}))
    version = section.pop("version")
    if version == UPDATES_VERSION:
        return section
    absent = (
        "its file was written before models kept sums"
        if version is None
        else f"its file keeps sums in version {version}, this toptune reads {UPDATES_VERSION}"
    )
    if np.array_equal(head.center_indices_, np.arange(len(codes))):  # all that it takes is there
        absent = ""
    return {"absent": absent, "rowless": absent, "coverage": None}


def _plain(value: Any) -> Any:
    """Value of a parameter as JSON can hold it; a dict as pairs, for its keys may be numbers."""
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    return value.item() if isinstance(value, np.generic) else value
