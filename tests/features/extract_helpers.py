"""What tests of the extraction share: an engine without a network, images, a look at the cache."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from toptune.features import Backbone, Engine, Features, cache_dir
from toptune.images import ImageSet, from_arrays


class ToyEngine(Engine):
    """Takes the first d values of each image's middle row for its features.

    Parameters
    ----------
    backbone
        Decides d; its network is not run.
    batch_size
        Images per batch.
    before
        Called with the number of the batch before it is computed: to fail, to wait or to look.
    """

    name = "toy"
    device = "cpu"
    precision = "float32"

    def __init__(
        self,
        backbone: Backbone,
        *,
        batch_size: int = 4,
        before: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.d = backbone.n_features
        self.batch_size = batch_size
        self.before = before
        self.sizes: list[int] = []

    @property
    def n_images(self) -> int:
        """How many images it was given so far."""
        return sum(self.sizes)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, batch in enumerate(batches):
            self.before(number)
            self.sizes.append(len(batch))
            yield np.stack([self.features(pixels) for pixels in batch])

    def features(self, pixels: np.ndarray) -> np.ndarray:
        middle = pixels[len(pixels) // 2].reshape(-1)
        return middle[: self.d].astype(np.float32) / 7


def fail_at(number: int, error: BaseException) -> Callable[[int], None]:
    """Raise `error` in place of batch `number`."""

    def before(n: int) -> None:
        if n == number:
            raise error

    return before


def wait(seconds: float) -> Callable[[int], None]:
    """Make every batch last so long."""
    return lambda number: time.sleep(seconds)


def noise(n: int) -> ImageSet:
    """`n` different images in memory."""
    rng = np.random.default_rng(n)
    return from_arrays(list(rng.integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)))


def same(a: Features, b: Features) -> None:
    """Equal rows bit for bit, and equal names."""
    np.testing.assert_array_equal(a.X, b.X)
    assert a.ids == b.ids
    assert a.quarantined == b.quarantined


def cached_rows() -> int:
    """Number of rows in all files of the cache; 0 while there is none or it is being made."""
    n = 0
    for path in (cache_dir() / "features").glob("*.sqlite"):
        connection = sqlite3.connect(path)
        try:
            n += connection.execute("SELECT count(*) FROM features").fetchone()[0]
        except sqlite3.OperationalError:
            continue
        finally:
            connection.close()
    return n
