"""The cache keeps what it was given: for two processes, after faults, on a full disk."""

from __future__ import annotations

import hashlib
import inspect
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest

from toptune.errors import StorageError
from toptune.features import FeatureCache, cache_dir

SPEC = {"network": "a", "precision": "float32"}


def opened(folder: Path, spec: dict[str, Any] = SPEC, n_features: int = 8) -> FeatureCache:
    return FeatureCache(folder, spec=spec, n_features=n_features)


def rows(n: int, prefix: str = "", d: int = 8) -> list[tuple[bytes, np.ndarray]]:
    return [
        (
            hashlib.sha256(f"{prefix}{k}".encode()).digest(),
            np.random.default_rng(k).normal(size=d).astype(np.float32),
        )
        for k in range(n)
    ]


def test_cache_reopened_gives_the_same_bits(tmp_path: Path) -> None:
    written = rows(30)
    with opened(tmp_path) as cache:
        cache.put(written[:10])
        cache.put(written[10:])
        cache.put([])
    with opened(tmp_path) as cache:
        assert len(cache) == 30
        for digest, x in written:
            np.testing.assert_array_equal(cache.get(digest), x)
        assert cache.get(b"unknown") is None


def test_cache_other_spec_is_another_file(tmp_path: Path) -> None:
    (row,) = rows(1)
    with opened(tmp_path) as one, opened(tmp_path, {**SPEC, "precision": "bfloat16"}) as other:
        one.put([row])
        assert one.path != other.path
        assert other.get(row[0]) is None
    with opened(tmp_path, dict(reversed(SPEC.items()))) as same:
        assert same.get(row[0]) is not None


# The module is run by itself: importing it would import PyTorch, which takes seconds. Each process
# says that it is ready and waits to be let go, so that they make the file at the same time, too.
WRITER = """
import hashlib, runpy, sys
import numpy as np
FeatureCache = runpy.run_path(sys.argv[1])["FeatureCache"]
print("ready", flush=True)
sys.stdin.readline()
with FeatureCache(sys.argv[2], spec={"network": "a"}, n_features=8) as cache:
    for k in range(int(sys.argv[3]), int(sys.argv[4])):
        digest = hashlib.sha256(b"%d" % k).digest()
        cache.put([(digest, np.full(8, k, dtype=np.float32))])
        assert cache.get(digest)[0] == k
"""


def test_cache_two_writing_processes_lose_nothing(tmp_path: Path) -> None:
    source = inspect.getsourcefile(FeatureCache)
    assert source is not None
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, source, str(tmp_path), *span],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for span in (("0", "150"), ("100", "250"))  # fifty rows are written by both
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    for job in jobs:
        job.communicate(timeout=120)
    assert [job.returncode for job in jobs] == [0, 0]
    with opened(tmp_path, {"network": "a"}) as cache:
        assert len(cache) == 250
        for k in range(250):
            x = cache.get(hashlib.sha256(b"%d" % k).digest())
            np.testing.assert_array_equal(x, np.full(8, k))


def test_cache_readers_beside_a_writer_succeed(tmp_path: Path) -> None:
    written = rows(200)
    with opened(tmp_path) as cache, ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(cache.put, [row]) for row in written]
        reads = [pool.submit(cache.get, digest) for digest, _ in written * 2]
        for job in jobs:
            job.result()
        for read, (_, x) in zip(reads, written * 2, strict=True):
            found = read.result()
            assert found is None or np.array_equal(found, x)
        assert len(cache) == 200


def test_cache_second_writer_waits(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        other = sqlite3.connect(cache.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        release.start()
        start = time.monotonic()
        cache.put(rows(1))
        assert time.monotonic() - start > 0.2
        assert len(cache) == 1
        release.join()
        other.close()


def test_cache_full_disk_raises_and_keeps_rows(tmp_path: Path) -> None:
    before = rows(5, d=1000)
    with opened(tmp_path, n_features=1000) as cache:
        cache.put(before)
        (pages,) = cache._connection.execute("PRAGMA page_count").fetchone()
        cache._connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # what a full disk does
        with pytest.raises(StorageError, match="full; free space, or set TOPTUNE_CACHE"):
            cache.put(rows(50, "more", d=1000))
        cache.put([])
        assert len(cache) == 5
    with opened(tmp_path, n_features=1000) as cache:
        assert cache._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for digest, x in before:
            np.testing.assert_array_equal(cache.get(digest), x)
        cache.put(rows(50, "more", d=1000))
        assert len(cache) == 55


def test_cache_damaged_file_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.put(rows(3))
        path = cache.path
    path.write_bytes(b"this is no database, but long enough to look at" * 100)
    with pytest.raises(StorageError, match=f"{path.name} is damaged .*: delete it"):
        opened(tmp_path)


def test_cache_damaged_page_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, n_features=1000) as cache:
        cache.put(rows(20, d=1000))
        path = cache.path
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    content[page:] = b"\xff" * (len(content) - page)  # all but the first page
    path.write_bytes(content)
    with (
        pytest.raises(StorageError, match=f"{path.name} is damaged .*: delete it"),
        opened(tmp_path, n_features=1000) as cache,
    ):
        for digest, _ in rows(20, d=1000):
            cache.get(digest)
    path.unlink()
    with opened(tmp_path, n_features=1000) as cache:
        assert len(cache) == 0


def test_cache_empty_file_is_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.put(rows(3))
        path = cache.path
    path.write_bytes(b"")
    with opened(tmp_path) as cache:
        assert len(cache) == 0
        cache.put(rows(3))
        assert len(cache) == 3


@pytest.mark.parametrize(
    ("stored", "numbers"), [(b"", "0"), (bytes(20), "5"), (bytes(33), "8.25"), ("a text", "1.5")]
)
def test_cache_row_of_other_length_raises(
    stored: bytes | str, numbers: str, tmp_path: Path
) -> None:
    with opened(tmp_path) as cache:
        cache._connection.execute("INSERT INTO features VALUES (?, ?)", (b"x" * 32, stored))
        with pytest.raises(StorageError, match=f"{numbers} numbers, expected 8.*delete it"):
            cache.get(b"x" * 32)


def test_cache_read_only_file_serves_rows(tmp_path: Path) -> None:
    (known,) = rows(1)
    with opened(tmp_path) as cache:
        cache.put([known])
        cache._connection.execute("PRAGMA query_only = ON")  # holds for root as well
        with pytest.raises(StorageError, match=r"cannot use the feature cache .*readonly"):
            cache.put(rows(1, "more"))
        np.testing.assert_array_equal(cache.get(known[0]), known[1])


def test_cache_locked_too_long_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toptune.features.cache._PATIENCE", 0.05)
    with opened(tmp_path) as cache:
        other = sqlite3.connect(cache.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"cannot use the feature cache .*locked"):
            cache.put(rows(1))
        other.execute("ROLLBACK")
        other.close()
        cache.put(rows(1))
        assert len(cache) == 1


def test_cache_impossible_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot use the feature cache .*: Not a directory"):
        opened(tmp_path / "file")
    (tmp_path / "features").write_text("")
    with pytest.raises(StorageError, match=r"cannot use the feature cache .*: File exists"):
        opened(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_cache_forbidden_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="cannot use the feature cache"):
            opened(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_cache_dir_follows_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.setenv("TOPTUNE_CACHE", "~/mine")
    assert cache_dir() == Path.home() / "mine"
    monkeypatch.setenv("TOPTUNE_CACHE", "")
    assert cache_dir() == Path(platformdirs.user_cache_dir("toptune"))
    monkeypatch.delenv("TOPTUNE_CACHE")
    assert cache_dir() == Path(platformdirs.user_cache_dir("toptune"))
