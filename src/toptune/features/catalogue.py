"""The networks that can be asked for, and what each takes: `toptune backbones`."""

from __future__ import annotations

from dataclasses import dataclass

import huggingface_hub
import timm
import torch

from toptune.features.backbones import DEFAULT, EMBEDDED, width_of
from toptune.features.pretrained import is_cached

# Networks worth a try that are not installed with this package; any other timm name works as well.
_SUGGESTED = (
    "resnet18.a1_in1k",
    "resnet50.a1_in1k",
    "convnext_tiny.in12k_ft_in1k",
    "efficientnet_b0.ra_in1k",
)


@dataclass(frozen=True)
class BackboneInfo:
    """One line of `toptune backbones`.

    Attributes
    ----------
    name : str
        To be given as ``backbone``.
    available : bool
        Whether it can be used on this machine without any download.
    n_features : int
        Features per image.
    input_size : tuple of int
        Height and width, pixels.
    where : str
        Where its weights are, or come from.
    note : str
        Anything else.
    """

    name: str
    available: bool
    n_features: int
    input_size: tuple[int, int]
    where: str
    note: str = ""


def list_backbones() -> list[BackboneInfo]:
    """List the embedded networks, those in the Hugging Face cache, and a few suggestions.

    Returns
    -------
    list of BackboneInfo
        What can be used here without a download comes first.
    """
    rows = [
        BackboneInfo(
            name,
            known.path() is not None,
            known.n_features,
            (known.size, known.size),
            "installed package" if known.path() else "package to be installed",
            "default" if name == DEFAULT else "",
        )
        for name, known in EMBEDDED.items()
    ]
    cached = _cached_names()
    for name in sorted(set(cached) | set(_SUGGESTED)):
        config = timm.get_pretrained_cfg(name)
        if config is None:
            continue
        with torch.device("meta"):
            module = timm.create_model(name, num_classes=0)
        where = "Hugging Face cache" if name in cached else "to be fetched"
        _, height, width = config.input_size
        rows.append(BackboneInfo(name, name in cached, width_of(module), (height, width), where))
    return sorted(rows, key=lambda row: not row.available)


def _cached_names() -> list[str]:
    """Names of the timm networks in the Hugging Face cache."""
    try:
        folder = huggingface_hub.constants.HF_HUB_CACHE
        repositories = huggingface_hub.scan_cache_dir(folder).repos
    except (huggingface_hub.CacheNotFound, OSError):
        return []
    names = (r.repo_id.removeprefix("timm/") for r in repositories if r.repo_id.startswith("timm/"))
    return [n for n in names if timm.is_model_pretrained(n) and is_cached(f"timm/{n}")]
