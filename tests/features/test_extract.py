"""Extraction: the right rows in the right order, computed once, whatever happens on the way."""

from __future__ import annotations

import importlib
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extract_helpers import ToyEngine, fail_at, noise, same, wait
from PIL import Image

from toptune.errors import DataWarning, StorageError
from toptune.features import (
    Backbone,
    OpenVINOEngine,
    TorchEngine,
    cache_dir,
    extract,
)
from toptune.images import (
    ImageSource,
    decode,
    from_arrays,
    open_images,
    read_source,
)

# The package's attribute of this name is the function.
module = importlib.import_module("toptune.features.extract")


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_extract_rows_equal_a_plain_loop(
    kind: str, tiny: Backbone, networks: Path, photo_files: Path
) -> None:
    """Reference: read, decode, normalise by the formula in float64, call the module, one by one."""
    images = open_images(photo_files, labelled=False)
    mean, std = np.array(tiny.preprocessing.mean), np.array(tiny.preprocessing.std)
    expected = []
    for source in images.sources:
        pixels = decode(read_source(source), tiny.preprocessing.geometry)
        x = torch.tensor(((pixels / 255 - mean) / std).transpose(2, 0, 1)[None])
        expected.append(tiny.module(x.float())[0].numpy())
    # 24 images are six batches of 4 or, for PyTorch, four of 5 and a partial one.
    openvino = OpenVINOEngine(tiny, batch_size=4, cache=networks)
    engine = openvino if kind == "openvino" else TorchEngine(tiny, batch_size=5)
    found = extract(images, tiny, engine=engine)
    assert found.ids == images.ids
    assert found.X.dtype == np.float32
    # About 20 layers of float32 sums over at most 600 products: errors below 20 sqrt(600) eps / 2.
    scale = float(np.abs(expected).max())
    tolerance = 20 * np.sqrt(600) * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(found.X, np.stack(expected), rtol=0, atol=tolerance * scale)


def test_extract_provenance_names_network_and_engine(tiny: Backbone) -> None:
    found = extract(noise(3), tiny, engine=ToyEngine(tiny))
    assert found.provenance == {
        "backbone": tiny.name,
        **tiny.spec(),
        "engine": "toy",
        "device": "cpu",
        "precision": "float32",
    }
    assert found.layers == tiny.layers
    assert found.seconds > 0


@pytest.mark.parametrize("n_workers", [1, 7])
def test_extract_overtaking_threads_keep_order_and_labels(
    n_workers: int, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arrays = list(rng.integers(0, 256, (30, 20, 24, 3), dtype=np.uint8))
    delays = {a.tobytes(): float(rng.uniform(0, 0.01)) for a in arrays}

    def slow(source: Any, geometry: Any) -> np.ndarray:
        time.sleep(delays[source.tobytes()])
        return decode(source, geometry)

    monkeypatch.setattr(module, "decode", slow)
    labels = [f"class {k % 3}" for k in range(30)]
    engine = ToyEngine(tiny)
    found = extract(from_arrays(arrays, labels), tiny, engine=engine, n_workers=n_workers)
    expected = [engine.features(decode(a, tiny.preprocessing.geometry)) for a in arrays]
    np.testing.assert_array_equal(found.X, expected)
    assert found.ids == tuple(f"image-{k:06d}" for k in range(30))
    assert found.labels is not None
    assert found.labels.tolist() == labels


def test_extract_equal_content_is_computed_once(tiny: Backbone) -> None:
    one, two = noise(2).sources
    engine = ToyEngine(tiny, batch_size=1)
    sources: list[ImageSource] = [one, two, one, np.array(one), one, two]
    found = extract(from_arrays(sources), tiny, engine=engine)
    assert engine.n_images == 2
    for row, kind in enumerate([0, 1, 0, 0, 0, 1]):
        np.testing.assert_array_equal(found.X[row], found.X[kind])
    assert (found.X[0] != found.X[1]).any()


def test_extract_groups_stay_with_their_rows(tiny: Backbone) -> None:
    good, other = noise(2).sources
    sources: list[ImageSource] = [good, b"no image", other, b"text", good]
    groups = ["p1", "p1", "p2", "p3", None]
    images = from_arrays(sources, ["a", "b", "a", "b", "b"], groups=groups)
    with pytest.warns(DataWarning, match="2 images could not be read"):
        found = extract(images, tiny, engine=ToyEngine(tiny))
    assert found.ids == ("image-000000", "image-000002", "image-000004")
    assert found.groups is not None
    assert found.groups.tolist() == ["p1", "p2", "image-000004"]
    whole = extract(images.subset([2, 0]), tiny, engine=ToyEngine(tiny))
    assert whole.groups is not None
    assert whole.groups.tolist() == ["p2", "p1"]
    assert extract(noise(2), tiny, engine=ToyEngine(tiny)).groups is None


# ------------------------------------------------------------------------------------- the cache


def test_extract_second_run_decodes_nothing(
    tiny: Backbone, photo_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(photo_files, labelled=False)
    first = extract(images, tiny, engine=ToyEngine(tiny))
    monkeypatch.setattr(module, "decode", lambda *a: pytest.fail("decoded a known image"))
    refusing = ToyEngine(tiny, before=fail_at(0, AssertionError("computed a known image")))
    same(extract(images, tiny, engine=refusing), first)


def test_extract_known_content_under_other_names_is_cached(
    tiny: Backbone, photo_files: Path, tmp_path: Path
) -> None:
    first = extract(open_images(photo_files, labelled=False), tiny, engine=ToyEngine(tiny))
    moved = photo_files.rename(tmp_path / "moved")
    (moved / "00.jpg").rename(moved / "last.jpg")
    engine = ToyEngine(tiny)
    again = extract(open_images(moved, labelled=False), tiny, engine=engine)
    assert engine.n_images == 0
    np.testing.assert_array_equal(again.X, np.roll(first.X, -1, axis=0))


def test_extract_one_new_image_costs_one_inference(tiny: Backbone, photo_files: Path) -> None:
    old = open_images(photo_files, labelled=False)
    extract(old.subset(range(23)), tiny, engine=ToyEngine(tiny))
    engine = ToyEngine(tiny)
    found = extract(old, tiny, engine=engine)
    assert engine.sizes == [1]
    same(found, extract(old, tiny, engine=ToyEngine(tiny), cache=None))


def test_extract_changed_file_is_computed_again(tiny: Backbone, photo_files: Path) -> None:
    images = open_images(photo_files, labelled=False)
    first = extract(images, tiny, engine=ToyEngine(tiny))
    Image.new("RGB", (30, 30), "red").save(photo_files / "07.jpg")
    engine = ToyEngine(tiny)
    again = extract(images, tiny, engine=engine)
    assert engine.n_images == 1
    assert [k for k in range(24) if (again.X[k] != first.X[k]).any()] == [7]


def test_extract_other_precision_has_its_own_rows(tiny: Backbone) -> None:
    extract(noise(3), tiny, engine=ToyEngine(tiny))
    other = ToyEngine(tiny)
    other.precision = "bfloat16"
    extract(noise(3), tiny, engine=other)
    assert other.n_images == 3
    assert len(list((cache_dir() / "features").iterdir())) == 2


def test_extract_without_cache_writes_nothing(tiny: Backbone) -> None:
    for _ in range(2):
        engine = ToyEngine(tiny)
        extract(noise(3), tiny, engine=engine, cache=None)
        assert engine.n_images == 3
    assert not cache_dir().exists()


def test_extract_cache_folder_is_used(tiny: Backbone, tmp_path: Path) -> None:
    extract(noise(3), tiny, engine=ToyEngine(tiny), cache=tmp_path / "elsewhere")
    assert not cache_dir().exists()
    assert len(list((tmp_path / "elsewhere" / "features").iterdir())) == 1


def test_extract_damaged_cache_raises(tiny: Backbone) -> None:
    extract(noise(3), tiny, engine=ToyEngine(tiny))
    (path,) = (cache_dir() / "features").iterdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=f"{path.name} is damaged .*: delete it"):
        extract(noise(3), tiny, engine=ToyEngine(tiny))
    path.unlink()
    assert len(extract(noise(3), tiny, engine=ToyEngine(tiny))) == 3


def test_extract_other_width_has_its_own_cache(tiny: Backbone) -> None:
    """A row of another length can only be damage, and is never returned."""
    images = noise(2)
    extract(images, tiny, engine=ToyEngine(tiny))
    (path,) = (cache_dir() / "features").iterdir()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE features SET x = substr(x, 1, 8)")
    connection.close()
    with pytest.raises(StorageError, match="a row has 2 numbers"):
        extract(images, tiny, engine=ToyEngine(tiny))


# ------------------------------------------------------------------------------ memory, progress


@pytest.mark.parametrize("slow", ["network", "decoding"])
def test_extract_images_ahead_are_bounded(
    slow: str, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the number of images, whoever is the slower one."""
    n_workers, batch_size = 3, 4
    lock = threading.Lock()
    decoded, most = 0, 0

    def counting(source: Any, geometry: Any) -> np.ndarray:
        nonlocal decoded, most
        if slow == "decoding":
            time.sleep(0.002)
        pixels = decode(source, geometry)
        with lock:
            decoded += 1
            most = max(most, decoded - engine.n_images)
        return pixels

    monkeypatch.setattr(module, "decode", counting)
    before: Callable[[int], None] = wait(0.005) if slow == "network" else wait(0)
    engine = ToyEngine(tiny, batch_size=batch_size, before=before)
    extract(noise(150), tiny, engine=engine, n_workers=n_workers)
    assert decoded == 150
    # The window, and the batch that is being put together or computed.
    assert most <= 2 * n_workers + 2 * batch_size + batch_size
    if slow == "network":
        assert most > batch_size  # it does decode ahead


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_extract_progress_advances_once_an_image(
    progress: bool | None,
    shown: bool,
    tiny: Backbone,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)  # rich would take it for a terminal
    first, second = noise(2).sources
    # Computed, a duplicate, unreadable: each counts as done.
    images = from_arrays([first, second, first, b"no image"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for _ in range(2):  # with an empty cache, and with all of them known
            extract(images, tiny, engine=ToyEngine(tiny), progress=progress)
            captured = capsys.readouterr()
            assert captured.out == ""
            assert ("extracting" in captured.err) == shown
            assert ("4/4" in captured.err) == shown
            assert shown or captured.err == ""
