"""The cache keeps what it was given: for two processes, after faults, on a full disk."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
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


def test_what_was_put_is_there_bit_for_bit_after_reopening(tmp_path: Path) -> None:
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


def test_another_spec_is_another_file(tmp_path: Path) -> None:
    (row,) = rows(1)
    with opened(tmp_path) as one, opened(tmp_path, {**SPEC, "precision": "bfloat16"}) as other:
        one.put([row])
        assert one.path != other.path
        assert other.get(row[0]) is None
    with opened(tmp_path, dict(reversed(SPEC.items()))) as same:
        assert same.get(row[0]) is not None


WRITER = """
import sys
import numpy as np
from toptune.features import FeatureCache
sys.path.insert(0, sys.argv[2])
from test_feature_cache import SPEC, rows
with FeatureCache(sys.argv[1], spec=SPEC, n_features=8) as cache:
    for row in rows(60, sys.argv[3]):
        cache.put([row])
"""


def test_two_processes_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    jobs = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), here, name])
        for name in ("first", "second")
    ]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    with opened(tmp_path) as cache:
        assert len(cache) == 120
        for name in ("first", "second"):
            for digest, x in rows(60, name):
                np.testing.assert_array_equal(cache.get(digest), x)


def test_a_full_disk_is_an_error_and_spoils_nothing(tmp_path: Path) -> None:
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


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.put(rows(3))
        path = cache.path
    path.write_bytes(b"this is no database, but long enough to look at" * 100)
    with pytest.raises(StorageError, match=f"{path.name} is damaged .*: delete it"):
        opened(tmp_path)


def test_a_row_of_another_length_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.put([(b"x" * 32, np.zeros(5, np.float32))])
        with pytest.raises(StorageError, match="5 numbers, expected 8.*delete it"):
            cache.get(b"x" * 32)


def test_a_file_that_is_locked_for_too_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toptune.features.cache._PATIENCE", 0.05)
    with opened(tmp_path) as cache:
        other = sqlite3.connect(cache.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="cannot use the feature cache .*locked"):
            cache.put(rows(1))
        other.execute("ROLLBACK")
        other.close()
        cache.put(rows(1))
        assert len(cache) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use the feature cache"):
        opened(tmp_path / "file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="cannot use the feature cache"):
            opened(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("TOPTUNE_CACHE")
    assert cache_dir() == Path(platformdirs.user_cache_dir("toptune"))
