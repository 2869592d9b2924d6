"""Files and folders to be classified."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from toptune import DataError
from toptune.images import Geometry, decode, open_unlabelled, read_source

Tree = Callable[..., Path]


@pytest.fixture
def here(image_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images in it and below it."""
    root = image_tree(["a.png", "cat/1.jpg", "cat/deep/2.png", "dog/3.webp", "two words.png"])
    monkeypatch.chdir(root)
    return root


def test_open_unlabelled_paths_keep_their_order(here: Path) -> None:
    images = open_unlabelled(["dog", "a.png", Path("cat")])
    assert images.ids == ("dog/3.webp", "a.png", "cat/1.jpg", "cat/deep/2.png")
    assert images.labels is None
    assert images.quarantined == ()
    for source in images.sources:
        assert decode(read_source(source), Geometry((8, 8))).shape == (8, 8, 3)


def test_open_unlabelled_ids_can_be_opened(here: Path) -> None:
    for given in (".", "../images", str(here), f"{here}/", "cat/../cat", "two words.png"):
        images = open_unlabelled([given])
        assert all(Path(name).is_file() for name in images.ids), given
    assert open_unlabelled(["."]).ids == (
        "a.png",
        "cat/1.jpg",
        "cat/deep/2.png",
        "dog/3.webp",
        "two words.png",
    )
    assert open_unlabelled([here / "a.png"]).ids == (f"{here}/a.png",)


def test_open_unlabelled_repeated_paths_are_listed_once(here: Path) -> None:
    assert open_unlabelled(["cat/1.jpg", "cat", "./cat", "cat/", "cat/1.jpg"]).ids == (
        "cat/1.jpg",
        "cat/deep/2.png",
    )
    Path("cat/gone.png").symlink_to("nowhere.png")
    assert len(open_unlabelled(["cat", "cat"]).quarantined) == 1


def test_open_unlabelled_named_file_needs_no_extension(here: Path) -> None:
    shutil.copy("a.png", "picture")
    assert open_unlabelled(["picture"]).ids == ("picture",)
    assert "picture" not in open_unlabelled(["."]).ids


def test_open_unlabelled_split_names_are_plain_folders(image_tree: Tree) -> None:
    root = image_tree(["train/cat/1.png", "test/cat/2.png"])
    assert len(open_unlabelled([root])) == 2


def test_open_unlabelled_faults_are_quarantined(here: Path) -> None:
    Path("dog/gone.png").symlink_to("nowhere.png")
    os.mkfifo("dog/pipe.png")
    images = open_unlabelled(["dog", "a.png"])
    assert images.ids == ("dog/3.webp", "a.png")
    assert {item.id: item.reason for item in images.quarantined} == {
        "dog/gone.png": "broken symbolic link",
        "dog/pipe.png": "not a regular file",
    }


def test_open_unlabelled_broken_link_beside_image_is_quarantined(here: Path) -> None:
    Path("gone.png").symlink_to("nowhere.png")
    found = open_unlabelled(["gone.png", "cat"])
    assert [(item.id, item.reason) for item in found.quarantined] == [
        ("gone.png", "broken symbolic link")
    ]
    assert all(name.startswith("cat/") for name in found.ids)
    assert found.ids


def test_open_unlabelled_only_broken_link_raises(here: Path) -> None:
    Path("gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"no image .* 'gone\.png': broken symbolic link$"):
        open_unlabelled(["gone.png"])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], r"^no images were named$"),
        (["no.png"], r"^'no\.png': no such file or folder$"),
        (["a.png", "no/1.png"], r"^'no/1\.png': no such file or folder$"),
        (["a.png/1.png"], r"^'a\.png/1\.png': no such file or folder$"),
        ([""], r"the path of the images is empty"),
        (["  "], r"the path of the images is empty"),
        (["hollow"], r"^no images in hollow: looked for the extensions bmp, gif, "),
        (["broken"], r"the first, 'broken/gone\.png': broken symbolic link$"),
    ],
)
def test_open_unlabelled_without_images_raises(here: Path, paths: list[str], message: str) -> None:
    Path("hollow").mkdir()
    Path("broken").mkdir()
    Path("broken/gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=message):
        open_unlabelled(paths)
