"""The file of a fine-tuned model: all weights of the network, and what is needed to build it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from toptune.errors import ModelFileError
from toptune.features import Preprocessing
from toptune.images import Geometry, Quarantined
from toptune.runtime.tensor_file import decode_names, encode_names, load_tensors, save_tensors

#: Raised by one whenever an older reader would misunderstand the file.
FINETUNED_VERSION = 1
_KIND = "fine-tuned model"
_WEIGHTS = "network."


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A fine-tuned model."""

    parameters: dict[str, Any]  # of the constructor
    network: nn.Module  # on the CPU, in evaluation mode
    classes: NDArray[Any]  # (c,), in the order of the network's outputs
    ids: tuple[str, ...]  # of the training images
    quarantined: tuple[Quarantined, ...]  # training images that could not be read
    provenance: dict[str, Any]  # of the pretrained weights, and versions of libraries
    facts: dict[str, Any]  # other results of the fit, as JSON can hold them


def write_trained(path: str | os.PathLike[str], model: TrainedModel) -> None:
    """Write a model to one file, replacing it if it exists.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    state = model.network.state_dict()
    tensors = {f"{_WEIGHTS}{name}": tensor.cpu().numpy().copy() for name, tensor in state.items()}
    save_tensors(
        path,
        {**tensors, "ids": encode_names(model.ids)},
        {
            "parameters": model.parameters,
            "classes": model.classes.tolist(),
            "classes_dtype": model.classes.dtype.str,
            "quarantined": [vars(item) for item in model.quarantined],
            "provenance": model.provenance,
            "facts": model.facts,
        },
        kind=_KIND,
        format_version=FINETUNED_VERSION,
    )


def read_trained(path: str | os.PathLike[str]) -> TrainedModel:
    """Read a model that `write_trained` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of another kind or of another format version.
    """
    tensors, document = load_tensors(
        path, kind=_KIND, format_version=FINETUNED_VERSION, required=("ids",)
    )
    try:
        classes = np.array(document["classes"], dtype=document["classes_dtype"])
        architecture = document["provenance"]["architecture"]
        return TrainedModel(
            parameters=document["parameters"],
            network=_rebuilt(architecture, len(classes), tensors),
            classes=classes,
            ids=tuple(decode_names(tensors["ids"])),
            quarantined=tuple(Quarantined(**item) for item in document["quarantined"]),
            provenance=document["provenance"],
            facts=document["facts"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path} is damaged, or of another timm's network: {first}") from error


def _rebuilt(architecture: str, n_classes: int, tensors: dict[str, NDArray[Any]]) -> nn.Module:
    """Build the network as `fresh_network` does, and give it its weights."""
    name, _, described = architecture.partition(" ")
    arguments = {**json.loads(described or "{}"), "num_classes": 0}
    with torch.random.fork_rng([]):  # timm draws weights, which are replaced next
        network: nn.Module = timm.create_model(name, **arguments)
        network.reset_classifier(n_classes)  # type: ignore[operator]
    weights = {
        key.removeprefix(_WEIGHTS): torch.from_numpy(np.array(value))
        for key, value in tensors.items()
        if key.startswith(_WEIGHTS)
    }
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def preprocessing_from(described: dict[str, Any]) -> Preprocessing:
    """Return what `Preprocessing.to_dict` described."""
    mean, std = (tuple(float(v) for v in described[name]) for name in ("mean", "std"))
    return Preprocessing(Geometry(**described["geometry"]), mean, std)  # type: ignore[arg-type]
