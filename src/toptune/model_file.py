"""The `.toptune` file: what a fitted model is, as tensors and one JSON document."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import ModelFileError
from toptune.images import Quarantined
from toptune.kernel import FeatureNormalizer, KernelClassifier
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
    head : KernelClassifier
        Fitted.
    normalizer : FeatureNormalizer
        Fitted.
    center_features : ndarray of float32 or float16, shape (m, d)
        Features of the head's centers before they were normalised: half the space of what they
        become, from which the same numbers come again.
    codes : ndarray of int, shape (n,)
        Classes of the training images, as positions in the head's `classes_`.
    ids : tuple of str
        Names of the training images.
    groups : ndarray of str, shape (n,), or None
        Group of each training image.
    provenance : dict
        Backbone, weights hash, preprocessing, precision, and versions of libraries.
    quarantined : tuple of Quarantined
        Training images set aside.
    seconds : dict
        Time of the stages of training.
    """

    parameters: dict[str, Any]
    head: KernelClassifier
    normalizer: FeatureNormalizer
    center_features: NDArray[Any]
    codes: NDArray[np.intp]
    ids: tuple[str, ...]
    groups: NDArray[np.str_] | None
    provenance: dict[str, Any]
    quarantined: tuple[Quarantined, ...]
    seconds: dict[str, float]


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
    if model.groups is not None:  # readers that know nothing of them pass over them
        arrays["groups"] = encode_names(model.groups.tolist())
    classes = model.head.classes_
    save_tensors(
        path,
        {**arrays, "codes": model.codes.astype(np.int64), "ids": encode_names(model.ids)},
        {
            "parameters": {name: _plain(value) for name, value in model.parameters.items()},
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
    head = KernelClassifier(class_weight=parameters["class_weight"])
    d = tensors["offset"].shape[0]
    ids = tuple(decode_names(tensors["ids"]))
    lengths = {len(ids), len(tensors["codes"]), len(tensors["loo_scores"])}
    groups = np.array(decode_names(tensors["groups"])) if "groups" in tensors else None
    lengths |= set() if groups is None else {len(groups)}
    if len(lengths) > 1:
        raise ValueError(f"ids, groups, codes and loo_scores have different lengths: {lengths}")
    normalizer = FeatureNormalizer(**document["normalizer"]).fit(np.zeros((1, d), np.float32))
    raw = tensors["center_features"]
    tensors["centers"] = normalizer.transform(np.asarray(raw, dtype=np.float32))
    return Model(
        parameters=parameters,
        head=head.restore(classes, tensors, document["head"]),
        normalizer=normalizer,
        center_features=raw,
        codes=tensors["codes"],
        ids=ids,
        groups=groups,
        provenance=document["provenance"],
        quarantined=tuple(Quarantined(**item) for item in document["quarantined"]),
        seconds=document["seconds"],
    )


def _plain(value: Any) -> Any:
    """Value of a parameter as JSON can hold it; a dict as pairs, for its keys may be numbers."""
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    return value.item() if isinstance(value, np.generic) else value
