"""What the benchmarks measure with, and on."""

from __future__ import annotations

import importlib.util
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toptune.runtime import memory as measuring

COMMON = Path(__file__).parents[1] / "benchmarks/common.py"


@pytest.fixture(scope="module")
def common() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_common", COMMON)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_peak_memory_is_of_this_process_since_the_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inherited(_: int) -> None:
        raise AssertionError("getrusage tells the peak of the process that started this one too")

    monkeypatch.setattr(resource, "getrusage", inherited)
    measuring.reset_peak_memory()
    before = measuring.peak_memory()
    block = np.ones(25_000_000)
    size = block.nbytes
    del block
    peak = measuring.peak_memory()
    assert peak - before > 0.9 * size
    measuring.reset_peak_memory()
    assert measuring.peak_memory() < peak - 0.5 * size


def test_tasks_are_the_local_data_sets_with_their_splits(
    common: ModuleType, image_tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_tree([f"{c}/{k}.png" for c in "ab" for k in range(10)], root="data/pokemon4")
    own = ("train/a/1.png", "train/a/2.png", "train/b/3.png", "test/b/4.png")
    folder = image_tree(own, root="data/cifar10")
    image_tree(["a/1.png"], root="data/of_nobody")
    monkeypatch.setenv("TOPTUNE_DATA", str(folder.parent))
    tasks = list(common.image_tasks(seeds=(1, 2)))
    assert [(task.dataset, task.seed) for task in tasks] == [
        ("cifar10", None),
        ("pokemon4", 1),
        ("pokemon4", 2),
    ]
    assert tasks[0].test.ids == ("test/b/4.png",)
    assert [(len(task.train), len(task.test)) for task in tasks[1:]] == [(14, 6)] * 2
    assert tasks[1].test.ids != tasks[2].test.ids


def test_without_a_folder_there_are_no_tasks(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOPTUNE_DATA", raising=False)
    with pytest.raises(SystemExit, match="set TOPTUNE_DATA"):
        list(common.image_tasks())
