"""What runs a frozen network: OpenVINO on CPUs, PyTorch on CUDA and, as the reference, on CPUs.

An engine takes batches of pixels, uint8 in (b, h, w, 3), and gives features, float32 in (b, d), in
the order of the batches. It is lazy on both sides: it asks for a batch when it can start one and
yields when the oldest is done, so that the caller can decode while it computes. Short batches are
filled up before they run, so that the features of an image do not depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino.frontend import OpConversionFailure
from torch import Tensor

from toptune.errors import BackboneError, DataWarning
from toptune.features.backbones import Backbone

Precision = Literal["auto", "float32", "bfloat16"]

# Measured on two cores with EfficientNet-Lite 0: sizes 1 to 8 are equally fast, larger ones slower
# (their activations leave the processor's cache) and slow to compile.
_OPENVINO_BATCH = 4
_TORCH_CPU_BATCH = 32
_CUDA_BATCH = 256


class Engine(ABC):
    """Runs one network; it is built on the first use.

    Attributes
    ----------
    name : str
        Library.
    device : str
        "cpu" or "cuda".
    precision : {"float32", "bfloat16"}
        Of the arithmetic; features are float32 always.
    batch_size : int
        Images per batch.
    """

    backbone: Backbone
    name: str
    device: str
    precision: str
    batch_size: int

    @abstractmethod
    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute features.

        Parameters
        ----------
        batches : iterable of ndarray of uint8, shape (b, height, width, 3)
            Pixels; b is at most `batch_size`.

        Yields
        ------
        ndarray of float32, shape (b, d)
            One per batch, in order.
        """

    def prepare(self) -> None:
        """Convert and compile the network now, by a black image, not when `run` is first called."""
        height, width = self.backbone.preprocessing.geometry.size
        list(self.run([np.zeros((1, height, width, 3), np.uint8)]))

    def _filled(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`batch` with rows of zeros up to the size that the engine runs."""
        missing = self.batch_size - len(batch)
        if missing < 0:
            raise ValueError(f"a batch has {len(batch)} images, at most {self.batch_size} fit")
        if missing == 0:
            return np.ascontiguousarray(batch)
        return np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.uint8)])


class OpenVINOEngine(Engine):
    """OpenVINO on the CPU: several small requests in flight, normalisation inside the graph.

    Parameters
    ----------
    backbone : Backbone
        Network.
    precision : {"float32", "bfloat16"}, default="float32"
        bfloat16 needs a processor that has it.
    batch_size : int, optional
        Images per request.
    cache : Path or None
        Folder that keeps the converted network; converting takes some seconds, reading it little.
    fallback : Engine, optional
        What runs the network, with a warning, where OpenVINO cannot convert it.
    """

    name = "OpenVINO"
    device = "cpu"

    def __init__(
        self,
        backbone: Backbone,
        *,
        precision: str = "float32",
        batch_size: int = _OPENVINO_BATCH,
        cache: Path | None = None,
        fallback: Engine | None = None,
    ) -> None:
        self.backbone = backbone
        self.precision = precision
        self.batch_size = batch_size
        self.cache = cache
        self.fallback = fallback

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute features; see `Engine.run`."""
        rest = iter(batches)
        first = next(rest, None)
        if first is None:  # nothing need be built
            return
        given = chain([first], rest)
        try:
            compiled = self._compiled
        except (RuntimeError, TypeError, OpConversionFailure) as error:
            if self.fallback is None:
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(
                f"OpenVINO cannot run {self.backbone.name}, so PyTorch does, more slowly: {reason}",
                DataWarning,
                stacklevel=2,
            )
            self.name = self.fallback.name
            yield from self.fallback.run(given)
            return
        n_requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        idle = [compiled.create_infer_request() for _ in range(n_requests)]
        busy: deque[tuple[Any, int]] = deque()
        try:
            for batch in given:
                request = idle.pop()
                request.set_input_tensor(openvino.Tensor(self._filled(batch)))
                request.start_async()
                busy.append((request, len(batch)))
                if not idle:
                    yield self._finish(busy, idle)
            while busy:
                yield self._finish(busy, idle)
        finally:
            for request, _ in busy:  # a request must not outlive its input
                request.wait()

    @staticmethod
    def _finish(busy: deque[tuple[Any, int]], idle: list[Any]) -> NDArray[np.float32]:
        request, size = busy[0]
        request.wait()
        busy.popleft()
        idle.append(request)
        rows: NDArray[np.float32] = request.get_output_tensor(0).data[:size].copy()
        return rows

    @cached_property
    def _compiled(self) -> Any:
        model = self._converted()
        height, width = self.backbone.preprocessing.geometry.size
        normalising = openvino.preprocess.PrePostProcessor(model)
        pixels = normalising.input()
        pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        pixels.tensor().set_shape([self.batch_size, height, width, 3])
        pixels.model().set_layout(openvino.Layout("NCHW"))
        pixels.preprocess().convert_element_type(openvino.Type.f32).mean(
            [255.0 * v for v in self.backbone.preprocessing.mean]
        ).scale([255.0 * v for v in self.backbone.preprocessing.std])
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bfloat16" else "f32",
        }
        return openvino.Core().compile_model(normalising.build(), "CPU", settings)

    def _converted(self) -> Any:
        """Return the network as an OpenVINO model, from the cache where it was converted before."""
        if self.cache is None:
            return self._convert()
        recipe = {
            **self.backbone.spec(),
            "batch_size": self.batch_size,
            "versions": [version(name) for name in ("torch", "timm", "openvino")],
        }
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]
        folder = self.cache / "networks" / key
        try:
            return openvino.Core().read_model(folder / "network.xml")
        except RuntimeError:
            model = self._convert()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as new:
                part = Path(new) / key
                part.mkdir()
                openvino.save_model(model, part / "network.xml", compress_to_fp16=False)
                shutil.rmtree(folder, ignore_errors=True)  # one that could not be read
                part.rename(folder)
        except (OSError, RuntimeError):
            # It only saves time: another process was quicker, or the disk is full.
            return model
        return model

    def _convert(self) -> Any:
        height, width = self.backbone.preprocessing.geometry.size
        example = torch.zeros(self.batch_size, 3, height, width)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, which users cannot act on
            module = self.backbone.module.cpu()  # a CUDA engine may have moved it
            traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            return openvino.convert_model(traced, input=list(example.shape))


class TorchEngine(Engine):
    """PyTorch: channels-last, autocast and pinned memory on CUDA; plain on the CPU.

    Parameters
    ----------
    backbone : Backbone
        Network.
    device : {"cpu", "cuda"}, default="cpu"
        Where it runs.
    precision : {"float32", "bfloat16"}, default="float32"
        bfloat16 is PyTorch's autocast.
    batch_size : int, optional
        Images per batch.
    """

    name = "PyTorch"

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str = "cpu",
        precision: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.device = device
        self.precision = precision
        self.batch_size = batch_size or (_CUDA_BATCH if device == "cuda" else _TORCH_CPU_BATCH)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute features; see `Engine.run`."""
        layout = torch.channels_last if self.device == "cuda" else torch.contiguous_format
        module = self.backbone.module.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        preprocessing = self.backbone.preprocessing
        mean, std = (
            255.0 * torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        # On CUDA the launches return at once: the result of a batch is fetched after the next one
        # was sent, so that decoding, copying and computing overlap.
        waiting: deque[tuple[Tensor, int]] = deque()
        for batch in batches:
            with torch.inference_mode(), self._autocast():
                pixels = self._sent(batch).permute(0, 3, 1, 2).float()
                x = ((pixels - mean) / std).contiguous(memory_format=layout)
                waiting.append((module(x), len(batch)))
            if len(waiting) > (1 if self.device == "cuda" else 0):
                yield self._fetched(*waiting.popleft())
        while waiting:
            yield self._fetched(*waiting.popleft())

    def _sent(self, batch: NDArray[np.uint8]) -> Tensor:  # (b, h, w, 3) on the device
        pixels = torch.from_numpy(self._filled(batch))
        if self.device == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(self.device, non_blocking=True)

    @staticmethod
    def _fetched(features: Tensor, size: int) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = features[:size].float().cpu().numpy()
        return rows

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def make_engine(
    backbone: Backbone,
    *,
    precision: Precision = "auto",
    cache: Path | None = None,
) -> Engine:
    """Choose what runs a network: PyTorch where there is CUDA, else OpenVINO.

    Parameters
    ----------
    backbone : Backbone
        Network.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" is bfloat16 where the processor has it.
    cache : Path or None
        Folder that keeps converted networks.

    Returns
    -------
    Engine
        Not built yet.

    Raises
    ------
    BackboneError
        If the processor has no bfloat16 and it was asked for.
    ValueError
        For another precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision must be auto, float32 or bfloat16, got {precision!r}")
    if torch.cuda.is_available():
        chosen = _precision(precision, has_bfloat16=torch.cuda.is_bf16_supported())
        return TorchEngine(backbone, device="cuda", precision=chosen)
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    chosen = _precision(precision, has_bfloat16="BF16" in capabilities)
    reference = TorchEngine(backbone, precision=chosen, batch_size=_OPENVINO_BATCH)
    return OpenVINOEngine(backbone, precision=chosen, cache=cache, fallback=reference)


def _precision(wanted: str, *, has_bfloat16: bool) -> str:
    if wanted == "auto":
        return "bfloat16" if has_bfloat16 else "float32"
    if wanted == "bfloat16" and not has_bfloat16:
        raise BackboneError("this processor has no bfloat16: use precision float32 or auto")
    return wanted
