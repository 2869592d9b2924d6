"""Engines agree with each other, keep the order, and are lazy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from features_helpers import least_cosine, pixels_for, reference, run, some_pixels

from toptune.errors import BackboneError, DataWarning
from toptune.features import Backbone, Engine, OpenVINOEngine, TorchEngine, make_engine
from toptune.features.engines import _precision

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA on this machine")
needs_bfloat16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16",
)


def built(kind: str, backbone: Backbone, networks: Path) -> Engine:
    """An engine with batches of 4, the size that OpenVINO takes by itself."""
    if kind == "openvino":
        return OpenVINOEngine(backbone, batch_size=4, cache=networks)
    return TorchEngine(backbone, batch_size=4)


@pytest.mark.parametrize("network", ["lite0", "tiny"])
@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_float32_agrees_with_module(
    network: str,
    kind: str,
    networks: Path,
    request: pytest.FixtureRequest,
    photographs: list[np.ndarray],
) -> None:
    backbone: Backbone = request.getfixturevalue(network)
    pixels = pixels_for(backbone, photographs)
    found = run(built(kind, backbone, networks), pixels)
    assert found.shape == (len(pixels), backbone.n_features)
    assert found.dtype == np.float32
    expected = reference(backbone, pixels)
    assert least_cosine(found, expected) > 0.9999
    # Each of at most 60 layers sums up to 1152 products; their rounding errors, each below eps / 2,
    # add like a random walk: 60 sqrt(1152) eps / 2 = 1.2e-4 of the largest feature.
    atol = 1.2e-4 * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["torch", pytest.param("openvino", marks=needs_bfloat16)])
def test_engine_bfloat16_is_near_float32(
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
def test_engine_cuda_agrees_with_cpu(
    precision: str, cosine: float, lite0: Backbone, photographs: list[np.ndarray]
) -> None:
    pixels = pixels_for(lite0, photographs)
    exact = reference(lite0, pixels)
    engine = TorchEngine(lite0, device="cuda", precision=precision, batch_size=3)
    assert least_cosine(run(engine, pixels), exact) > cosine
    lite0.module.cpu()


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_short_batch_gives_the_same_bits(kind: str, tiny: Backbone, networks: Path) -> None:
    pixels = some_pixels(4)
    engine = built(kind, tiny, networks)
    whole, start = run(engine, pixels), run(engine, pixels[:2])
    assert start.shape == (2, tiny.n_features)
    np.testing.assert_array_equal(start, whole[:2])


def test_engine_features_do_not_depend_on_neighbours(
    lite0: Backbone, networks: Path, photographs: list[np.ndarray]
) -> None:
    pixels = pixels_for(lite0, photographs)  # 8 images
    engine = OpenVINOEngine(lite0, batch_size=4, cache=networks)
    whole = run(engine, pixels)
    order = [5, 0, 7, 2, 6, 1, 4, 3]
    np.testing.assert_array_equal(run(engine, pixels[order]), whole[order])
    alone = np.concatenate([run(engine, pixels[i : i + 1]) for i in range(8)])
    np.testing.assert_array_equal(alone, whole)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_batches_are_lazy_and_in_order(kind: str, tiny: Backbone, networks: Path) -> None:
    engine = built(kind, tiny, networks)
    pixels = some_pixels(22)
    asked: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, 22, 4):
            asked.append(start)
            yield pixels[start : start + 4]

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
def test_openvino_closed_early_leaves_nothing_in_flight(
    end: str, tiny: Backbone, networks: Path
) -> None:
    """A request that outlives its input reads memory that is no longer its own."""
    engine = OpenVINOEngine(tiny, batch_size=1, cache=networks)
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


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_too_large_batch_raises(kind: str, tiny: Backbone, networks: Path) -> None:
    with pytest.raises(ValueError, match="a batch has 5 images, at most 4 fit"):
        list(built(kind, tiny, networks).run([some_pixels(5)]))


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_prepared_builds_nothing_later(
    kind: str, tiny: Backbone, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = built(kind, tiny, networks)
    engine.prepare()
    monkeypatch.setattr(OpenVINOEngine, "_convert", None)
    (rows,) = engine.run([np.zeros((1, *tiny.preprocessing.geometry.size, 3), np.uint8)])
    assert rows.shape[0] == 1


def test_engine_no_batches_builds_nothing(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run finds everything in the cache."""
    monkeypatch.setattr(OpenVINOEngine, "_convert", lambda self: pytest.fail("converted"))
    for engine in (OpenVINOEngine(tiny), make_engine(tiny, precision="float32")):
        assert list(engine.run([])) == []


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_engine_no_batches_yields_nothing(kind: str, tiny: Backbone, networks: Path) -> None:
    assert list(built(kind, tiny, networks).run([])) == []


# ------------------------------------------------------------------------------------- the choice


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_make_engine_without_cuda_is_openvino(tiny: Backbone) -> None:
    engine = make_engine(tiny, precision="float32")
    assert (engine.name, engine.device, engine.precision) == ("OpenVINO", "cpu", "float32")
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    expected = "bfloat16" if "BF16" in capabilities else "float32"
    assert make_engine(tiny).precision == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_openvino_unconvertible_network_falls_back_on_pytorch(
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
        run(OpenVINOEngine(tiny), pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA would be chosen")
def test_openvino_error_without_text_names_its_type(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(self: OpenVINOEngine) -> None:
        raise RuntimeError

    monkeypatch.setattr(OpenVINOEngine, "_convert", impossible)
    with pytest.warns(DataWarning, match="more slowly: RuntimeError$"):
        run(make_engine(tiny), np.zeros((1, 160, 160, 3), np.uint8))


def test_make_engine_unknown_precision_is_named(tiny: Backbone) -> None:
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
def test_precision_auto_follows_processor(wanted: str, has: bool, expected: str) -> None:
    assert _precision(wanted, has_bfloat16=has) == expected


def test_precision_missing_bfloat16_raises() -> None:
    with pytest.raises(BackboneError, match="no bfloat16"):
        _precision("bfloat16", has_bfloat16=False)
