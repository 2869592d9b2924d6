"""Extracted features on disk, found by the content of the image.

One SQLite file for each way of making features (weights, preprocessing, layers, precision, device);
in it one row per image, keyed by the SHA-256 of the image's bytes. Against one file per image or
per run this gives, from the standard library, what a cache shared by processes needs: a transaction
is either there or not after a kill, and two writers wait for each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from toptune.errors import StorageError

#: Seconds to wait for another process that is writing.
_PATIENCE = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spec (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS features (digest BLOB PRIMARY KEY, x BLOB NOT NULL);
"""


def cache_dir() -> Path:
    """Folder of the cache: TOPTUNE_CACHE, else the platform's folder for caches."""
    given = os.environ.get("TOPTUNE_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("toptune"))


class FeatureCache:
    """Features of images by content, for one way of making them; safe to use from many threads.

    Parameters
    ----------
    folder : path
        Folder of the cache, made if it is not there.
    spec : dict
        What decides the features of an image; another spec is another file.
    n_features : int
        Length d of each row.
    dtype : dtype, default=float32
        Of the numbers, float32 or float16.

    Raises
    ------
    StorageError
        From every method, if the file cannot be made, read or written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with FeatureCache(folder, spec={"network": "a"}, n_features=2) as cache:
    ...         cache.put([(b"digest", np.array([1, 2], dtype=np.float32))])
    ...         cache.get(b"digest"), cache.get(b"other")
    (array([1., 2.], dtype=float32), None)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        spec: dict[str, Any],
        n_features: int,
        dtype: DTypeLike = np.float32,
    ) -> None:
        text = json.dumps(spec, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.path = Path(folder) / "features" / f"{name}.sqlite"
        self.n_features = n_features
        self.dtype = np.dtype(dtype).newbyteorder("<")  # as in the file, on every machine
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None
            )
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        try:
            if self._execute("SELECT count(*) FROM sqlite_master", ())[0][0] == 0:
                self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                self._execute("INSERT OR IGNORE INTO spec VALUES (1, ?)", (text,))
        except StorageError:
            self._connection.close()
            raise
        except sqlite3.Error as error:
            self._connection.close()
            raise self._error(error) from error

    def get(self, digest: bytes) -> NDArray[Any] | None:  # (d,)
        """Return the features of the image with this digest, or None."""
        rows = self._execute("SELECT x FROM features WHERE digest = ?", (digest,))
        if not rows:
            return None
        stored = rows[0][0]
        size = self.dtype.itemsize
        if not isinstance(stored, bytes) or len(stored) != size * self.n_features:
            length = len(stored) / size
            raise self._error(f"a row has {length:g} numbers, expected {self.n_features}")
        return np.frombuffer(stored, dtype=self.dtype)

    def put(self, rows: Iterable[tuple[bytes, NDArray[Any]]]) -> None:
        """Add features by digest; all of them or, if that fails, none."""
        values = [(digest, x.astype(self.dtype).tobytes()) for digest, x in rows]
        if not values:
            return
        try:
            with self._lock, closing(self._connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    cursor.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", values)
                    cursor.execute("COMMIT")
                finally:
                    if self._connection.in_transaction:
                        cursor.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM features", ())[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: object) -> StorageError:
        text = str(getattr(error, "strerror", None) or error)
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError | sqlite3.ProgrammingError
        )
        if damaged or isinstance(error, str):
            return StorageError(f"the feature cache {self.path} is damaged ({text}): delete it")
        if "full" in text:
            text = f"{text}; free space, or set TOPTUNE_CACHE to a folder on another disk"
        return StorageError(f"cannot use the feature cache {self.path}: {text}")
