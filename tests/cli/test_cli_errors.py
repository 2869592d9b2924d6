"""What bad input gets: it is named, with how to mend it, and without a traceback."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toptune import TopTuner

Toptune = Callable[..., Any]


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def bomb(path: Path) -> None:
    """200 million pixels in 25 kB."""
    Image.new("1", (20_000, 10_000)).save(path)


def no_permission(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)
    path.chmod(0)


as_root = hasattr(os, "geteuid") and os.geteuid() == 0

UNREADABLE = [
    pytest.param(truncated, "truncated.jpg", "truncated: ", id="truncated"),
    pytest.param(
        lambda p: p.write_text("no image"), "text.jpg", "not an image, or its header", id="text"
    ),
    pytest.param(lambda p: p.touch(), "zero byte.png", "empty file", id="empty"),
    pytest.param(
        bomb,
        "bomb.png",
        "20000 x 10000 = 200000000 pixels is over the limit of 178956970",
        id="bomb",
    ),
    pytest.param(
        lambda p: p.symlink_to("nowhere.png"), "link.png", "broken symbolic link", id="link"
    ),
    pytest.param(
        no_permission,
        "private.png",
        "permission denied",
        id="permission",
        marks=pytest.mark.skipif(as_root, reason="root may read everything"),
    ),
]


@pytest.mark.parametrize(("make", "name", "reason"), UNREADABLE)
def test_an_unreadable_image_is_set_aside_and_an_error_if_strict(
    toptune: Toptune,
    tree: Path,
    tmp_path: Path,
    make: Callable[[Path], object],
    name: str,
    reason: str,
) -> None:
    make(tree / "dark" / name)
    out = tmp_path / "kinds.safetensors"
    done = toptune("features", tree, "-o", out, "--json")
    assert done.json["n"] == 24
    (item,) = done.json["quarantined"]
    assert item["id"] == f"dark/{name}"
    assert item["reason"].startswith(reason)
    assert done.err.startswith("warning: 1 image could not be read and is left out; the first, ")
    strict = toptune("features", tree, "-o", out, "--overwrite", "--strict", "--json")
    assert strict.out == ""
    assert strict.error.startswith(f"dark/{name}: {reason}")


def test_fit_and_evaluate_go_on_without_unreadable_images(
    toptune: Toptune, split_tree: Path, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        (split_tree / split / "dark" / "text.jpg").write_text("no image")
        (split_tree / split / "bright" / "gone.png").symlink_to("nowhere.png")
    out = tmp_path / "kinds.toptune"
    summary = toptune("fit", split_tree, "-o", out, "--json").json
    assert summary["n"] == 24
    assert {item["id"] for item in summary["quarantined"]} == {
        "train/dark/text.jpg",
        "train/bright/gone.png",
    }
    assert {item.id for item in TopTuner.load(out).quarantined_} == {
        "train/dark/text.jpg",
        "train/bright/gone.png",
    }
    found = toptune("evaluate", out, split_tree, "--json")
    assert found.json["n"] == 9
    assert found.err.startswith("warning: 2 images could not be read and are left out; the first, ")
    strict = toptune("evaluate", out, split_tree, "--strict")
    assert strict.error.startswith("test/bright/gone.png: broken symbolic link")
    strict = toptune("fit", split_tree, "-o", out, "--overwrite", "--strict")
    assert strict.error.startswith("train/bright/gone.png: broken symbolic link")


def test_odd_images_and_names_are_no_trouble(
    toptune: Toptune, split_tree: Path, model_file: Path
) -> None:
    folder = split_tree / "test" / "dark"
    Image.new("RGB", (1, 1), (40, 40, 40)).save(folder / "one pixel.png")
    first, second = (Image.new("L", (40, 40), level) for level in (40, 250))
    first.save(folder / "animated.gif", save_all=True, append_images=[second] * 3)
    first.save(folder / "still.gif")
    shutil.copy(folder / "0.png", folder / "Größe 猫 (1).PNG")
    done = toptune("predict", model_file, folder, "--json")
    assert done.err == ""
    probability = {Path(r["path"]).name: r["probability"] for r in done.json["predictions"]}
    assert len(probability) == 7
    assert probability["animated.gif"] == probability["still.gif"]
    assert probability["Größe 猫 (1).PNG"] == probability["0.png"]


def test_the_limit_of_pixels_can_be_moved(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name, size in (("small", (40, 50)), ("large", (50, 60))):
        Image.new("RGB", size).save(tree / "dark" / f"{name}.png")
    out = tmp_path / "kinds.safetensors"
    (item,) = toptune("features", tree, "-o", out, "--json").json["quarantined"]
    assert item["id"] == "dark/large.png"
    assert item["reason"].startswith("50 x 60 = 3000 pixels is over the limit of 2000")

    less = toptune("features", tree, "-o", out, "--overwrite", "--max-pixels", "2998", "--json")
    assert less.json["n"] == 25
    more = toptune("features", tree, "-o", out, "--overwrite", "--max-pixels", "3000", "--json")
    assert (more.json["n"], more.json["quarantined"]) == (26, [])
    assert more.err == ""


# ------------------------------------------------------------------------------ data and labels


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", "the path of the images is empty: name a folder or a manifest"),
        ("no/data", "'no/data': no such file or folder"),
        ("empty", "no images in empty: looked for the extensions bmp, gif, "),
        ("classes", "no images in classes: looked for "),
        ("flat", "flat holds images but no class folders with images: labelled images are a "),
        ("flat/1.png", "flat/1.png is a single file: labelled images are a folder with "),
        ("list.txt", "list.txt is a single file: "),
    ],
)
def test_data_that_is_none(
    toptune: Toptune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "classes/cat", "classes/dog", "flat"):
        Path(folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("flat/1.png")
    Path("list.txt").write_text("flat/1.png")
    done = toptune("fit", data, "-o", "m.toptune", "--json")
    assert done.error.startswith(error)
    assert done.out == ""
    assert not Path("m.toptune").exists()


def test_one_class_only(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "bright")
    shutil.rmtree(tree / "striped")
    message = toptune("fit", tree, "-o", tmp_path / "m.toptune").error
    assert message.startswith("training needs at least two classes, found only 'dark'")


def test_a_class_with_one_image(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    for path in sorted((tree / "striped").iterdir())[1:]:
        path.unlink()
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert done.json["n"] == 17
    assert done.err.startswith("warning: classes with a single image: striped; ")


def test_a_class_folder_without_images(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    (tree / "hollow").mkdir()
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert done.err == f"warning: class folders without images in {tree}: 'hollow'\n"


def test_a_class_folder_without_readable_images(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    (tree / "hollow").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tree / "hollow" / name).write_text("no image")
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert "warning: classes without one readable image are left out: hollow\n" in done.err


def test_no_readable_image_at_all(toptune: Toptune, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.jpg").write_text("no image")
    message = toptune("fit", tmp_path / "pictures", "-o", tmp_path / "m.toptune").error
    assert message == (
        "none of the 2 images can be read; the first, 'cat/1.jpg': "
        "not an image, or its header is damaged"
    )


def label_file(path: Path, tree: Path, *more: str) -> Path:
    lines = [f"{p.relative_to(tree).as_posix()},{p.parent.name}" for p in tree.rglob("*.png")]
    path.write_text("\n".join(["image_path,label", *sorted(lines), *more]) + "\n")
    return path


def test_a_label_file_that_names_missing_images(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path / "labels.csv", tree, "dark/77.png,dark", "dark/78.png,dark")
    out = tmp_path / "m.toptune"
    done = toptune("fit", tree, "--labels", labels, "-o", out, "--json")
    assert done.json["n"] == 24
    assert done.json["quarantined"] == [
        {"id": f"dark/{i}.png", "reason": "no such file"} for i in (77, 78)
    ]
    assert "2 images could not be read and are left out; the first, dark/77.png" in done.err

    labels.write_text("image_path,label\nx/77.png,dark\nx/78.png,bright\n")
    message = toptune("fit", tree, "--labels", labels, "-o", out, "--overwrite").error
    assert message.startswith("none of the 2 files that manifest ")
    assert "'x/77.png': relative paths are looked up in " in message


def test_rows_with_contradictory_labels(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    labels = label_file(tmp_path / "labels.csv", tree, "dark/0.png,bright", "dark/1.png,dark")
    out = tmp_path / "m.toptune"
    done = toptune("fit", tree, "--labels", labels, "-o", out, "--json")
    assert done.json["n"] == 23
    assert done.json["quarantined"] == [
        {"id": "dark/0.png", "reason": "contradictory labels: 'bright' and 'dark'"}
    ]
    assert "1 rows repeat an image with the same label" in done.err
    assert "1 images are named with contradictory labels and were set aside" in done.err
    strict = toptune("fit", tree, "--labels", labels, "-o", out, "--overwrite", "--strict")
    assert strict.error.startswith("dark/0.png: contradictory labels: 'bright' and 'dark'")


def test_a_class_that_the_model_does_not_know(
    toptune: Toptune, split_tree: Path, model_file: Path
) -> None:
    (split_tree / "test" / "dark").rename(split_tree / "test" / "dotted")
    message = toptune("evaluate", model_file, split_tree).error
    assert message == (
        "the data has classes that the model does not know: dotted (it knows bright, dark, "
        "striped); leave their images out, or train with them"
    )


@pytest.mark.parametrize("command", ["fit", "features", "evaluate"])
def test_splits_that_are_not_there(
    toptune: Toptune, split_tree: Path, model_file: Path, tmp_path: Path, command: str
) -> None:
    def error(data: Path, split: str) -> str:
        first = [model_file, data] if command == "evaluate" else [data, "-o", tmp_path / "out"]
        message: str = toptune(command, *first, "--split", split).error
        return message

    assert error(split_tree, "dev") == "split must be one of train, val, test, got 'dev'"
    assert error(split_tree, "val").endswith("has no split 'val': choose from train, test")
    assert "has no splits: ask for none, or put train/ above" in error(split_tree / "test", "train")


# ---------------------------------------------------------------------------- outputs and models


@pytest.mark.parametrize("command", ["fit", "features", "demo"])
def test_outputs_that_cannot_be(toptune: Toptune, tree: Path, tmp_path: Path, command: str) -> None:
    data = [] if command == "demo" else [tree]
    there = tmp_path / "there"
    there.write_text("precious")
    message = toptune(command, *data, "-o", there).error
    assert message == f"{there} exists already: choose another name, or give --overwrite"
    assert there.read_text() == "precious"
    message = toptune(command, *data, "-o", tmp_path, "--overwrite").error
    assert message == f"{tmp_path} is a folder: give the name of a file"
    message = toptune(command, *data, "-o", tmp_path / "no" / "m.toptune").error
    assert message == f"the folder {tmp_path / 'no'} does not exist"


def test_overwrite_replaces_only_what_was_made_whole(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.toptune"
    out.write_text("precious")
    assert toptune("fit", tmp_path / "no", "-o", out, "--overwrite").code == 2
    assert out.read_text() == "precious"
    assert toptune("fit", tree, "-o", out, "--overwrite").code == 0
    assert TopTuner.load(out).loo_.n == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.toptune", "pictures"]


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "no model file at {}"),
        (b"", "{} is damaged or no model file: "),
        (b"random bytes" * 100, "{} is damaged or no model file: "),
        ("cut", "{} is damaged or no model file: "),
    ],
)
def test_models_that_are_none(
    toptune: Toptune,
    tree: Path,
    model_file: Path,
    tmp_path: Path,
    command: str,
    content: bytes | str | None,
    error: str,
) -> None:
    path = tmp_path / "m.toptune"
    if content == "cut":
        content = model_file.read_bytes()[:-1000]
    if isinstance(content, bytes):
        path.write_bytes(content)
    assert toptune(command, path, tree).error.startswith(error.format(path))


def test_another_network_than_the_models(
    toptune: Toptune, split_tree: Path, model_file: Path
) -> None:
    message = toptune("evaluate", model_file, split_tree, "--backbone", "efficientnet_lite1").error
    assert message.startswith(f"the model {model_file} came from the network 'efficientnet_lite0'")
    assert "does not match 'efficientnet_lite1' on this machine" in message
    assert message.endswith("Provide the same weights, or train again")


@pytest.mark.parametrize(
    ("backbone", "error"),
    [
        ("resnet5", "unknown network 'resnet5': give efficientnet_lite0, "),
        ("", "unknown network ''"),
        ("resnet18=no.pth", "no weights file at no.pth"),
        ("resnet5=no.pth", "'resnet5' in 'resnet5=no.pth' is no timm architecture"),
        ("local-dir:no", "no config.json in no: "),
        (
            "resnet18.a1_in1k",
            "the weights of 'resnet18.a1_in1k' are not on this machine (copy them into the "
            "Hugging Face cache from one that has them, give a file as resnet18.a1_in1k=FILE, or "
            "use efficientnet_lite0), and HF_HUB_OFFLINE is set",
        ),
    ],
)
def test_networks_that_cannot_be_had(
    toptune: Toptune,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    error: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--backbone", backbone)
    assert done.error.startswith(error)


# ------------------------------------------------------------------------------------ disk full


def test_no_space_for_the_model(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.toptune"
    out.write_text("precious")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("toptune.runtime.tensor_file.tempfile.mkstemp", full)
    done = toptune("fit", tree, "-o", out, "--overwrite", "--json")
    assert done.error == f"cannot write {out}: No space left on device"
    assert done.out == ""
    assert out.read_text() == "precious"


def test_no_space_for_the_cache(
    toptune: Toptune,
    tree: Path,
    tmp_path: Path,
    cache_folder: Path,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite itself is told that the disk ends: the run fails, what was stored can be used."""
    from toptune.features import FeatureCache

    home = tmp_path / "cache"
    shutil.copytree(cache_folder / "networks", home / "networks")
    monkeypatch.setenv("TOPTUNE_CACHE", str(home))
    opened = FeatureCache.__init__

    def small(self: FeatureCache, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        self._connection.execute("PRAGMA max_page_count = 12")  # 48 kB; 24 images need 735

    out = tmp_path / "kinds.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "__init__", small)
        message = toptune("features", tree, "-o", out).error
    assert message.startswith(f"cannot use the feature cache {home}")
    assert message.endswith(
        "database or disk is full; free space, or set TOPTUNE_CACHE to a folder on another disk"
    )
    assert not out.exists()
    assert toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json").json["n"] == 24
    here, there = TopTuner.load(tmp_path / "m.toptune"), TopTuner.load(model_file)
    # The search for the weights of the layers amplifies rounding.
    assert here.loo_.log_loss == pytest.approx(there.loo_.log_loss, rel=1e-3)


def test_a_cache_that_is_no_folder(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "cache"))
    message = toptune("features", tree, "-o", tmp_path / "out").error
    assert message.startswith(f"cannot use the feature cache {tmp_path / 'cache'}")
