"""Crops, mirror images and the geometry they come from."""

from __future__ import annotations

import numpy as np
import pytest
from training_helpers import recipe, tiny_run

from toptune.features import Backbone
from toptune.finetuning.training import loop
from toptune.finetuning.training.augmentation import (
    AREA,
    ASPECT,
    EpochPlan,
    normalised,
    plan_epoch,
    training_batch,
)
from toptune.finetuning.training.pixels import training_geometry
from toptune.images import Geometry, decode


def plan(n: int = 2000, *, flip: bool = True, seed: int = 0) -> EpochPlan:
    return plan_epoch(n, (200, 100), flip=flip, generator=np.random.default_rng(seed))


def test_plan_epoch_crops_have_area_and_aspect() -> None:
    upper, left, lower, right = plan().boxes.T
    assert upper.min() >= 0
    assert left.min() >= 0
    assert lower.max() <= 200
    assert right.max() <= 100
    height, width = (lower - upper) / 200, (right - left) / 100
    area = height * width
    # A side that is cut at the picture's edge makes the area smaller, by at most sqrt(ASPECT).
    assert area.min() >= AREA - 0.01
    assert np.quantile(area, 0.99) > 0.9
    aspect = height / width
    assert 1 / ASPECT - 0.03 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < ASPECT + 0.03


def test_plan_epoch_order_and_flips_are_drawn() -> None:
    drawn = plan()
    assert np.array_equal(np.sort(drawn.order), np.arange(2000))
    assert not np.array_equal(drawn.order, np.arange(2000))
    assert 0.45 < drawn.mirrored.mean() < 0.55
    assert not plan(flip=False).mirrored.any()
    # Flipping changes nothing else.
    assert np.array_equal(plan(flip=False).boxes, drawn.boxes)
    assert not np.array_equal(plan(seed=1).boxes, drawn.boxes)


@pytest.mark.parametrize(("n", "sizes"), [(32, [16, 16]), (33, [11, 11, 11]), (5, [5])])
def test_plan_batches_are_nearly_equal(n: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in plan(n).batches(16)] == sizes


def test_training_batch_holds_planned_crops() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    drawn = EpochPlan(
        order=np.arange(2),
        boxes=np.array([[0, 0, 32, 32], [8, 4, 40, 36]]),
        mirrored=np.array([False, True]),
    )
    rows = np.array([2, 0])
    batch = training_batch(pictures, rows, drawn, np.array([1, 0]), Geometry(size=(32, 32)))
    # A crop of the network's own size is not resampled.
    assert np.array_equal(batch[0], pictures[0, 8:40, 4:36][:, ::-1])
    assert np.array_equal(batch[1], pictures[2, 0:32, 0:32])


@pytest.mark.parametrize("flip", [False, True])
def test_plan_epoch_without_flip_mirrors_nothing(
    tiny: Backbone, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the recipe to the pixels: pictures are dark on the left, batches on either side."""
    run = tiny_run(tiny, recipe(flip=flip, epochs=1))
    run.data.pictures[:] = np.linspace(0, 255, run.data.pictures.shape[2])[None, None, :, None]
    seen: list[np.ndarray] = []

    def noting(*args: object) -> np.ndarray:
        seen.append(training_batch(*args))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(loop, "training_batch", noting)
    run.train_epoch()
    pixels = np.concatenate(seen).astype(float)
    mirrored = pixels[:, :, 0].mean((1, 2)) > pixels[:, :, -1].mean((1, 2))
    assert len(mirrored) == 16
    assert mirrored.any() == flip
    assert not mirrored.all()


def test_normalised_pixels_follow_the_formula(tiny: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)
    x = normalised(pixels, tiny.preprocessing, "cpu")
    mean, std = np.array(tiny.preprocessing.mean), np.array(tiny.preprocessing.std)
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_training_geometry_shows_evaluation_and_margin(crop_mode: str) -> None:
    geometry = Geometry(size=(80, 80), crop_pct=0.8, crop_mode=crop_mode, interpolation="bilinear")
    wide = training_geometry(geometry)
    assert wide.size == (100, 100)
    y, x = np.mgrid[0:300, 0:400]
    image = np.stack([x * 0.6, y * 0.8, 0 * x + 128], axis=2).astype(np.uint8)
    # At crop_pct = 0.8 and 1.25 times the size, the window of evaluation is the middle, unscaled.
    middle = decode(image, wide)[10:90, 10:90].astype(int)
    assert abs(middle - decode(image, geometry)).max() <= 2
