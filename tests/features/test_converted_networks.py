"""The converted network on disk: read again, replaced if damaged, never in the way."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from features_helpers import least_cosine, reference, run, save_tiny, some_pixels

from toptune.features import Backbone, OpenVINOEngine, load_backbone


def one(backbone: Backbone, cache: Path | None) -> np.ndarray:
    """The features of one image."""
    return run(OpenVINOEngine(backbone, batch_size=1, cache=cache), some_pixels(1))


@pytest.fixture
def conversions(
    tiny: Backbone, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> list[OpenVINOEngine]:
    """Who converts from now on; what they get was converted before, which saves the seconds."""
    ready = OpenVINOEngine(tiny, batch_size=1, cache=networks)
    ready._converted()
    found: list[OpenVINOEngine] = []

    def convert(self: OpenVINOEngine) -> Any:
        found.append(self)
        with monkeypatch.context() as patch:
            patch.setattr(OpenVINOEngine, "_convert", lambda self: pytest.fail("was not kept"))
            return ready._converted()

    monkeypatch.setattr(OpenVINOEngine, "_convert", convert)
    return found


def test_openvino_converted_network_is_kept_and_used(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = one(tiny, tmp_path)
    assert least_cosine(first, reference(tiny, some_pixels(1))) > 0.9999
    assert len(list((tmp_path / "networks").iterdir())) == 1
    monkeypatch.setattr(torch.jit, "trace", lambda *a, **k: pytest.fail("converted again"))
    np.testing.assert_array_equal(one(tiny, tmp_path), first)


@pytest.mark.parametrize("length", [None, 0, 100])
@pytest.mark.parametrize("part", ["network.xml", "network.bin"])
def test_openvino_damaged_converted_network_is_replaced(
    part: str,
    length: int | None,
    tiny: Backbone,
    tmp_path: Path,
    conversions: list[OpenVINOEngine],
) -> None:
    first = one(tiny, tmp_path)
    (folder,) = (tmp_path / "networks").iterdir()
    path = folder / part
    size = path.stat().st_size
    if length is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    for _ in range(2):
        np.testing.assert_array_equal(one(tiny, tmp_path), first)
        assert len(conversions) == 2  # the second time it was there again
    assert path.stat().st_size == size
    assert list((tmp_path / "networks").iterdir()) == [folder]


def test_openvino_other_network_or_batch_is_converted_anew(
    tiny: Backbone, tmp_path: Path, conversions: list[OpenVINOEngine]
) -> None:
    other = load_backbone(f"test_resnet={save_tiny(tmp_path / 'other.safetensors', seed=1)}")
    engines = [
        OpenVINOEngine(backbone, batch_size=size, cache=tmp_path)
        for backbone, size in ((tiny, 1), (tiny, 2), (other, 1))
    ]
    for engine in engines * 2:
        engine._converted()
    assert conversions == engines
    assert len(list((tmp_path / "networks").iterdir())) == 3


def test_openvino_two_conversions_at_once_succeed(
    tiny: Backbone,
    tmp_path: Path,
    conversions: list[OpenVINOEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both have found nothing and have converted; now both store what they have."""
    model, both = OpenVINOEngine(tiny, batch_size=1)._convert(), threading.Barrier(2)

    def meeting(self: OpenVINOEngine) -> Any:
        both.wait(timeout=60)
        return model

    monkeypatch.setattr(OpenVINOEngine, "_convert", meeting)
    # Not through `run`: before Python 3.12 a cached property lets in one thread at a time.
    engines = [OpenVINOEngine(tiny, batch_size=1, cache=tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(engine._converted) for engine in engines]:
            job.result()
    assert len(list((tmp_path / "networks").iterdir())) == 1  # no remains of the slower one
    monkeypatch.setattr(OpenVINOEngine, "_convert", lambda self: pytest.fail("was not kept"))
    assert least_cosine(one(tiny, tmp_path), reference(tiny, some_pixels(1))) > 0.9999


@pytest.mark.usefixtures("conversions")
def test_openvino_unwritable_cache_still_runs(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("a file where the folder should be")
    assert one(tiny, tmp_path).shape == (1, tiny.n_features)


@pytest.mark.usefixtures("conversions")
def test_openvino_full_disk_still_runs(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: Any, path: Path, **named: Any) -> None:
        Path(path).write_text("<half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(openvino, "save_model", full)
    assert one(tiny, tmp_path).shape == (1, tiny.n_features)
    assert list((tmp_path / "networks").iterdir()) == []


def test_openvino_conversion_warns_of_nothing(
    lite0: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    """SAME padding makes PyTorch's tracer warn, which nobody could mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OpenVINOEngine(lite0)._converted()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
