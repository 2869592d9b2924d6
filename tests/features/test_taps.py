"""Taps: pooled maps of several layers against the layers' own activations; views; resolutions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from features_helpers import pixels_for, reference, run
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from toptune.errors import BackboneError
from toptune.features import Backbone, OpenVINOEngine, load_backbone
from toptune.features.backbones import AUTO_LAYERS, View
from toptune.features.taps import PROJECTED_CHANNELS, Tap, TappedNetwork, parse_layers
from toptune.images import decode

POOLINGS = ("mean", "std", "max", "2x2", "3x3", "cov")
#: Largest relative error of rounding to float32.
UNIT = 2.0**-24


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Name of a tiny network of an architecture, with random weights."""
    folder = tmp_path_factory.mktemp("architectures")

    def name(architecture: str) -> str:
        path = folder / f"{architecture}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            save_file(timm.create_model(architecture).state_dict(), path)
        return f"{architecture}={path}"

    return name


def images_for(backbone: Backbone, n: int = 2) -> torch.Tensor:
    """Normalised noise of the size that the network takes, (n, 3, h, w)."""
    size = backbone.preprocessing.geometry.size
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(0))


def inner(backbone: Backbone) -> nn.Module:
    """The timm network inside."""
    assert isinstance(backbone.module, TappedNetwork)
    return backbone.module.network


def activation(network: nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    """A copy of what the layer gives, in the moment it does."""
    kept: list[torch.Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    network(x)
    hook.remove()
    return kept[-1]


def as_map(A: torch.Tensor, layout: str = "NCHW", prefix: int = 0) -> np.ndarray:
    """Activation as float64 (b, k, h, w)."""
    a = A.double().numpy()
    if layout == "NHWC":
        a = np.moveaxis(a, 3, 1)
    elif layout == "tokens":
        a = a[:, prefix:]
        side = round(a.shape[1] ** 0.5)
        a = np.moveaxis(a.reshape(len(a), side, side, -1), 3, 1)
    return a


def cells(length: int, number: int) -> list[slice]:
    """Parts that cover an axis; where it is no multiple they share a position."""
    return [slice(j * length // number, -(-(j + 1) * length // number)) for j in range(number)]


def pooled(A: np.ndarray, how: str) -> tuple[np.ndarray, float]:
    """A map (b, k, h, w) pooled in float64, and what float32 may differ by.

    Sums over n positions, and over k channels where they are projected, add up rounding errors like
    a random walk; 8 standard deviations, on the scale of the largest term, are enough for all.
    """
    b, k, h, w = A.shape
    atol = 8 * (h * w) ** 0.5 * UNIT * np.abs(A).max()
    flat = A.reshape(b, k, h * w)
    if how == "mean":
        return flat.mean(2), atol
    if how == "std":
        return flat.std(2), atol
    if how == "max":
        return flat.max(2), 0.0
    if how == "cov":
        if k > 112:
            P = np.random.RandomState(0).randn(PROJECTED_CHANNELS, k) / k**0.5
            flat = P @ flat
        C = np.stack([np.cov(x, bias=True) for x in flat])
        i, j = np.triu_indices(C.shape[1])
        atol = 8 * (h * w + 2 * k) ** 0.5 * UNIT * np.abs(flat).max() ** 2
        return C[:, i, j], atol
    n = int(how[0])
    grid = [A[:, :, r, c].mean((2, 3)) for r in cells(h, n) for c in cells(w, n)]
    return np.stack(grid, axis=2).reshape(b, -1), atol


def parts_of(backbone: Backbone, rows: np.ndarray) -> dict[str, np.ndarray]:
    ends = np.cumsum(list(backbone.layers.values()))
    assert rows.shape[1] == ends[-1]
    return dict(zip(backbone.layers, np.split(rows, ends[:-1], axis=1), strict=True))


# ------------------------------------------------------------------------------ what is computed


@pytest.mark.parametrize(
    ("resolution", "sides"),
    [
        (160, {"layer2": 20, "layer3": 10, "layer4": 5}),  # no multiples of 3
        (192, {"layer2": 24, "layer3": 12, "layer4": 6}),  # multiples of both grids
        (32, {"layer2": 4, "layer3": 2, "layer4": 1}),  # fewer positions than cells
    ],
)
def test_taps_every_pooling_equals_own_map(
    resolution: int, sides: dict[str, int], tiny_file: Path
) -> None:
    names = [f"{layer}:{how}" for layer in sides for how in POOLINGS]
    backbone = load_backbone(f"test_resnet={tiny_file}", layers=names, resolution=resolution)
    assert list(backbone.layers) == names
    x = images_for(backbone)
    found = parts_of(backbone, backbone.module(x).numpy())
    for layer, side in sides.items():
        A = as_map(activation(inner(backbone), layer, x))
        assert A.shape[2:] == (side, side)
        for how in POOLINGS:
            expected, atol = pooled(A, how)
            np.testing.assert_allclose(
                found[f"{layer}:{how}"], expected, rtol=UNIT, atol=atol, err_msg=f"{layer}:{how}"
            )
    widths = {"layer2": 48, "layer3": 192, "layer4": 96}
    for layer, k in widths.items():
        projected = PROJECTED_CHANNELS if k > 112 else k
        assert backbone.layers[f"{layer}:cov"] == projected * (projected + 1) // 2
        assert backbone.layers[f"{layer}:3x3"] == 9 * k
        assert backbone.layers[f"{layer}:max"] == k


@pytest.mark.parametrize("layer", ["bn1", "layer1.0.bn1"])
def test_taps_overwritten_map_is_pooled_before(layer: str, tiny_file: Path) -> None:
    """Activations work in place: what follows the layer must not be in its features."""
    backbone = load_backbone(f"test_resnet={tiny_file}", layers=[layer])
    x = images_for(backbone)
    A = as_map(activation(inner(backbone), layer, x))
    assert A.min() < 0  # what ReLU would cut off
    expected, atol = pooled(A, "mean")
    np.testing.assert_allclose(backbone.module(x).numpy(), expected, rtol=UNIT, atol=atol)


@pytest.mark.parametrize(
    ("architecture", "layer", "layout"),
    [("test_vit", "blocks.3", "tokens"), ("test_mambaout", "stages.2", "NHWC")],
)
def test_taps_other_layouts_are_pooled(
    architecture: str, layer: str, layout: str, checkpoint: Callable[[str], str]
) -> None:
    names = [f"{layer}:{how}" for how in POOLINGS]
    backbone = load_backbone(checkpoint(architecture), layers=names)
    x = images_for(backbone)
    network = inner(backbone)
    prefix = getattr(network, "num_prefix_tokens", 0)
    A = as_map(activation(network, layer, x), layout, prefix)
    assert A.shape[2:] == (10, 10)
    found = parts_of(backbone, backbone.module(x).numpy())
    for how, name in zip(POOLINGS, names, strict=True):
        expected, atol = pooled(A, how)
        np.testing.assert_allclose(found[name], expected, rtol=UNIT, atol=atol, err_msg=name)


def test_taps_last_alone_is_the_network(tiny: Backbone, tiny_file: Path) -> None:
    tapped = load_backbone(f"test_resnet={tiny_file}", layers=["layer3", "last", "last:mean"])
    x = images_for(tiny)
    plain = tiny.module(x).numpy()
    parts = parts_of(tapped, tapped.module(x).numpy())
    np.testing.assert_array_equal(parts["last"], plain)
    # The head of this network is the mean of its final map.
    final = as_map(inner(tapped).forward_features(x))  # type: ignore[operator]
    expected, atol = pooled(final, "mean")
    np.testing.assert_allclose(parts["last:mean"], expected, rtol=UNIT, atol=atol)
    assert not isinstance(tiny.module, TappedNetwork)
    assert load_backbone(f"test_resnet={tiny_file}", layers="last").spec() == tiny.spec()


def test_taps_several_keep_names_and_order(tiny_file: Path) -> None:
    name = f"test_resnet={tiny_file}"
    backbone = load_backbone(name, layers=["layer4:2x2", "last", "layer1"])
    assert backbone.layers == {"layer4:2x2": 384, "last": 96, "layer1:mean": 32}
    assert list(backbone.layers) == ["layer4:2x2", "last", "layer1:mean"]
    assert backbone.n_features == 512
    assert list(dict(backbone.spec()["layers"]).items()) == list(backbone.layers.items())
    other = load_backbone(name, layers=["layer1", "last", "layer4:2x2"])
    x = images_for(backbone)
    for tap, part in parts_of(other, other.module(x).numpy()).items():
        np.testing.assert_array_equal(part, parts_of(backbone, backbone.module(x).numpy())[tap])
    assert load_backbone(name, layers="layer2:max").layers == {"layer2:max": 48}


def test_taps_any_keep_weights_and_hash(tiny: Backbone, tiny_file: Path) -> None:
    tapped = load_backbone(f"test_resnet={tiny_file}", layers="auto")
    assert tapped.weights_sha256 == tiny.weights_sha256
    assert tapped.preprocessing == tiny.preprocessing
    assert not tapped.module.training
    assert not any(p.requires_grad for p in tapped.module.parameters())
    # Constants of the poolings are no weights.
    assert len(tapped.module.state_dict()) == len(tiny.module.state_dict())


def test_taps_run_leaves_no_hook(tiny_file: Path) -> None:
    backbone = load_backbone(f"test_resnet={tiny_file}", layers=["layer2", "layer3:cov"])

    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in backbone.module.modules())

    assert hooks() == 0
    backbone.module(images_for(backbone))
    assert hooks() == 0
    with pytest.raises(RuntimeError):
        backbone.module(torch.zeros(1, 4, 160, 160))
    assert hooks() == 0


# ------------------------------------------------------------------------------------------ auto


def test_taps_auto_embedded_uses_its_choice(lite0: Backbone) -> None:
    backbone = load_backbone(layers="auto")
    assert tuple(backbone.layers) == AUTO_LAYERS
    assert backbone.layers == {
        "last": 1280,
        "blocks.4:3x3": 9 * 112,
        "blocks.5:3x3": 9 * 192,
        "blocks.6:3x3": 9 * 320,
        "blocks.4:cov": 112 * 113 // 2,
        "blocks.5:cov": 64 * 65 // 2,
    }
    x = images_for(backbone, 1)
    plain = lite0.module(x).numpy()
    np.testing.assert_array_equal(backbone.module(x).numpy()[:, :1280], plain)


@pytest.mark.parametrize(
    ("architecture", "stages"),
    [
        ("test_resnet", ["layer2", "layer3", "layer4"]),
        ("test_vit", ["blocks.3", "blocks.4", "blocks.5"]),
        ("test_mambaout", ["stages.1", "stages.2", "stages.3"]),
        ("test_efficientnet", ["blocks.2", "blocks.3", "blocks.4"]),
    ],
)
def test_taps_auto_other_takes_late_stages(
    architecture: str, stages: list[str], checkpoint: Callable[[str], str]
) -> None:
    backbone = load_backbone(checkpoint(architecture), layers="auto")
    expected = ["last", *(f"{s}:3x3" for s in stages), *(f"{s}:cov" for s in stages[1:])]
    assert list(backbone.layers) == expected
    assert np.isfinite(backbone.module(images_for(backbone)).numpy()).all()


def test_taps_auto_without_stages_warns() -> None:
    assert parse_layers("auto", nn.Linear(2, 2)) == (Tap("last", ""),)


# -------------------------------------------------------------------------------------- OpenVINO


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        (
            "test_resnet",
            [
                "last",
                "bn1",
                *(f"{layer}:{how}" for layer in ("layer3", "layer4", "last") for how in POOLINGS),
            ],
        ),
        ("test_vit", ["last", *(f"blocks.4:{how}" for how in POOLINGS)]),
        ("test_mambaout", ["last", *(f"stages.3:{how}" for how in POOLINGS)]),
    ],
)
def test_openvino_every_pooling_agrees(
    architecture: str,
    layers: list[str],
    checkpoint: Callable[[str], str],
    photographs: list[np.ndarray],
) -> None:
    """Operations that it cannot convert would be found only here: PyTorch would step in."""
    backbone = load_backbone(checkpoint(architecture), layers=layers)
    _agree(backbone, photographs[:1], n_layers=20, longest_sum=1728)


def test_openvino_default_layers_agree(photographs: list[np.ndarray]) -> None:
    backbone = load_backbone(layers="auto", view="whole")
    _agree(backbone, photographs[:1], n_layers=60, longest_sum=1152)


@pytest.mark.parametrize("view", ["mirrored", "crops"])
def test_openvino_several_views_agree(
    view: View, tiny_file: Path, photographs: list[np.ndarray]
) -> None:
    layers = ["last", "layer4:2x2"]
    backbone = load_backbone(f"test_resnet={tiny_file}", layers=layers, view=view, resolution=64)
    _agree(backbone, photographs[:1], n_layers=20, longest_sum=1728)


def _agree(
    backbone: Backbone, photographs: list[np.ndarray], *, n_layers: int, longest_sum: int
) -> None:
    """Compare OpenVINO in float32 with the module.

    Rounding errors of the sums, each below eps / 2, add like a random walk over the layers. They
    are relative to the activations, of which the largest mean of the tapped layer is a lower bound;
    covariances are of second degree, so their relative errors are twice as large.
    """
    pixels = pixels_for(backbone, photographs)
    found = parts_of(backbone, run(OpenVINOEngine(backbone, batch_size=1), pixels))
    expected = parts_of(backbone, reference(backbone, pixels))
    for tap, part in expected.items():
        degree = 2 if tap.endswith(":cov") else 1
        atol = degree * n_layers * longest_sum**0.5 * UNIT * float(np.abs(part).max())
        np.testing.assert_allclose(found[tap], part, rtol=0, atol=atol, err_msg=tap)
        assert np.abs(part).max() > 0


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer9"], r"no layer 'layer9'; its stages are last, act1, layer1, .*layer4, and any"),
        ("layer9", "no layer 'layer9'"),
        ([""], "no layer ''"),
        ([":mean"], "no layer ''"),
        (["layer1:median"], r"pooling of 'layer1:median' must be one of mean, std, max, 2x2"),
        (["last:4x4"], "pooling of 'last:4x4' must be one of"),
        (["layer1", "last", "layer1:mean"], "the layer 'layer1:mean' is named twice"),
        (["last", "last"], "the layer 'last' is named twice"),
        ([], 'layers must be "last", "auto" or at least one name'),
        (["global_pool"], r"'global_pool' gives an array of shape \(1, 96\), which is no map"),
        (["fc"], "the layer 'fc' takes no part in the features"),
    ],
)
def test_taps_impossible_layers_raise(layers: list[str], message: str, tiny_file: Path) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"test_resnet={tiny_file}", layers=layers)


class _Strange(nn.Module):
    """A network of which one module gives a dictionary."""

    class Inside(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"map": x}

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.inside = self.Inside()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(self.first(x))["map"]  # type: ignore[no-any-return]

    def forward_head(self, x: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        return x.mean((2, 3))


def test_taps_layer_without_array_raises() -> None:
    with pytest.raises(BackboneError, match="the layer 'inside' gives no array"):
        TappedNetwork(_Strange(), [Tap("inside", "mean")], (8, 8))
    assert TappedNetwork(_Strange(), [Tap("first", "max")], (8, 8)).layers == {"first:max": 4}


# -------------------------------------------------------------------------- views and resolutions


def test_view_whole_sees_all_of_the_image(tiny_file: Path, photographs: list[np.ndarray]) -> None:
    name = f"test_resnet={tiny_file}"
    chelsea = photographs[1]  # 300 x 451
    geometry = load_backbone(name, view="whole").preprocessing.geometry
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = Image.fromarray(chelsea).resize((160, 160), filters[geometry.interpolation])
    difference = decode(chelsea, geometry).astype(int) - np.asarray(resized).astype(int)
    assert np.abs(difference).max() <= 1

    edges = np.zeros((100, 200, 3), np.uint8)
    edges[:, :10] = edges[:, -10:] = 255  # a twentieth at each side
    assert decode(edges, geometry)[:, [0, -1]].min() > 200
    center = load_backbone(name).preprocessing.geometry
    assert decode(edges, center).max() == 0


def test_view_any_is_part_of_spec(tiny_file: Path) -> None:
    specs = [
        load_backbone(f"test_resnet={tiny_file}", view=view).spec()  # type: ignore[arg-type]
        for view in ("center", "whole", "mirrored", "crops")
    ]
    assert all(specs[i] != specs[j] for i in range(4) for j in range(i))
    assert {spec["weights_sha256"] for spec in specs} == {specs[0]["weights_sha256"]}


def test_view_crops_are_five_windows(tiny_file: Path) -> None:
    name = f"test_resnet={tiny_file}"
    layers = ["last", "layer4:2x2"]
    whole = load_backbone(name, layers=layers, view="whole", resolution=96)
    crops = load_backbone(name, layers=layers, view="crops", resolution=96)
    assert crops.layers == whole.layers
    assert crops.preprocessing.geometry.size == (110, 110)  # 96 is 7/8 of 109.7
    assert crops.preprocessing.geometry.crop_mode == "squash"
    x = images_for(crops)
    windows = [
        x[:, :, i : i + 96, j : j + 96] for i, j in [(0, 0), (0, 14), (14, 0), (14, 14), (7, 7)]
    ]
    expected = np.mean([whole.module(w).double().numpy() for w in windows], axis=0)
    # A sum of five numbers in float32, and one division.
    np.testing.assert_allclose(crops.module(x).numpy(), expected, rtol=6 * UNIT)


@pytest.mark.parametrize("layers", ["last", ["last", "layer4:3x3", "layer4:cov"]])
def test_view_mirrored_is_mean_of_both(layers: str | list[str], tiny_file: Path) -> None:
    name = f"test_resnet={tiny_file}"
    whole = load_backbone(name, layers=layers, view="whole")
    mirrored = load_backbone(name, layers=layers, view="mirrored")
    assert mirrored.layers == whole.layers
    assert mirrored.preprocessing.geometry == whole.preprocessing.geometry
    x = images_for(whole)
    found = mirrored.module(x).numpy()
    one, other = whole.module(x).double().numpy(), whole.module(x.flip(3)).double().numpy()
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()
    # Covariances may cancel: their errors are relative to the larger of the two.
    atol = 4 * UNIT * np.maximum(np.abs(one), np.abs(other)).max()
    np.testing.assert_allclose(found, (one + other) / 2, rtol=0, atol=atol)
    # The sum of two numbers does not depend on their order, to the last bit.
    np.testing.assert_array_equal(mirrored.module(x.flip(3)).numpy(), found)


def test_resolution_given_is_that_of_the_input(
    tiny: Backbone, tiny_file: Path, photographs: list[np.ndarray]
) -> None:
    small = load_backbone(f"test_resnet={tiny_file}", resolution=64)
    assert small.preprocessing.geometry.size == (64, 64)
    assert small.layers == tiny.layers
    assert small.spec() != tiny.spec()
    assert pixels_for(small, photographs[:1]).shape == (2, 64, 64, 3)
    x = images_for(small)
    np.testing.assert_array_equal(small.module(x).numpy(), tiny.module(x).numpy())


@pytest.mark.parametrize("layers", ["last", "auto"])
def test_resolution_impossible_raises(layers: str, checkpoint: Callable[[str], str]) -> None:
    """The table of positions of this transformer has one size."""
    name = checkpoint("vit_tiny_patch16_224")
    with pytest.raises(BackboneError, match=r"vit_tiny.* cannot run on \(192, 192\) pixels: "):
        load_backbone(name, layers=layers, resolution=192)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "left"}, "view must be one of center, whole, mirrored, crops, got 'left'"),
        ({"resolution": 31}, "resolution must be at least 32 pixels, got 31"),
        ({"resolution": -224}, "resolution must be at least 32 pixels, got -224"),
    ],
)
def test_view_and_resolution_unknown_raise(options: dict, message: str, tiny_file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(f"test_resnet={tiny_file}", **options)
