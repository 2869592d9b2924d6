"""Ctrl-C while features are being extracted: nothing that was done is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toptune import Features

Toptune = Callable[..., Any]

N = 240

# Decoding is slowed down, so that on every machine there is time to interrupt it, and results are
# stored more often than every two seconds. A process that was started in the background may ignore
# the signal, and its children with it, unless told otherwise.
SLOW = """
import os, signal, sys, time
import toptune.features

signal.signal(signal.SIGINT, signal.default_int_handler)
module = sys.modules["toptune.features.extract"]
decode = module.decode

def slowly(*arguments):
    time.sleep(0.03 * os.cpu_count())
    return decode(*arguments)

module.decode, module._STORE_SECONDS = slowly, 0.2
from toptune.cli import main
main()
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """240 different images of two classes."""
    rng = np.random.default_rng(0)
    for i in range(N):
        folder = tmp_path / "many" / ("even", "odd")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{i}.png")
    return tmp_path / "many"


def rows_in(cache: Path) -> int:
    """Images whose features are in the cache."""
    n = 0
    for path in (cache / "features").glob("*.sqlite"):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as file:
                n += file.execute("SELECT count(*) FROM features").fetchone()[0]
        except sqlite3.OperationalError:  # its tables are just being made
            continue
    return n


@pytest.fixture
def interrupted(many: Path, tmp_path: Path, cache_folder: Path, model_file: Path) -> Iterator[Any]:
    """A run that got SIGINT when the first results had been stored: process, streams, cache."""
    home = tmp_path / "own cache"
    shutil.copytree(cache_folder / "networks", home / "networks")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "features", str(many), "-o", str(tmp_path / "x"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TOPTUNE_CACHE": str(home)},
    )
    try:
        deadline = time.monotonic() + 90
        while rows_in(home) == 0 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    yield process.returncode, out, err, home


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child")
def test_ctrl_c_keeps_what_was_extracted(
    toptune: Toptune,
    many: Path,
    tmp_path: Path,
    interrupted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err, home = interrupted
    assert code == 130
    assert out == ""
    assert err == "interrupted; what was extracted is kept in the cache\n"
    assert not (tmp_path / "x").exists()
    kept = rows_in(home)
    assert 0 < kept < N

    module = sys.modules["toptune.features.extract"]
    decode, decoded = module.decode, []

    def counted(*arguments: Any) -> Any:
        decoded.append(1)
        return decode(*arguments)

    monkeypatch.setattr(module, "decode", counted)
    monkeypatch.setenv("TOPTUNE_CACHE", str(home))
    assert toptune("features", many, "-o", tmp_path / "resumed", "--json").json["n"] == N
    assert len(decoded) == N - kept

    # The rows that the killed run left are those of a run that nobody interrupted, bit for bit.
    shutil.rmtree(home / "features")
    assert toptune("features", many, "-o", tmp_path / "whole", "--json").json["n"] == N
    resumed, whole = Features.load(tmp_path / "resumed"), Features.load(tmp_path / "whole")
    assert resumed.ids == whole.ids
    np.testing.assert_array_equal(resumed.X, whole.X)
