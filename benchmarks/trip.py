"""Files that an image and its label pass, from `TopTuner().fit(folder)` to `predict`, by tracing.

    python benchmarks/trip.py [--against ANOTHER/src]

A file counts if one of its functions runs while a folder of small images becomes a model and one
image its label, with all on default and an empty cache; what runs while modules are imported does
not. A crossing is a call of an object's method by another of its methods that stands in another
file: what a reader of one class has to follow through several. With `--against`, another source
tree is traced in the same way, for comparison.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

CLASSES, IMAGES, SIDE = ("bird", "cat", "dog"), 20, 64


def main() -> None:
    """Trace this tree, and others to compare with."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--against", type=Path, default=[], action="append", metavar="SRC")
    arguments.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        print(json.dumps(trip()))
        return

    import common

    here = Path(__file__).parents[1] / "src"
    trips = {"here": traced_in(here)} | {str(tree): traced_in(tree) for tree in given.against}
    rows = [
        (name, len(of["fit"]), len({*of["fit"], *of["predict"]}), len(of["crossings"]))
        for name, of in trips.items()
    ]
    columns = ("tree", "files of fit", "of fit and predict", "crossings of predict")
    common.print_table("the way of an image and its label", columns, rows)
    for name, of in trips.items():
        common.console.print(f"\n{name}, in order of the first call:")
        for k, file in enumerate(dict.fromkeys([*of["fit"], *of["predict"]]), start=1):
            common.console.print(f"{k:4d} {file}", highlight=False)
        for crossing in of["crossings"]:
            common.console.print(f"     {crossing}", highlight=False)
    common.write_json("trip", trips["here"])


def traced_in(tree: Path) -> dict[str, list[str]]:
    """Trace in a process of its own, with the sources in `tree`."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(tree.resolve()), "TOPTUNE_CACHE": cache}
        command = [sys.executable, __file__, "--worker"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def trip() -> dict[str, list[str]]:
    """Fit and predict; return the files of each, and the crossings of `predict`."""
    import toptune

    for module in pkgutil.walk_packages(toptune.__path__, "toptune."):
        if not module.name.startswith("toptune.study"):
            importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        tuner = toptune.TopTuner()
        with trace() as (files, _):
            tuner.fit(folder)
        image = str(Path(folder) / CLASSES[0] / "0.png")
        with trace() as (more, crossings):
            tuner.predict([image])
    return {"fit": list(files), "predict": list(more), "crossings": crossings}


def write_images(folder: Path) -> None:
    """Write a few noisy images of each class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(IMAGES):
            pixels = rng.integers(0, 100, (SIDE, SIDE, 3)) + 50 * k
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


@contextmanager
def trace() -> Iterator[tuple[dict[str, None], list[str]]]:
    """Collect, in order, the package's files in which functions run, and the crossings."""
    import toptune

    root = f"{Path(toptune.__file__).parent}{os.sep}"
    files: dict[str, None] = {}
    crossings: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(root):
            return
        caller = frame.f_back
        if caller is not None and caller.f_code.co_filename.startswith("<frozen importlib"):
            return
        files.setdefault(file_of(frame))
        while caller is not None and not caller.f_code.co_filename.startswith(root):
            caller = caller.f_back
        if caller is None or file_of(caller) == file_of(frame):
            return
        owner = frame.f_locals.get("self")
        if owner is not None and caller.f_locals.get("self") is owner:
            crossings.append(f"{method(caller)} -> {method(frame)}")

    def file_of(frame: FrameType) -> str:
        return frame.f_code.co_filename.removeprefix(root)

    def method(frame: FrameType) -> str:
        return f"{file_of(frame)}:{frame.f_code.co_name}"

    with profiled(profile):
        yield files, crossings


@contextmanager
def profiled(profile: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    """Call `profile` at each call, of this thread and of those that start."""
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
