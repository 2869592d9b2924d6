"""Pixels that are at the network's size already."""

from __future__ import annotations

import numpy as np
from features_helpers import some_pixels

from toptune.features import Backbone, TorchEngine, extract, load_backbone
from toptune.features.extract import in_range, pixel_features
from toptune.images import from_arrays


def test_pixel_features_equal_those_of_extract(tiny: Backbone) -> None:
    pixels = some_pixels(5)
    engine = TorchEngine(tiny, batch_size=2)
    whole = load_backbone(tiny.name, view="whole")  # does not change pixels of its own size
    expected = extract(from_arrays(pixels), whole, engine=engine, cache=None).X
    found = pixel_features(pixels, tiny, engine)
    assert found.dtype == expected.dtype == tiny.dtype
    np.testing.assert_array_equal(found, expected)


def test_in_range_too_large_values_are_clipped() -> None:
    found = in_range(np.array([1e6, -1e6, 1.0], dtype=np.float32), np.float16)
    assert found.dtype == np.float16
    assert found.tolist() == [65504.0, -65504.0, 1.0]
