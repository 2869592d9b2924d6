"""Features of several layers are kept in half precision; those of one layer are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extract_helpers import ToyEngine, cached_rows, noise, same

from toptune.errors import DataWarning
from toptune.features import Backbone, Engine, FeatureCache, Features, extract, load_backbone
from toptune.images import from_arrays

LAYERS = ["last", "layer4:mean"]
LARGEST = 65504.0


@pytest.fixture
def layered(tiny_file: Path) -> Backbone:
    return load_backbone(f"test_resnet={tiny_file}", layers=LAYERS)


class Huge(ToyEngine):
    """Gives each image the same features, of which some are beyond half precision."""

    beyond = np.array([LARGEST, -LARGEST, 65520.0, -1e6, 3e38, 1e-9], dtype=np.float32)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        x = super().features(pixels)
        x[: len(self.beyond)] = self.beyond
        return x


def test_backbone_dtype_follows_number_of_layers(tiny: Backbone, layered: Backbone) -> None:
    assert tiny.dtype == np.float32
    assert layered.dtype == np.float16
    images = noise(5)
    one = extract(images, tiny, engine=ToyEngine(tiny))
    several = extract(images, layered, engine=ToyEngine(layered))
    assert (one.X.dtype, several.X.dtype) == (np.float32, np.float16)
    assert several.layers == {"last": 96, "layer4:mean": 96}
    # Each is the nearest number of half precision.
    np.testing.assert_array_equal(several.X[:, :96], one.X.astype(np.float16))


def test_backbone_one_named_layer_is_float32(tiny_file: Path) -> None:
    backbone = load_backbone(f"test_resnet={tiny_file}", layers=["layer4:2x2"])
    assert extract(noise(2), backbone, engine=ToyEngine(backbone)).X.dtype == np.float32


@pytest.mark.parametrize("build", [ToyEngine, Huge])
def test_extract_several_layers_cached_gives_the_same_bits(
    build: type[ToyEngine], layered: Backbone
) -> None:
    images, engine = noise(9), build(layered)
    first = extract(images, layered, engine=engine)
    again = extract(images, layered, engine=engine)
    assert engine.n_images == 9
    same(first, again)
    assert again.X.dtype == np.float16
    assert cached_rows() == 9


def test_extract_several_layers_repeated_gives_the_same(layered: Backbone) -> None:
    from toptune.features import TorchEngine

    images = noise(3)
    engine: Engine = TorchEngine(layered, batch_size=2)
    first = extract(images, layered, engine=engine)
    same(first, extract(images, layered, engine=engine))
    same(first, extract(images, layered, engine=engine, cache=None))
    # "last" of this network is the mean of its last stage.
    np.testing.assert_allclose(first.X[:, :96], first.X[:, 96:], rtol=2**-10, atol=2**-14)


def test_extract_several_layers_clips_too_large_values(layered: Backbone) -> None:
    found = extract(noise(2), layered, engine=Huge(layered))
    assert found.quarantined == ()
    expected = np.array([LARGEST, -LARGEST, LARGEST, -LARGEST, LARGEST, 0.0], dtype=np.float16)
    np.testing.assert_array_equal(found.X[:, :6], [expected] * 2)


def test_extract_one_layer_does_not_clip(tiny: Backbone) -> None:
    found = extract(noise(2), tiny, engine=Huge(tiny))
    np.testing.assert_array_equal(found.X[:, :6], [Huge.beyond] * 2)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_extract_several_layers_not_finite_is_quarantined(value: float, layered: Backbone) -> None:
    class Sick(ToyEngine):
        def features(self, pixels: np.ndarray) -> np.ndarray:
            x = super().features(pixels)
            if (pixels == 0).all():
                x[100] = value
            return x

    good, other = noise(2).sources
    images = from_arrays([good, np.zeros((9, 9, 3), np.uint8), other])
    with pytest.warns(DataWarning, match="1 image could not be read"):
        found = extract(images, layered, engine=Sick(layered))
    assert [item.id for item in found.quarantined] == ["image-000001"]
    assert "not finite" in found.quarantined[0].reason
    assert np.isfinite(found.X).all()
    assert cached_rows() == 2


def test_cache_half_precision_round_trips(tmp_path: Path) -> None:
    x = np.array([1.0, -2.5, LARGEST, 6e-8], dtype=np.float16)
    spec = {"network": "a"}
    with FeatureCache(tmp_path, spec=spec, n_features=4, dtype=np.float16) as cache:
        cache.put([(b"digest", x)])
        found = cache.get(b"digest")
    assert found is not None
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("mapped", [False, True])
def test_features_half_precision_file_round_trips(
    mapped: bool, layered: Backbone, tmp_path: Path
) -> None:
    features = extract(noise(4), layered, engine=ToyEngine(layered))
    features.save(tmp_path / "f.safetensors")
    found = Features.load(tmp_path / "f.safetensors", mapped=mapped)
    assert found.X.dtype == np.float16
    np.testing.assert_array_equal(found.X, features.X)
    assert found.layers == features.layers
