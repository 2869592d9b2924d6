"""Networks that are not embedded: from a folder, a weights file or the Hugging Face hub."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from toptune.errors import BackboneError

# What timm and the readers of weights files raise where there is nothing usable.
_FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


def load_network(
    name: str,
    embedded: Sequence[str],
) -> tuple[str, nn.Module]:
    """Return the architecture and the network, with its weights, of a name for `load_backbone`.

    Errors propose the names in `embedded`, the default first.
    """
    if name.startswith("local-dir:"):
        return _from_folder(name, Path(name.removeprefix("local-dir:")))
    if "=" in name:
        architecture, _, file = name.partition("=")
        return _from_file(name, architecture, Path(file))
    return _from_hub(name, embedded)


def _from_folder(name: str, folder: Path) -> tuple[str, nn.Module]:
    config = folder / "config.json"
    if not config.is_file():
        raise BackboneError(f"no config.json in {folder}: local-dir: wants a folder saved by timm")
    try:
        described = json.loads(config.read_text(encoding="utf-8"))
        shape = {key: described.get(key) for key in ("architecture", "model_args")}
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except (*_FAULTS, AttributeError) as error:  # the last where weights and description differ
        raise BackboneError(f"cannot load a network from {folder}: {first_line(error)}") from error
    architecture = str(shape["architecture"])
    # Arguments count only if they make another network: timm also writes those that do not.
    with torch.device("meta"):
        plain = timm.create_model(architecture, num_classes=0)
    if repr(plain) != repr(module):
        architecture += f" {json.dumps(shape['model_args'], sort_keys=True)}"
    return architecture, module


def _from_file(name: str, architecture: str, file: Path) -> tuple[str, nn.Module]:
    if not timm.is_model(architecture):
        raise BackboneError(f"{architecture!r} in {name!r} is no timm architecture (ARCH=FILE)")
    if not file.is_file():
        raise BackboneError(f"no weights file at {file}")
    try:
        module = timm.create_model(architecture, num_classes=0)
        tensors = load_state_dict(str(file), device="cpu", weights_only=True)
    # torch and pickle raise whatever a damaged file leads them to.
    except Exception as error:
        raise BackboneError(f"cannot read weights from {file}: {first_line(error)}") from error
    _fill(module, tensors, architecture, file)
    return architecture.partition(".")[0], module


def _fill(module: nn.Module, tensors: dict[str, Tensor], architecture: str, file: Path) -> None:
    """Load `tensors`, of which only a classifier may be left over."""
    expected = module.state_dict()
    classifier = _config(module).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    missing = sorted(expected.keys() - tensors.keys())
    left = sorted(
        key
        for key in tensors.keys() - expected.keys()
        if not any(key.startswith(f"{head}.") for head in heads)
    )
    other = sorted(
        key for key in expected.keys() & tensors.keys() if expected[key].shape != tensors[key].shape
    )
    for what, keys in (("lacks", missing), ("has unknown", left), ("has other shapes for", other)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise BackboneError(
                f"{file} does not fit {architecture}: it {what} tensors {keys[0]!r}{more}"
            )
    module.load_state_dict({key: tensors[key] for key in expected})


def _from_hub(name: str, embedded: Sequence[str]) -> tuple[str, nn.Module]:
    architecture = name.partition(".")[0].removeprefix("hf-hub:")
    if not name.startswith("hf-hub:"):
        if not timm.is_model(architecture):
            raise BackboneError(
                f"unknown network {name!r}: give {', '.join(embedded)}, a timm name, ARCH=FILE or "
                "local-dir:FOLDER"
            )
        config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
        if config is None:
            raise BackboneError(
                f"timm has no pretrained weights for {name!r}; it has: "
                + (", ".join(timm.list_pretrained(f"{architecture}.*")) or "none")
            )
        repository = config.hf_hub_id
    else:
        repository = name.removeprefix("hf-hub:")
    absent = (
        f"the weights of {name!r} are not on this machine (copy them into the Hugging Face cache "
        f"from one that has them, give a file as {name}=FILE, or use {embedded[0]})"
    )
    if repository and not is_cached(repository):
        _check_hub(absent)
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except _FAULTS as error:
        raise BackboneError(f"{absent}: {first_line(error)}") from error
    return str(_config(module).get("architecture") or architecture), module


def _check_hub(absent: str) -> None:
    """Fail at once where the hub cannot be reached; its client would retry for a minute."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise BackboneError(f"{absent}, and HF_HUB_OFFLINE is set")
    if urllib.request.getproxies():
        return  # a direct connection would prove nothing
    hub = urlparse(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError as error:
        raise BackboneError(f"{absent}, and {hub.hostname} cannot be reached") from error


def is_cached(repository: str) -> bool:
    """Return whether the weights of a repository are in the Hugging Face cache."""
    names = ("model.safetensors", "pytorch_model.bin")
    return any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in names
    )


def _config(module: nn.Module) -> dict[str, Any]:
    """Return timm's `pretrained_cfg` of a network."""
    config: dict[str, Any] = dict(module.pretrained_cfg)  # type: ignore[arg-type]
    return config


def first_line(error: BaseException) -> str:
    """First line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
