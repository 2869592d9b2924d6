"""Gradients of depthwise convolutions against PyTorch's own, in double precision."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toptune.finetuning.training import depthwise
from toptune.finetuning.training.depthwise import FastDepthwise

SHAPES = [
    # kernel, stride, padding, height, width
    (kernel, stride, padding, 13, 10)
    for kernel, stride, padding in itertools.product(
        [(3, 3), (5, 5), (7, 4)], [(1, 1), (2, 2), (3, 1)], [(0, 0), (2, 1)]
    )
] + [((2, 2), (4, 4), (0, 0), 11, 9), ((5, 5), (2, 2), (2, 2), 8, 8)]


@pytest.fixture(autouse=True)
def _as_with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of the two gradients of this project were computed."""
    found: list[str] = []
    for name in ("weight_gradient", "input_gradient"):
        original = getattr(depthwise, name)

        def noting(*args: object, name: str = name, original: object = original) -> Tensor:
            found.append(name)
            return original(*args)  # type: ignore[operator]

        monkeypatch.setattr(depthwise, name, noting)
    return found


def gradients(convolution: nn.Conv2d, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    parameters = [x, *convolution.parameters()]
    found = torch.autograd.grad(convolution(x), parameters, upstream)
    return [g.double() for g in found]


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), SHAPES)
def test_depthwise_gradients_equal_pytorch(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    height: int,
    width: int,
    calls: list[str],
) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(6, 6, kernel, stride=stride, padding=padding, groups=6)
    x = torch.randn(3, 6, height, width, generator=generator)
    upstream = torch.randn(convolution(x).shape, generator=generator)
    with FastDepthwise():
        found = gradients(convolution, x, upstream)
    reference = gradients(convolution.double(), x.double(), upstream.double())
    for a, b in zip(found, reference, strict=True):
        # A sum of at most 3 * 13 * 10 products of float32 numbers, each of about the size of b.
        assert (a - b).abs().max() <= 390 * torch.finfo(torch.float32).eps * b.abs().max()
    expected = {"weight_gradient"} if max(kernel) > 3 else set()
    expected |= {"input_gradient"} if max(stride) > 1 else set()
    assert set(calls) == expected


def test_depthwise_bfloat16_is_as_close_as_pytorch(calls: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16, bias=False)
    x = torch.randn(4, 16, 14, 14, generator=generator)
    upstream = torch.randn(4, 16, 7, 7, generator=generator).bfloat16()

    def under_autocast() -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return gradients(convolution, x, upstream)

    with FastDepthwise():
        found = under_autocast()
    assert set(calls) == {"weight_gradient", "input_gradient"}
    theirs = under_autocast()
    reference = gradients(convolution.double(), x.double(), upstream.double())
    for a, b, c in zip(found, theirs, reference, strict=True):
        own, other = ((g - c).norm() / c.norm() for g in (a, b))
        assert own <= 2 * other
        assert own <= 2 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 5, padding=2, groups=2),
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 5, padding="same", groups=4),
    ],
    ids=["dense", "grouped", "multiplied", "dilated", "small", "same"],
)
def test_depthwise_other_convolutions_are_unchanged(
    convolution: nn.Conv2d, calls: list[str]
) -> None:
    x = torch.ones(2, 4, 9, 9)
    with FastDepthwise():
        y = convolution(x)
        y.sum().backward()
    assert calls == []
    assert torch.equal(y, convolution(x))


def test_depthwise_without_gradients_does_nothing(calls: list[str]) -> None:
    convolution = nn.Conv2d(4, 4, 5, groups=4)
    x = torch.ones(1, 4, 9, 9)
    convolution(x).sum().backward()
    with FastDepthwise(), torch.no_grad():
        assert not F.conv2d(x, convolution.weight, groups=4).requires_grad
        convolution(x)
    assert calls == []


def test_depthwise_other_processors_use_pytorch(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with FastDepthwise():
        nn.Conv2d(4, 4, 5, groups=4)(torch.ones(1, 4, 9, 9)).sum().backward()
    assert calls == []
