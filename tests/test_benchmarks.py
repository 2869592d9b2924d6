"""What the benchmarks measure with."""

from __future__ import annotations

import importlib.util
import resource
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

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
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inherited(_: int) -> None:
        raise AssertionError("getrusage tells the peak of the process that started this one too")

    monkeypatch.setattr(resource, "getrusage", inherited)
    common.reset_peak_memory()
    before = common.peak_memory()
    block = np.ones(25_000_000)
    size = block.nbytes
    del block
    peak = common.peak_memory()
    assert peak - before > 0.9 * size
    common.reset_peak_memory()
    assert common.peak_memory() < peak - 0.5 * size
