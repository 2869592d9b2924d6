"""Engines agree with each other, keep the order, and are lazy."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from features_helpers import pixels_for, save_tiny

from toptune.errors import BackboneError, DataWarning
from toptune.features import (
    Backbone,
    Engine,
    OpenVINOEngine,
    TorchEngine,
    load_backbone,
    make_engine,
)
from toptune.features.engines import _precision

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA on this machine")
needs_bfloat16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16",
)


def run(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    size = engine.batch_size
    batches = (pixels[i : i + size] for i in range(0, len(pixels), size))
    return np.concatenate(list(engine.run(batches)))


def some_pixels(n: int) -> np.ndarray:
    """Noise of the size that the tiny network takes, uint8 (n, 160, 160, 3)."""
    return np.random.default_rng(0).integers(0, 256, (n, 160, 160, 3), dtype=np.uint8)


def reference(backbone: Backbone, pixels: np.ndarray) -> np.ndarray:
    """The module itself on pixels normalised by the formula, in PyTorch, one image at a time."""
    mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
    x = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    rows = [backbone.module(torch.tensor(image).permute(2, 0, 1)[None].float())[0] for image in x]
    features: np.ndarray = torch.stack(rows).numpy()
    return features


def least_cosine(A: np.ndarray, B: np.ndarray) -> float:
    A, B = A.astype(np.float64), B.astype(np.float64)
    norms = np.linalg.norm(A, axis=1) * np.linalg.norm(B, axis=1)
    return float(((A * B).sum(axis=1) / norms).min())


@pytest.mark.parametrize("network", ["lite0", "tiny"])
@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_float32_engines_agree_with_the_module(
    network: str, kind: str, request: pytest.FixtureRequest, photographs: list[np.ndarray]
) -> None:
    backbone: Backbone = request.getfixturevalue(network)
    pixels = pixels_for(backbone, photographs)
    engine = OpenVINOEngine(backbone) if kind == "openvino" else TorchEngine(backbone, batch_size=3)
    found = run(engine, pixels)
    assert found.shape == (len(pixels), backbone.n_features)
    assert found.dtype == np.float32
    expected = reference(backbone, pixels)
    assert least_cosine(found, expected) > 0.9999
    # Each of at most 60 layers sums up to 1152 products; their rounding errors, each below eps / 2,
    # add like a random walk: 60 sqrt(1152) eps / 2 = 1.2e-4 of the largest feature.
    atol = 1.2e-4 * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["torch", pytest.param("openvino", marks=needs_bfloat16)])
def test_bfloat16_stays_near_float32(
    kind: str, lite0: Backbone, photographs: list[np.ndarray]
) -> None:
    # One image: PyTorch takes seconds for it where the processor has no bfloat16.
    pixels = pixels_for(lite0, photographs[:1])[:1]
    build = TorchEngine if kind == "torch" else OpenVINOEngine
    engine = build(lite0, precision="bfloat16", batch_size=1)
    found = run(engine, pixels)
    assert found.dtype == np.float32
    exact = reference(lite0, pixels)
    # Weights and activations are rounded to 8 bits, by up to 2^-9 each; over 60 layers, added like
    # a random walk, with room for some growth: 10 % of the norm, which is a cosine of 0.995.
    assert least_cosine(found, exact) > 0.995
    assert np.abs(found - exact).max() > 1e-3 * np.abs(exact).max()  # it really was bfloat16


@needs_cuda
@pytest.mark.parametrize(("precision", "cosine"), [("float32", 0.9999), ("bfloat16", 0.995)])
def test_cuda_agrees_with_the_cpu(
    precision: str, cosine: float, lite0: Backbone, photographs: list[np.ndarray]
) -> None:
    pixels = pixels_for(lite0, photographs)
    exact = reference(lite0, pixels)
    engine = TorchEngine(lite0, device="cuda", precision=precision, batch_size=3)
    assert least_cosine(run(engine, pixels), exact) > cosine
    lite0.module.cpu()


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_a_short_batch_gives_the_same_bits(kind: str, tiny: Backbone) -> None:
    pixels = some_pixels(6)
    build = OpenVINOEngine if kind == "openvino" else TorchEngine
    engine = build(tiny, batch_size=6)
    whole, start = run(engine, pixels), run(engine, pixels[:2])
    assert start.shape == (2, tiny.n_features)
    np.testing.assert_array_equal(start, whole[:2])


def test_features_do_not_depend_on_neighbours_or_place_in_the_batch(
    lite0: Backbone, photographs: list[np.ndarray]
) -> None:
    pixels = pixels_for(lite0, photographs)  # 8 images
    engine = OpenVINOEngine(lite0, batch_size=4)
    whole = run(engine, pixels)
    order = [5, 0, 7, 2, 6, 1, 4, 3]
    np.testing.assert_array_equal(run(engine, pixels[order]), whole[order])
    alone = np.concatenate([run(engine, pixels[i : i + 1]) for i in range(8)])
    np.testing.assert_array_equal(alone, whole)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_order_is_kept_and_batches_are_asked_for_one_by_one(kind: str, tiny: Backbone) -> None:
    engine = (
        OpenVINOEngine(tiny, batch_size=2)
        if kind == "openvino"
        else TorchEngine(tiny, batch_size=2)
    )
    pixels = some_pixels(11)
    asked: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, 11, 2):
            asked.append(start)
            yield pixels[start : start + 2]

    rows = engine.run(batches())
    first = next(rows)
    # It starts what it can run at once and no more, so that the caller decodes meanwhile.
    at_once = 1
    if isinstance(engine, OpenVINOEngine):
        at_once = engine._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    assert len(asked) == min(at_once, 6)
    found = np.concatenate([first, *rows])
    assert len(asked) == 6
    assert least_cosine(found, reference(tiny, pixels)) > 0.9999


class Watched:
    """A compiled network that counts its requests which are started and not yet waited for."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.in_flight = 0
        self.most = 0

    def get_property(self, name: str) -> Any:
        return self.compiled.get_property(name)

    def create_infer_request(self) -> WatchedRequest:
        return WatchedRequest(self, self.compiled.create_infer_request())


class WatchedRequest:
    def __init__(self, owner: Watched, request: Any) -> None:
        self.owner = owner
        self.request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def start_async(self) -> None:
        self.owner.in_flight += 1
        self.owner.most = max(self.owner.most, self.owner.in_flight)
        self.request.start_async()

    def wait(self) -> None:
        self.request.wait()
        self.owner.in_flight -= 1


@pytest.mark.parametrize("end", ["consumer stops", "source fails", "all done"])
def test_nothing_is_left_in_flight(end: str, tiny: Backbone) -> None:
    """A request that outlives its input reads memory that is no longer its own."""
    engine = OpenVINOEngine(tiny, batch_size=1)
    watched = engine.__dict__["_compiled"] = Watched(engine._compiled)
    at_once = watched.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")

    def batches() -> Iterator[np.ndarray]:
        for k in range(at_once + 2):
            yield np.full((1, 160, 160, 3), k, np.uint8)
        if end == "source fails":
            raise OSError("no more")

    rows = engine.run(batches())
    first = next(rows)
    if end == "consumer stops":
        rows.close()  # type: ignore[attr-defined]
    elif end == "source fails":
        with pytest.raises(OSError, match="no more"):
            list(rows)
    else:
        assert len(list(rows)) == at_once + 1
    assert watched.most == at_once
    assert watched.in_flight == 0
    np.testing.assert_array_equal(run(engine, np.zeros((1, 160, 160, 3), np.uint8)), first)


def test_too_large_a_batch_is_refused(tiny: Backbone) -> None:
    engine = OpenVINOEngine(tiny, batch_size=2)
    with pytest.raises(ValueError, match="a batch has 3 images, at most 2 fit"):
        list(engine.run([np.zeros((3, 160, 160, 3), np.uint8)]))


def test_no_batches_no_rows(tiny: Backbone) -> None:
    assert list(OpenVINOEngine(tiny).run([])) == []


# -------------------------------------------------------------------------- the converted network


def one(backbone: Backbone, cache: Path | None) -> np.ndarray:
    return run(OpenVINOEngine(backbone, batch_size=1, cache=cache), some_pixels(1))


def test_a_converted_network_is_kept_and_used(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = one(tiny, tmp_path)
    assert len(list((tmp_path / "networks").iterdir())) == 1
    monkeypatch.setattr(OpenVINOEngine, "_convert", lambda self: pytest.fail("converted again"))
    np.testing.assert_array_equal(one(tiny, tmp_path), first)


@pytest.mark.parametrize(
    ("part", "length"),
    [("network.xml", 0), ("network.xml", 100), ("network.bin", None), ("network.bin", 100)],
)
def test_a_damaged_converted_network_is_replaced(
    part: str, length: int | None, tiny: Backbone, tmp_path: Path
) -> None:
    first = one(tiny, tmp_path)
    (folder,) = (tmp_path / "networks").iterdir()
    path = folder / part
    size = path.stat().st_size
    if length is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    np.testing.assert_array_equal(one(tiny, tmp_path), first)
    assert path.stat().st_size == size
    assert list((tmp_path / "networks").iterdir()) == [folder]


def test_another_network_or_batch_size_is_converted_for_itself(
    tiny: Backbone, tmp_path: Path
) -> None:
    one(tiny, tmp_path)
    other = load_backbone(f"test_resnet={save_tiny(tmp_path / 'other.safetensors', seed=1)}")
    assert (one(other, tmp_path) != one(tiny, tmp_path)).any()
    OpenVINOEngine(tiny, batch_size=2, cache=tmp_path)._converted()
    assert len(list((tmp_path / "networks").iterdir())) == 3


def test_two_may_convert_at_once(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found nothing and have converted; now both store what they have."""
    convert, turn, both = OpenVINOEngine._convert, threading.Lock(), threading.Barrier(2)

    def meeting(self: OpenVINOEngine) -> Any:
        with turn:
            model = convert(self)
        both.wait(timeout=60)
        return model

    monkeypatch.setattr(OpenVINOEngine, "_convert", meeting)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(OpenVINOEngine(tiny, batch_size=1, cache=tmp_path)._converted)
            for _ in range(2)
        ]
        assert all(job.result() is not None for job in jobs)
    assert len(list((tmp_path / "networks").iterdir())) == 1  # no remains of the slower one
    monkeypatch.setattr(OpenVINOEngine, "_convert", lambda self: pytest.fail("converted again"))
    assert least_cosine(one(tiny, tmp_path), reference(tiny, some_pixels(1))) > 0.9999


def test_a_cache_that_cannot_be_written_costs_only_time(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("a file where the folder should be")
    assert one(tiny, tmp_path).shape == (1, tiny.n_features)


def test_a_disk_that_fills_up_costs_only_time(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: Any, path: Path, **named: Any) -> None:
        Path(path).write_text("<half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(openvino, "save_model", full)
    assert one(tiny, tmp_path).shape == (1, tiny.n_features)
    assert list((tmp_path / "networks").iterdir()) == []


def test_converting_says_nothing(
    lite0: Backbone, tiny: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    """SAME padding makes PyTorch's tracer warn, which nobody could mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OpenVINOEngine(lite0)._converted()
        one(tiny, None)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# ------------------------------------------------------------------------------------- the choice


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_the_choice_without_cuda(tiny: Backbone) -> None:
    engine = make_engine(tiny, precision="float32")
    assert (engine.name, engine.device, engine.precision) == ("OpenVINO", "cpu", "float32")
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    expected = "bfloat16" if "BF16" in capabilities else "float32"
    assert make_engine(tiny).precision == expected
    assert make_engine(tiny, kind="torch").name == "PyTorch"
    assert make_engine(tiny, kind="torch").precision == "float32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_a_network_that_openvino_cannot_run_is_run_by_pytorch(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(self: OpenVINOEngine) -> None:
        raise RuntimeError("no such operation: frobnicate\nat line 7")

    monkeypatch.setattr(OpenVINOEngine, "_convert", impossible)
    pixels = some_pixels(5)
    engine = make_engine(tiny, precision="float32")
    with pytest.warns(DataWarning, match=r"PyTorch does, more slowly: no such .*frobnicate$"):
        found = run(engine, pixels)
    assert engine.name == "PyTorch"
    assert least_cosine(found, reference(tiny, pixels)) > 0.9999
    with pytest.raises(RuntimeError, match="frobnicate"):
        run(make_engine(tiny, kind="openvino", precision="float32"), pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_an_error_without_text_is_named_by_its_type(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(self: OpenVINOEngine) -> None:
        raise RuntimeError

    monkeypatch.setattr(OpenVINOEngine, "_convert", impossible)
    with pytest.warns(DataWarning, match="more slowly: RuntimeError$"):
        run(make_engine(tiny), np.zeros((1, 160, 160, 3), np.uint8))


def test_unknown_choices_are_named(tiny: Backbone) -> None:
    with pytest.raises(ValueError, match="kind must be auto, openvino or torch, got 'onnx'"):
        make_engine(tiny, kind="onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"precision must be .* got 'int8'"):
        make_engine(tiny, precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "has", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", True, "bfloat16"),
    ],
)
def test_precision(wanted: str, has: bool, expected: str) -> None:
    assert _precision(wanted, has_bfloat16=has) == expected


def test_bfloat16_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BackboneError, match="no bfloat16"):
        _precision("bfloat16", has_bfloat16=False)
