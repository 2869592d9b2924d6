"""What every benchmark shares: where data sets are, how they are split, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from toptune.features import Backbone, Features, extract, load_backbone
from toptune.images import ImageSet
from toptune.runtime.memory import processor
from toptune.runtime.versions import library_versions
from toptune_study.datasets import Dataset, load_dataset, local_folder, registry

# Wide enough for the widest table, also where the output goes to a file.
console = Console(width=None if Console().is_terminal else 180)


#: Of the grid searches. Shuffled: files lie in the order they were taken, and folds that follow it
#: made grid searches choose badly (SVC on the solar cells: 0.736 instead of 0.773).
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


@dataclass(frozen=True)
class Task:
    """One training and one test set of features of one data set."""

    dataset: str
    seed: int | None  # None: the data set's own split
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    features: Features


@dataclass(frozen=True)
class ImageTask:
    """The images of one training and one test set of one data set."""

    dataset: str
    seed: int | None  # None: the data set's own split
    train: ImageSet
    test: ImageSet


def _datasets() -> list[Dataset]:
    """All data sets of the registry in the folder that TOPTUNE_DATA names, by name."""
    data_root()
    return [load_dataset(name) for name in sorted(registry()) if local_folder(name)]


def _splits(
    dataset: Dataset, seeds: Sequence[int], **options: Any
) -> Iterator[tuple[int | None, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield seed, training and test part: once where the data set has a split of its own."""
    for seed in (None,) if dataset.info.split == "own" else seeds:
        yield seed, *dataset.split(seed=seed or 0, **options)


def tasks(
    *,
    test_size: float = 0.3,
    seeds: Sequence[int] = (0, 1, 2),
    backbone: Backbone | None = None,
) -> Iterator[Task]:
    """Yield every data set with its own split, else with stratified random ones.

    Features are those of the last layer of the default network if no other is given.
    """
    backbone = backbone or load_backbone()
    for dataset in _datasets():
        features = extract(dataset.images, backbone, strict=True)
        for seed, train, test in _splits(dataset, seeds, test_size=test_size):
            yield Task(dataset.info.name, seed, train, test, features)


def image_tasks(*, test_size: float = 0.3, seeds: Sequence[int] = (0, 1, 2)) -> Iterator[ImageTask]:
    """Yield what `tasks` does as images."""
    for dataset in _datasets():
        for seed, train, test in _splits(dataset, seeds, test_size=test_size):
            images = dataset.images
            yield ImageTask(dataset.info.name, seed, images.subset(train), images.subset(test))


def elpv_tasks(seeds: Sequence[int], *, backbone: Backbone | None = None) -> Iterator[Task]:
    """Yield the solar cells with four grades, 75/25; features as for `tasks`."""
    dataset = load_dataset("elpv_grades")
    features = extract(dataset.images, backbone or load_backbone())
    for seed, train, test in _splits(dataset, seeds, test_size=0.25):
        yield Task("ELPV 4-grade", seed, train, test, features)


def digits_tasks(seeds: Sequence[int]) -> Iterator[Task]:
    """Yield scikit-learn's handwritten digits, 70/30, their 64 pixels as the features."""
    dataset = load_dataset("digits")
    X = load_digits().data
    features = Features(
        X=X.astype(np.float32),
        ids=dataset.images.ids,
        labels=dataset.images.labels,
        layers={"pixels": X.shape[1]},
    )
    for seed, train, test in _splits(dataset, seeds):
        yield Task("digits (pixels)", seed, train, test, features)


def data_root() -> Path:
    """Return the folder named by TOPTUNE_DATA, or end with a message."""
    if "TOPTUNE_DATA" not in os.environ:
        raise SystemExit("set TOPTUNE_DATA to a folder of data sets (DATASET[/SPLIT]/CLASS/FILE)")
    return Path(os.environ["TOPTUNE_DATA"])


def timed(function: Callable[[], Any], *, repeats: int = 1) -> tuple[float, Any]:
    """Return the median time of `function` in seconds, and its last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows, floats with four digits."""
    table = Table(title=title, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    console.print(table)


def write_json(name: str, content: dict[str, Any]) -> None:
    """Write results with the versions and the processor that they were measured on."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    about = {"versions": library_versions(), "processor": processor(), "cpus": os.cpu_count()}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**content, "measured_on": about}, indent=1) + "\n")
    console.print(f"written to benchmarks/results/{path.name}")


def read_json(name: str) -> dict[str, Any]:
    """Read results that `write_json` wrote."""
    path = Path(__file__).parent / "results" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser; benchmarks silence the warnings of the methods they compare."""
    warnings.filterwarnings("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # also in the processes that grid searches start
    return argparse.ArgumentParser(description=description)
