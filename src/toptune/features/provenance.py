"""Whether features, or a model of them, came from the network that is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toptune.errors import ModelFileError
from toptune.features.backbones import Backbone


def check_provenance(backbone: Backbone, provenance: Mapping[str, Any], what: str) -> None:
    """Refuse what was made by another network than this one.

    Parameters
    ----------
    backbone : Backbone
        The network that is here.
    provenance : mapping
        As features and models have it.
    what : str
        What has the provenance, for the message.

    Raises
    ------
    ModelFileError
        Naming the first thing that differs.
    """
    for name, here in backbone.spec().items():
        there = provenance.get(name)
        if there == here:
            continue
        detail = f"{name} {there!r}, here {here!r}"
        if name in ("layers", "preprocessing"):
            raise ModelFileError(
                f"{what} came from other layers, another view or another resolution: {detail}. "
                "Give the same layers=, view= and resolution= to both, or train again"
            )
        if name == "weights_sha256":
            detail = f"weights with SHA-256 {str(there)[:12]}..., here {str(here)[:12]}..."
        raise ModelFileError(
            f"{what} came from the network {provenance.get('backbone')!r}, which does not "
            f"match {backbone.name!r} on this machine: {detail}. Provide the same weights, or "
            "train again"
        )
