"""A study's plan: products of data sets, networks, layers, heads, sizes and seeds -> cells.

A cell is one training process. It is frozen, and its id is a hash of its whole specification, so
that a record belongs to exactly one cell and a changed plan runs only what is new in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from toptune.errors import DataError
from toptune.features.backbones import EMBEDDED
from toptune_study.datasets import dataset_info
from toptune_study.heads import FINE_TUNING, HEADS, check_head

#: Name of the file in the folder of a study.
PLAN = "plan.yaml"
#: Part of the images that random splits test on.
TEST_SIZE = 0.3

_Setting = bool | int | float | str
_Size = Annotated[float, Field(gt=0, le=1)]
_Seed = Annotated[int, Field(ge=0)]


class Cell(BaseModel):
    """One training process: what it trains on, with which network and which head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    backbone: str
    #: Layers whose features the head sees; None where the head trains the network.
    layers: Literal["last", "auto"] | None
    head: str
    #: Parameters of the head that differ from its defaults, by name.
    settings: tuple[tuple[str, _Setting], ...] = ()
    #: Part of the training images that are used, stratified.
    size: _Size = 1.0
    #: Of the split where it is random, of the part of the training images, and of the head.
    seed: _Seed = 0

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the specification."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def fine_tuning(self) -> bool:
        """Whether the head trains the network."""
        return self.head in FINE_TUNING

    @property
    def label(self) -> str:
        """What it is, in a line."""
        layers = "" if self.layers is None else f" {self.layers}"
        given = "".join(f" {name}={value}" for name, value in self.settings)
        return (
            f"{self.dataset} {self.backbone}{layers} {self.head}{given} "
            f"size={self.size:g} seed={self.seed}"
        )


class Head(BaseModel):
    """A head with settings; in a plan either its name or a mapping with `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: dict[str, _Setting] = {}


class Part(BaseModel):
    """One product of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: tuple[str, ...] = Field(min_length=1)
    heads: tuple[Head, ...] = Field(min_length=1)
    backbones: tuple[str, ...] = Field(default=("efficientnet_lite0",), min_length=1)
    layers: tuple[Literal["last", "auto"], ...] = Field(default=("auto",), min_length=1)
    sizes: tuple[_Size, ...] = Field(default=(1.0,), min_length=1)
    seeds: tuple[_Seed, ...] = Field(default=(0,), min_length=1)

    @field_validator("heads", mode="before")
    @classmethod
    def _named(cls, heads: Any) -> Any:
        if not isinstance(heads, list | tuple):
            return heads
        return [{"name": head} if isinstance(head, str) else head for head in heads]

    @field_validator("datasets")
    @classmethod
    def _known_datasets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            dataset_info(name)
        return names

    @field_validator("heads")
    @classmethod
    def _known_heads(cls, heads: tuple[Head, ...]) -> tuple[Head, ...]:
        for head in heads:
            check_head(head.name, head.settings)
        return heads

    @field_validator("backbones")
    @classmethod
    def _known_backbones(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            # Anything else is a name of timm's, a checkpoint or a folder, known when it is loaded.
            if "." not in name and "/" not in name and "=" not in name and name not in EMBEDDED:
                raise ValueError(
                    f"unknown backbone {name!r}; embedded are {', '.join(EMBEDDED)}; others are "
                    "named as timm names weights (resnet50.a1_in1k) or are files (ARCH=FILE)"
                )
        return names

    def cells(self) -> Iterator[Cell]:
        """Yield the cells of the product.

        Where the training images are all those of the data set's own split, seeds would repeat
        what is deterministic but for the folds of a grid search: only the first is run, except for
        heads that train the network, which draw their batches.
        """
        for dataset, backbone, head, size in product(
            self.datasets, self.backbones, self.heads, self.sizes
        ):
            trains = head.name in FINE_TUNING
            fixed = dataset_info(dataset).split == "own" and size == 1.0 and not trains
            layers: tuple[Any, ...] = (None,) if trains else self.layers
            for layer, seed in product(layers, self.seeds[:1] if fixed else self.seeds):
                yield Cell(
                    dataset=dataset,
                    backbone=backbone,
                    layers=layer,
                    head=head.name,
                    settings=tuple(sorted(head.settings.items())),
                    size=size,
                    seed=seed,
                )


class Plan(BaseModel):
    """A study: its name, and the products that make it up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    parts: tuple[Part, ...] = Field(min_length=1)

    def cells(self) -> list[Cell]:
        """All cells, each once, cells that share features beside each other."""
        found: Iterable[Cell] = (cell for part in self.parts for cell in part.cells())
        unique = dict.fromkeys(found)
        order = {name: k for k, name in enumerate(dict.fromkeys(c.dataset for c in unique))}
        heads = {name: k for k, name in enumerate(HEADS)}
        return sorted(
            unique,
            key=lambda c: (
                c.fine_tuning,
                order[c.dataset],
                c.backbone,
                c.seed,
                c.size,
                str(c.layers),
                heads[c.head],
                repr(c.settings),  # of several types
            ),
        )


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read and check a plan.

    Parameters
    ----------
    path : path
        A YAML file.

    Raises
    ------
    DataError
        If there is no such file, it is no YAML, or it does not describe a study; unknown data
        sets, heads and backbones are named, and the known ones listed.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the plan {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no YAML: {error}") from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{file} is no plan: {_in_words(error)}") from error


def _in_words(error: ValidationError) -> str:
    """All faults in one line, each with its place."""
    found = error.errors(include_url=False)
    places = [fault["loc"] for fault in found]
    faults = []
    for fault in found:
        # A list whose items were refused is also called too short.
        if any(
            place != fault["loc"] and place[: len(fault["loc"])] == fault["loc"] for place in places
        ):
            continue
        place = ".".join(str(step) for step in fault["loc"])
        faults.append(f"{place}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)
