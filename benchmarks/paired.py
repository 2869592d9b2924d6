"""Time of a fit and processor time of one prediction, against another source tree.

    python benchmarks/paired.py --against ANOTHER/src [--rounds 7]

In each round a process of each tree, one after the other and in turns first, fits the head on
synthetic features (10 classes, float16, as wide as the layers of the default network) and predicts
one image, network included. A ratio is of two processes of one round, so that what else the machine
does hits both; medians and quartiles are over the rounds. Trees agree where the median of "seconds,
processor" is near 1: on a busy machine the wall clock says little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (1_000, 3_000)
CLASSES, FITS, PREDICTIONS = 10, 3, 30


def main() -> None:
    """Run the trees in turns, and print ratios."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--against", type=Path, metavar="SRC")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        print(json.dumps(measured(given.worker)))
        return
    if given.against is None:
        arguments.error("--against: which source tree to compare with")

    import common

    trees = (Path(__file__).parents[1] / "src", given.against)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        features = feature_file(Path(folder), trees[0])
        for k in range(given.rounds):
            order = (0, 1) if k % 2 == 0 else (1, 0)
            times = {tree: run(trees[tree], "--worker", str(features)) for tree in order}
            rounds.append((json.loads(times[0]), json.loads(times[1])))
            common.console.print(f"round {k + 1} of {given.rounds}", highlight=False)
    rows = []
    for name in rounds[0][0]:
        ratios = [here[name] / there[name] for here, there in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        here, there = (statistics.median(pair[tree][name] for pair in rounds) for tree in (0, 1))
        rows.append((name, here, there, middle, low, high))
    columns = ("", "here", "there", "ratio: median", "quartile", "quartile")
    common.print_table(f"against {given.against}", columns, rows)
    common.write_json("paired", {"rounds": [list(pair) for pair in rounds]})


def run(tree: Path, *arguments: str) -> str:
    """Run this script with the sources in `tree`; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve()), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, check=True, text=True
    ).stdout


def feature_file(folder: Path, tree: Path) -> Path:
    """Write a few images, and by the command line their features: both trees read such a file."""
    from PIL import Image

    for k in range(2 * CLASSES):
        path = folder / f"images/{k % CLASSES}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    file = folder / "features.safetensors"
    code = "from toptune.cli import main; main()"
    command = [sys.executable, "-c", code, "features", str(folder / "images"), "-o", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return file


def measured(file: Path) -> dict[str, float]:
    """Return seconds by name, with the toptune that is found first."""
    from toptune import Features, TopTuner

    few = Features.load(file)
    tuner = TopTuner(cache=None)
    times: dict[str, float] = {}
    tuner.fit_features(few)  # loads what is loaded once
    for n in SIZES:
        features = enlarged(few, n)
        wall, processor = seconds(lambda f=features: tuner.fit_features(f), repeats=FITS)
        times[f"fit, n = {n:,}: seconds, processor"] = processor
        times[f"fit, n = {n:,}: seconds, wall clock"] = wall
    image = str(file.parent / "images/0/0.png")
    tuner.predict([image])
    wall, processor = seconds(lambda: tuner.predict([image]), repeats=PREDICTIONS)
    times["one prediction: seconds, processor"] = processor
    times["one prediction: seconds, wall clock"] = wall
    return times


def enlarged(few: Any, n: int) -> Any:
    """Features of `n` images in overlapping classes, not negative as pooled activations are."""
    d = few.X.shape[1]
    rng = np.random.default_rng(0)
    means = rng.random((CLASSES, d), dtype=np.float32)
    y = np.arange(n) % CLASSES
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += means[y]
    ids = tuple(f"{k}.png" for k in range(n))
    return replace(few, X=np.abs(X).astype(np.float16), ids=ids, labels=y.astype(str))


def seconds(function: Callable[[], Any], *, repeats: int) -> tuple[float, float]:
    """Return the median seconds of `function`, on the wall clock and of the processor."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


if __name__ == "__main__":
    main()
