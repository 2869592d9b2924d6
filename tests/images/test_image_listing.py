"""Folder trees, splits, unlabelled folders."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from toptune import DataError
from toptune.errors import DataWarning
from toptune.images import (
    Geometry,
    ImageSet,
    Quarantined,
    decode,
    open_images,
    read_source,
    splits_of,
)

Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


def labels_of(images: ImageSet) -> list[str]:
    assert images.labels is not None
    found: list[str] = images.labels.tolist()
    return found


def test_open_images_class_folders_are_labels(image_tree: Tree) -> None:
    root = image_tree(["dog/2.jpg", "cat/b.png", "cat/a.JPG", "dog/deep/er/1.webp"])
    images = open_images(root)
    assert images.ids == ("cat/a.JPG", "cat/b.png", "dog/2.jpg", "dog/deep/er/1.webp")
    assert labels_of(images) == ["cat", "cat", "dog", "dog"]
    assert images.quarantined == ()
    for source in images.sources:
        assert decode(read_source(source), Geometry((8, 8))).shape == (8, 8, 3)
    assert open_images(f"{root}/").ids == images.ids


def test_open_images_extensions_are_known_ones(image_tree: Tree) -> None:
    known = ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "jfif", "JPEG"]
    root = image_tree([f"cat/a{i}.{suffix}" for i, suffix in enumerate(known)])
    shutil.copy(root / "cat" / "a0.jpg", root / "cat" / "grey.pgm")
    for other in ("notes.txt", "jpg", "a.jpg.bak", "a.svg", ".hidden.jpg"):
        (root / "cat" / other).write_text("text")
    (root / ".git").mkdir()
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    for hidden in (".git", "__MACOSX/cat", "cat"):
        shutil.copy(root / "cat" / "a0.jpg", root / hidden / "._a0.jpg")
    shutil.copy(root / "cat" / "a0.jpg", root / ".git" / "b.jpg")
    images = open_images(root)
    assert len(images) == len(known) + 1
    assert set(labels_of(images)) == {"cat"}


def test_open_images_spaces_accents_dots_are_kept(image_tree: Tree) -> None:
    root = image_tree(["São Paulo/né 1.jpg", "New York/a.b.c.jpg", "007/x.jpg", "日本/猫.png"])
    images = open_images(root)
    assert set(labels_of(images)) == {"São Paulo", "New York", "007", "日本"}
    assert "日本/猫.png" in images.ids


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take UTF-8 names only")
def test_open_images_names_not_utf8_are_printable(image_tree: Tree) -> None:
    root = image_tree(["cat/a.jpg"])
    folder = os.fsencode(root) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102 - the name is bytes
    shutil.copy(root / "cat" / "a.jpg", os.fsdecode(folder + b"/\xff.jpg"))
    images = open_images(root)
    assert images.ids == (r"caf\xe9/\xff.jpg", "cat/a.jpg")
    assert labels_of(images)[0] == r"caf\xe9"
    assert "".join(images.ids).encode()
    assert read_source(images.sources[0]) == read_source(images.sources[1])


def test_open_images_circular_links_end(image_tree: Tree) -> None:
    root = image_tree(["cat/1.jpg"])
    elsewhere = image_tree(["2.jpg", "more/3.jpg"], root="elsewhere")
    (root / "dog").symlink_to(elsewhere)
    (root / "cat" / "up").symlink_to(root)
    (elsewhere / "more" / "back").symlink_to(elsewhere)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    images = open_images(root)
    assert images.ids == ("cat/1.jpg", "dog/2.jpg", "dog/more/3.jpg")


def test_open_images_broken_links_are_quarantined(image_tree: Tree) -> None:
    root = image_tree(["cat/1.jpg"])
    (root / "cat" / "2.jpg").symlink_to(root / "gone.jpg")
    images = open_images(root)
    assert images.ids == ("cat/1.jpg",)
    assert images.quarantined == (Quarantined("cat/2.jpg", "broken symbolic link"),)
    (root / "cat" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"none of the 1 images in .* can be read.*broken symb"):
        open_images(root)
    with pytest.raises(DataError, match="none of the 1 images"):
        open_images(root, labelled=False)


def test_open_images_folder_named_like_image_is_entered(image_tree: Tree) -> None:
    assert open_images(image_tree(["cat/x.jpg/1.jpg"])).ids == ("cat/x.jpg/1.jpg",)


def test_open_images_forbidden_folder_is_quarantined(
    image_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_tree(["cat/1.jpg", "cat/locked/2.jpg"])
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = open_images(root)
    assert images.ids == ("cat/1.jpg",)
    assert images.quarantined == (Quarantined("cat/locked", "permission denied"),)


def test_open_images_empty_class_folder_warns(image_tree: Tree) -> None:
    root = image_tree(["cat/1.jpg"])
    (root / "dog").mkdir()
    (root / "emu").mkdir()
    (root / "emu" / "notes.txt").write_text("no emus today")
    with pytest.warns(DataWarning, match="without images in .*: 'dog', 'emu'"):
        assert open_images(root).ids == ("cat/1.jpg",)


def test_open_images_loose_images_warn(image_tree: Tree) -> None:
    root = image_tree(["cat/1.jpg", "stray.jpg"])
    with pytest.warns(DataWarning, match="left out 1 images .* in no class folder"):
        assert open_images(root).ids == ("cat/1.jpg",)


@pytest.mark.parametrize("data", ["", "  "])
def test_open_images_empty_path_raises(data: str) -> None:
    with pytest.raises(DataError, match="path of the images is empty"):
        open_images(data)


def test_open_images_missing_path_raises(tmp_path: Path) -> None:
    for call in (open_images, splits_of):
        with pytest.raises(DataError, match=r"gone.*: no such file or folder"):
            call(tmp_path / "gone")


def test_open_images_folder_without_images_raises(tmp_path: Path) -> None:
    empty = tmp_path / "nothing here"
    empty.mkdir()
    for labelled in (True, False):
        with pytest.raises(DataError, match=r"no images in .*nothing here: .* jpg, .*webp"):
            open_images(empty, labelled=labelled)
    (empty / "cat").mkdir()
    with pytest.raises(DataError, match="no images in"):
        open_images(empty)


# --- splits


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_open_images_split_folders_are_splits(image_tree: Tree, val: str) -> None:
    root = image_tree(["test/cat/1.jpg", "train/cat/1.jpg", "train/dog/2.jpg", f"{val}/dog/3.jpg"])
    (root / "README.txt").write_text("not a folder")
    assert splits_of(root) == ("train", "val", "test")
    assert open_images(root).ids == ("train/cat/1.jpg", "train/dog/2.jpg")
    for name in ("val", "valid", "validation"):
        images = open_images(root, split=name)
        assert images.ids == (f"{val}/dog/3.jpg",)
        assert labels_of(images) == ["dog"]
    assert open_images(root, split="test").ids == ("test/cat/1.jpg",)


def test_open_images_lone_split_folder_holds_classes(image_tree: Tree) -> None:
    root = image_tree(["test/cat/1.jpg"])
    assert splits_of(root) == ("test",)
    assert labels_of(open_images(root, split="test")) == ["cat"]
    with pytest.raises(DataError, match="has no split 'train': choose from test"):
        open_images(root)


def test_open_images_lone_image_folder_is_a_class(image_tree: Tree) -> None:
    root = image_tree(["train/1.jpg", "train/2.jpg"])
    assert splits_of(root) == ()
    assert labels_of(open_images(root)) == ["train", "train"]


def test_open_images_split_names_among_others_are_classes(image_tree: Tree) -> None:
    root = image_tree(["train/1.jpg", "test/2.jpg", "extra/3.jpg"])
    with pytest.warns(DataWarning, match="'test', 'train' in .* taken for classes.*'extra'"):
        assert labels_of(open_images(root)) == ["extra", "test", "train"]
    assert splits_of(root) == ()


def test_open_images_one_split_name_among_classes_is_silent(image_tree: Tree) -> None:
    assert labels_of(open_images(image_tree(["train/1.jpg", "bus/2.jpg"]))) == ["bus", "train"]


def test_open_images_absent_split_raises(image_tree: Tree) -> None:
    root = image_tree(["train/cat/1.jpg", "test/cat/2.jpg"])
    with pytest.raises(DataError, match="has no split 'val': choose from train, test"):
        open_images(root, split="valid")
    with pytest.raises(DataError, match="split must be one of train, val, test, got 'tset'"):
        open_images(root, split="tset")
    with pytest.raises(DataError, match="has no splits"):
        open_images(root / "train", split="test")


def test_open_images_split_spelled_twice_raises(image_tree: Tree) -> None:
    root = image_tree(["val/cat/1.jpg", "valid/cat/2.jpg"])
    with pytest.raises(DataError, match="both 'val' and 'valid', which name the same split"):
        open_images(root, split="val")


def test_open_images_split_without_class_folders_raises(image_tree: Tree) -> None:
    root = image_tree(["train/1.jpg", "test/2.jpg"])
    with pytest.raises(DataError, match="train holds images but no class folders"):
        open_images(root)


# --- without labels


def test_open_images_unlabelled_lists_everything_below(image_tree: Tree) -> None:
    root = image_tree(["1.jpg", "a/2.png", "a/b/3.gif"])
    images = open_images(root, labelled=False)
    assert images.ids == ("1.jpg", "a/2.png", "a/b/3.gif")
    assert images.labels is None
    with pytest.warns(DataWarning, match="left out 1 images"):
        open_images(root)


def test_open_images_unlabelled_takes_split_only_if_asked(image_tree: Tree) -> None:
    root = image_tree(["train/1.jpg", "test/cat/2.jpg"])
    assert open_images(root, labelled=False).ids == ("test/cat/2.jpg", "train/1.jpg")
    assert open_images(root, labelled=False, split="test").ids == ("test/cat/2.jpg",)


def test_open_images_flat_folder_labelled_raises_with_layouts(image_tree: Tree) -> None:
    root = image_tree(["1.jpg", "2.jpg"])
    with pytest.raises(DataError, match=r"no class folders.*one folder per class.*\.csv"):
        open_images(root)


def test_open_images_one_image_is_listed(image_tree: Tree) -> None:
    path = image_tree(["1.jpg"]) / "1.jpg"
    images = open_images(path, labelled=False)
    assert (images.ids, images.sources, images.labels) == (("1.jpg",), (str(path),), None)
    assert splits_of(path) == ()
    with pytest.raises(DataError, match="is a single file: labelled images are"):
        open_images(path)
    with pytest.raises(DataError, match="has no splits"):
        open_images(path, labelled=False, split="test")
