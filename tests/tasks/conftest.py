"""Models of the digits, one for each task; not to be changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_helpers import DIGITS, PICTURES, N, ink, names

from toptune import TopTuner


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache))


@pytest.fixture(scope="module")
def tuner(tiny_name: str, cache: Path) -> Callable[..., TopTuner]:
    def make(**options: Any) -> TopTuner:
        return TopTuner(backbone=tiny_name, layers="last", cache=cache, **options)

    return make


@pytest.fixture(scope="module")
def regression(tuner: Callable[..., TopTuner]) -> TopTuner:
    return tuner().fit(PICTURES, labels=ink(PICTURES))


@pytest.fixture(scope="module")
def multilabel(tuner: Callable[..., TopTuner]) -> TopTuner:
    return tuner().fit(PICTURES, labels=names(DIGITS.target[:N]))


@pytest.fixture(scope="module")
def classes(tuner: Callable[..., TopTuner]) -> TopTuner:
    labels = np.where(DIGITS.target[:N] % 5 == 0, "five", "other")
    return tuner().fit(PICTURES, labels=labels)
