"""Features: one row per image, with ids, labels and provenance; and their file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError, ModelFileError
from toptune.features.backbones import Backbone
from toptune.images import LabelKind, Quarantined
from toptune.images.labels import LABEL_KINDS, as_text
from toptune.runtime.deprecation import with_old_methods
from toptune.runtime.tensor_file import decode_names, encode_names, load_tensors, save_tensors

#: Raised by one whenever an older reader would misunderstand the file.
_FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
@with_old_methods
class Features:
    """Features of n images.

    Attributes
    ----------
    X : ndarray of float32 or float16, shape (n, d)
        As the network gives them, not normalised; a memory map where they were left in their file.
    ids : tuple of str
        Names of the images, one per row.
    labels : ndarray of shape (n,), or None
        As in `toptune.images.ImageSet.labels`; text where the features were read from a file.
    layers : dict of str to int
        Layers and the number of columns of each, in order; they add up to d.
    provenance : dict
        Backbone, weights hash, preprocessing, layers, engine and precision.
    quarantined : tuple of Quarantined
        Images that could not be read, with the reason; they have no row.
    seconds : float
        Time that the extraction took.
    groups : ndarray of str, shape (n,), or None
        Name of the group of each image, as in `toptune.images.ImageSet.groups`: what splits and
        leave-one-out keep together.
    label_kind : {"class", "number", "set"}
        What the labels stand for, as in `toptune.images.ImageSet.label_kind`.

    Raises
    ------
    DataError
        If the lengths do not fit each other.
    """

    X: NDArray[np.float32] | NDArray[np.float16]
    ids: tuple[str, ...]
    labels: NDArray[Any] | None
    layers: dict[str, int]
    provenance: dict[str, Any] = field(default_factory=dict)
    quarantined: tuple[Quarantined, ...] = ()
    seconds: float = 0.0
    groups: NDArray[np.str_] | None = None
    label_kind: LabelKind = "class"

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.X.shape != (n, sum(self.layers.values())):
            raise DataError(
                f"features must have shape ({n}, {sum(self.layers.values())}) for {n} ids and the "
                f"layers {self.layers}, got {self.X.shape}"
            )
        for name, names in (("labels", self.labels), ("groups", self.groups)):
            if names is not None and names.shape != (n,):
                raise DataError(f"{name} must have shape ({n},), got {names.shape}")

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, rows: NDArray[np.intp]) -> Features:
        """Return the features of some of the images, in the order of `rows`."""
        names = np.array(self.ids, dtype=object)[rows].tolist()
        return replace(
            self,
            X=self.X[rows],
            ids=tuple(names),
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def save(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write the features to one safetensors file, replacing it if it exists.

        Its tensor ``features`` is readable by anybody; the ids, labels and image groups are JSON
        lists, stored as tensors of UTF-8 bytes because a safetensors header has a limited size.

        Parameters
        ----------
        path : path
            Usually named ``*.safetensors``.
        half : bool, default=False
            Write float16: half the size, eleven significant bits.

        Raises
        ------
        DataError
            If `half` and a value is beyond the range of float16, 65504.
        StorageError
            If it cannot be written.
        """
        X: NDArray[Any] = self.X
        if half:
            with np.errstate(over="ignore"):
                X = X.astype(np.float16)
            if np.isinf(X).any() and not np.isinf(self.X).any():
                raise DataError("features are beyond the range of float16, 65504: save them whole")
        tensors: dict[str, NDArray[Any]] = {"features": X, "ids": encode_names(self.ids)}
        if self.labels is not None:
            tensors["labels"] = encode_names(as_text(self.labels).tolist())
        if self.groups is not None:  # readers that know nothing of it pass over it
            tensors["image_groups"] = encode_names(self.groups.tolist())
        save_tensors(
            path,
            tensors,
            {
                "groups": list(self.layers.items()),  # as format 1 calls the layers
                "provenance": self.provenance,
                "quarantined": [vars(item) for item in self.quarantined],
                "seconds": self.seconds,
                "label_kind": self.label_kind,
            },
            kind="features",
            format_version=_FORMAT_VERSION,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mapped: bool = False) -> Features:
        """Read features that `save` wrote.

        Parameters
        ----------
        path : path
            A feature file.
        mapped : bool, default=False
            Leave the features in the file, as a memory map: what uses them reads a block at a time.

        Returns
        -------
        Features

        Raises
        ------
        ModelFileError
            If the file is missing, damaged, of another kind or of another format version.
        """
        tensors, document = load_tensors(
            path,
            kind="features",
            format_version=_FORMAT_VERSION,
            required=("features", "ids"),
            mapped=("features",) if mapped else (),
        )
        try:
            return cls(
                X=tensors["features"],
                ids=tuple(decode_names(tensors["ids"])),
                labels=_names_or_none(tensors, "labels"),
                layers={name: int(width) for name, width in document["groups"]},
                provenance=document["provenance"],
                quarantined=tuple(Quarantined(**item) for item in document["quarantined"]),
                seconds=float(document["seconds"]),
                groups=_names_or_none(tensors, "image_groups"),
                label_kind=LABEL_KINDS[LABEL_KINDS.index(document.get("label_kind", "class"))],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path}: its description is damaged: {error!r}") from error


def _names_or_none(tensors: dict[str, NDArray[Any]], name: str) -> NDArray[np.str_] | None:
    return np.array(decode_names(tensors[name]), dtype=np.str_) if name in tensors else None


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
