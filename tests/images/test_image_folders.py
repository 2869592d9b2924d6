"""Files of images found by their ids, and pictures for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from toptune.images import (
    ImageSet,
    UnreadableImage,
    decode_within,
    folder_of,
    from_arrays,
    image_files,
    open_images,
    with_folder,
)

Tree = Callable[..., Path]


@pytest.mark.parametrize("split", [None, "train"])
def test_folder_of_folder_finds_ids_below_it(image_tree: Tree, split: str | None) -> None:
    names = ["cat/1.png", "cat/deep/2.png", "dog/1.png"]
    root = image_tree([f"{split}/{name}" if split else name for name in names])
    images = open_images(root, split=split)
    assert folder_of(images) == str(root)
    found = image_files(images.ids, [root])
    assert [str(file) for file in found.values()] == list(images.sources)


def test_folder_of_manifest_finds_ids_below_it(image_tree: Tree) -> None:
    root = image_tree(["a/1.png", "b/2.png"])
    (root / "all.csv").write_text("image_path,label\na/1.png,x\nb/2.png,y\n")
    images = open_images(root / "all.csv")
    assert folder_of(images) == str(root)
    assert len(image_files(images.ids, [str(root)])) == 2


def test_folder_of_relative_paths_is_the_current_folder(
    image_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_tree(["cat/1.png", "dog/1.png"])
    (root / "work").mkdir()
    monkeypatch.chdir(root / "work")
    images = from_arrays(["../cat/1.png", "../dog/1.png"])
    folder = folder_of(images)
    assert folder == str(root / "work")
    monkeypatch.chdir(root.parent)
    assert len(image_files(images.ids, [folder])) == 2


def test_folder_of_absolute_paths_is_the_root(image_tree: Tree) -> None:
    root = image_tree(["cat/1.png", "dog/1.png"])
    images = from_arrays([root / "cat/1.png", root / "dog/1.png"])
    folder = folder_of(images)
    assert folder is not None
    assert image_files(images.ids, [folder])[images.ids[0]] == root / "cat/1.png"


def test_folder_of_several_places_is_none() -> None:
    assert folder_of(from_arrays(np.zeros((2, 4, 4)))) is None
    apart = ImageSet(("1.png", "2.png"), ("/a/1.png", "/b/2.png"), None)
    assert folder_of(apart) is None
    other = ImageSet(("x/1.png",), ("/a/1.png",), None)
    assert folder_of(other) is None


def test_image_files_several_folders_prefers_the_newest(image_tree: Tree) -> None:
    """Found in use: an image forgotten and replaced by one of its name was still shown."""
    old, new = (
        image_tree(["1.png", "2.png"], root="old"),
        image_tree(["1.png"], root="new"),
    )
    found = image_files(["1.png", "2.png", "3.png"], [old, new])
    assert found == {"1.png": new / "1.png", "2.png": old / "2.png"}
    (new / "1.png").unlink()
    (new / "1.png").mkdir()  # a folder is no file
    assert image_files(["1.png"], [old, new]) == {"1.png": old / "1.png"}


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_decode_within_large_picture_is_upright_and_whole(
    astronaut: np.ndarray, orientation: int
) -> None:
    import io

    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image = Image.fromarray(astronaut[:300])
    image.save(buffer, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    pixels = decode_within(buffer.getvalue(), 128)
    assert max(pixels.shape) == 128
    size = (pixels.shape[1], pixels.shape[0])
    assert size == (75, 128) if orientation == 6 else (128, 75)
    expected = np.asarray(upright.resize(size, Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(pixels - expected).mean() < 3


def test_decode_within_small_picture_keeps_its_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_within(image, 100), image)


def test_decode_within_damaged_picture_raises() -> None:
    with pytest.raises(UnreadableImage, match="not an image"):
        decode_within(b"not an image", 100)


def test_with_folder_known_folder_is_added_once(image_tree: Tree) -> None:
    first = open_images(image_tree(["a/1.png", "b/1.png"], root="first"))
    second = open_images(image_tree(["a/2.png", "b/2.png"], root="second"))
    known: dict[str, object] = {"backbone": "tiny"}
    for images in (first, second, first, from_arrays(np.zeros((2, 4, 4)))):
        known = with_folder(known, images)
    assert known == {"backbone": "tiny", "image_folders": [folder_of(first), folder_of(second)]}
