"""What every benchmark shares: where data sets are, how they are split, tables and JSON."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from toptune.demo import solar_cells
from toptune.features import Backbone, Features, extract, load_backbone
from toptune.images import ImageSet, open_images, splits_of, stratified_split
from toptune.versions import library_versions

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


def _listed(root: Path) -> Iterator[tuple[str, list[ImageSet]]]:
    """Yield every data set under `root`: its training and test images, or all that there are."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("_")):
        name = folder.name
        if name == "wbc":  # two sources kept apart; the larger one is a data set of its own
            folder = folder / "dataset1_jiangxi_tecom"
        present = splits_of(folder)
        if present:
            splits = ("train", "test" if "test" in present else "val")
            yield name, [open_images(folder, split=split) for split in splits]
        else:
            yield name, [open_images(folder)]


def group_names(name: str, ids: Sequence[str], labels: NDArray[Any]) -> NDArray[np.str_] | None:
    """Return what belongs together in a data set, as its file names tell; None if they do not.

    The published splits keep these groups on one side, so leave-one-out has to as well.
    """
    files = [i.rsplit("/", 1)[-1] for i in ids]
    if name == "magnetic_tile":  # photographs of one tile have neighbouring numbers
        number = np.array([int(f.rsplit("_", 1)[1].split(".")[0]) for f in files])
        order = np.argsort(number, kind="stable")
        tile = np.empty(len(files), dtype=np.intp)
        tile[order] = np.concatenate([[0], np.cumsum(np.diff(number[order]) > 2600)])
        return tile.astype(str)
    parts: dict[str, Callable[[str], str]] = {
        "asl36": lambda f: f.split("_")[0],  # hand
        "bees_health": lambda f: f.split("_")[0],  # video
        "eth80": lambda f: f.split("-")[0],  # object
        "gtsrb": lambda f: f.split("_")[0],  # track, within a class
        "hds_shapes": lambda f: f.split(".")[1],  # drawer
        "omniglot67": lambda f: f.rsplit("_", 1)[1].split(".")[0],  # writer
        "euro_coins": lambda f: f.rsplit("_", 1)[0],  # photograph with many coins
    }
    if name not in parts:
        return None
    names = np.array([parts[name](f) for f in files])
    return np.char.add(np.char.add(labels, "/"), names) if name == "gtsrb" else names


def _splits(
    name: str,
    ids: Sequence[str],
    labels: NDArray[Any] | None,
    *,
    test_size: float,
    seeds: Sequence[int],
) -> Iterator[tuple[int | None, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield seed, training and test part of a data set whose folders show no split."""
    if name == "omniglot67":  # 20 writers, named by the suffix of the file: six are held out
        writer = np.array([int(i.rsplit("_", 1)[1].split(".")[0]) for i in ids])
        yield None, np.flatnonzero(writer <= 14), np.flatnonzero(writer > 14)
        return
    for seed in seeds:
        yield seed, *stratified_split(labels, test_size=test_size, random_state=seed)


def _joined(name: str, parts: Sequence[Features]) -> tuple[Features, list[NDArray[np.intp]]]:
    first = parts[0]
    ends = np.cumsum([0, *(len(part.ids) for part in parts)])
    ids = tuple(f"{k}/{i}" for k, part in enumerate(parts) for i in part.ids)
    labels = np.concatenate([part.labels for part in parts])
    whole = Features(
        X=np.concatenate([part.X for part in parts]),
        ids=ids,
        labels=labels,
        groups=first.groups,
        provenance=first.provenance,
        quarantined=(),
        seconds=sum(part.seconds for part in parts),
        image_groups=group_names(name, ids, labels),
    )
    return whole, [np.arange(a, b) for a, b in itertools.pairwise(ends)]


def tasks(
    root: Path,
    *,
    test_size: float = 0.3,
    seeds: Sequence[int] = (0, 1, 2),
    backbone: Backbone | None = None,
) -> Iterator[Task]:
    """Yield every data set under `root` with its own split, else with stratified random ones.

    A set with train and test uses these two; one with train and val tests on val. Features are
    those of the last layer of the default network if no other is given.
    """
    backbone = backbone or load_backbone()
    for name, listed in _listed(root):
        whole, rows = _joined(name, [extract(images, backbone) for images in listed])
        if len(rows) == 2:
            yield Task(name, None, *rows, whole)
            continue
        for seed, train, test in _splits(
            name, whole.ids, whole.labels, test_size=test_size, seeds=seeds
        ):
            yield Task(name, seed, train, test, whole)


def image_tasks(
    root: Path, *, test_size: float = 0.3, seeds: Sequence[int] = (0, 1, 2)
) -> Iterator[ImageTask]:
    """Yield what `tasks` does as images; the same where every image can be read."""
    for name, listed in _listed(root):
        if len(listed) == 2:
            yield ImageTask(name, None, *listed)
            continue
        (images,) = listed
        for seed, train, test in _splits(
            name, images.ids, images.labels, test_size=test_size, seeds=seeds
        ):
            yield ImageTask(name, seed, images.subset(train), images.subset(test))


def elpv_tasks(seeds: Sequence[int]) -> Iterator[Task]:
    """Yield the solar cells with four grades, 75/25."""
    features = extract(solar_cells(), load_backbone())
    for seed in seeds:
        train, test = stratified_split(features.labels, test_size=0.25, random_state=seed)
        yield Task("ELPV 4-grade", seed, train, test, features)


def digits_tasks(seeds: Sequence[int]) -> Iterator[Task]:
    """Yield scikit-learn's handwritten digits, 70/30, their 64 pixels as the features."""
    X, y = load_digits(return_X_y=True)
    features = Features(
        X=X.astype(np.float32),
        ids=tuple(map(str, range(len(y)))),
        labels=y.astype(str),
        groups={"pixels": X.shape[1]},
    )
    for seed in seeds:
        train, test = stratified_split(features.labels, test_size=0.3, random_state=seed)
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


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory, since `reset_peak_memory`.

    What getrusage says, the fallback, is never less than the peak of the process that started this
    one, and cannot be reset.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser; benchmarks silence the warnings of the methods they compare."""
    warnings.filterwarnings("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # also in the processes that grid searches start
    return argparse.ArgumentParser(description=description)
