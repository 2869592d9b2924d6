"""What bad input gets: one line that names it, without a traceback."""

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
    pytest.param(truncated, "truncated.jpg", "truncated", id="truncated"),
    pytest.param(lambda p: p.write_text("no image"), "text.jpg", "not an image", id="text"),
    pytest.param(lambda p: p.touch(), "zero byte.png", "empty", id="empty"),
    pytest.param(bomb, "bomb.png", "200000000 pixels", id="bomb"),
    pytest.param(lambda p: p.symlink_to("nowhere.png"), "link.png", "link", id="link"),
    pytest.param(
        no_permission,
        "private.png",
        "permission",
        id="permission",
        marks=pytest.mark.skipif(as_root, reason="root may read everything"),
    ),
]


def names(message: str, *values: object) -> bool:
    """Whether a message contains the values that a user must learn."""
    return all(str(value) in message for value in values)


@pytest.mark.parametrize(("make", "name", "reason"), UNREADABLE)
def test_features_unreadable_image_is_set_aside_and_an_error_if_strict(
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
    assert names(item["reason"], reason)
    assert names(done.err, "warning: 1 image", f"dark/{name}")
    strict = toptune("features", tree, "-o", out, "--overwrite", "--strict", "--json")
    assert strict.out == ""
    assert names(strict.error, f"dark/{name}", reason)


def test_fit_and_evaluate_unreadable_images_are_left_out(
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
    assert found.err.startswith("warning: 2 images")
    strict = toptune("evaluate", out, split_tree, "--strict")
    assert names(strict.error, "test/bright/gone.png")
    strict = toptune("fit", split_tree, "-o", out, "--overwrite", "--strict")
    assert names(strict.error, "train/bright/gone.png")


def test_predict_odd_images_and_names_are_predicted(
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


def test_features_max_pixels_moves_the_limit(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name, size in (("small", (40, 50)), ("large", (50, 60))):
        Image.new("RGB", size).save(tree / "dark" / f"{name}.png")
    out = tmp_path / "kinds.safetensors"
    (item,) = toptune("features", tree, "-o", out, "--json").json["quarantined"]
    assert item["id"] == "dark/large.png"
    assert names(item["reason"], "3000 pixels", 2000)

    less = toptune("features", tree, "-o", out, "--overwrite", "--max-pixels", "2998", "--json")
    assert less.json["n"] == 25
    more = toptune("features", tree, "-o", out, "--overwrite", "--max-pixels", "3000", "--json")
    assert (more.json["n"], more.json["quarantined"]) == (26, [])
    assert more.err == ""


# ------------------------------------------------------------------------------ data and labels


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("", "empty"),
        ("no/data", "'no/data'"),
        ("empty", "no images in empty"),
        ("classes", "no images in classes"),
        ("flat", "flat holds images"),
        ("flat/1.png", "flat/1.png is a single file"),
        ("list.txt", "list.txt is a single file"),
    ],
)
def test_fit_data_without_labelled_images_is_named(
    toptune: Toptune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "classes/cat", "classes/dog", "flat"):
        Path(folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("flat/1.png")
    Path("list.txt").write_text("flat/1.png")
    done = toptune("fit", data, "-o", "m.toptune", "--json")
    assert names(done.error, named)
    assert done.out == ""
    assert not Path("m.toptune").exists()


def test_fit_one_class_is_an_error(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "bright")
    shutil.rmtree(tree / "striped")
    assert names(toptune("fit", tree, "-o", tmp_path / "m.toptune").error, "two classes", "'dark'")


def test_fit_class_with_one_image_warns(toptune: Toptune, tree: Path, tmp_path: Path) -> None:
    for path in sorted((tree / "striped").iterdir())[1:]:
        path.unlink()
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert done.json["n"] == 17
    assert names(done.err, "warning: ", "single image", "striped")


def test_fit_class_folder_without_images_warns(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    (tree / "hollow").mkdir()
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert names(done.err, "warning: ", tree, "'hollow'")


def test_fit_class_without_readable_images_warns(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    (tree / "hollow").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tree / "hollow" / name).write_text("no image")
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json")
    assert done.json["classes"] == ["bright", "dark", "striped"]
    assert any(names(line, "classes", "hollow") for line in done.err.splitlines())


def test_fit_without_a_readable_image_is_an_error(toptune: Toptune, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.jpg").write_text("no image")
    message = toptune("fit", tmp_path / "pictures", "-o", tmp_path / "m.toptune").error
    assert names(message, "none of the 2 images", "'cat/1.jpg'", "not an image")


def label_file(path: Path, tree: Path, *more: str) -> Path:
    lines = [f"{p.relative_to(tree).as_posix()},{p.parent.name}" for p in tree.rglob("*.png")]
    path.write_text("\n".join(["image_path,label", *sorted(lines), *more]) + "\n")
    return path


def test_fit_labels_of_missing_images_are_set_aside(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path / "labels.csv", tree, "dark/77.png,dark", "dark/78.png,dark")
    out = tmp_path / "m.toptune"
    done = toptune("fit", tree, "--labels", labels, "-o", out, "--json")
    assert done.json["n"] == 24
    assert done.json["quarantined"] == [
        {"id": f"dark/{i}.png", "reason": "no such file"} for i in (77, 78)
    ]
    assert names(done.err, "2 images", "dark/77.png")

    labels.write_text("image_path,label\nx/77.png,dark\nx/78.png,bright\n")
    message = toptune("fit", tree, "--labels", labels, "-o", out, "--overwrite").error
    assert names(message, "none of the 2 files", labels.name, "'x/77.png'")


def test_fit_contradictory_labels_are_set_aside(
    toptune: Toptune, tree: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path / "labels.csv", tree, "dark/0.png,bright", "dark/1.png,dark")
    out = tmp_path / "m.toptune"
    done = toptune("fit", tree, "--labels", labels, "-o", out, "--json")
    assert done.json["n"] == 23
    (item,) = done.json["quarantined"]
    assert item["id"] == "dark/0.png"
    assert names(item["reason"], "contradictory", "'bright' and 'dark'")
    assert names(done.err, "1 rows repeat", "contradictory")
    strict = toptune("fit", tree, "--labels", labels, "-o", out, "--overwrite", "--strict")
    assert names(strict.error, "dark/0.png", "'bright' and 'dark'")


def test_evaluate_unknown_class_is_named(
    toptune: Toptune, split_tree: Path, model_file: Path
) -> None:
    (split_tree / "test" / "dark").rename(split_tree / "test" / "dotted")
    message = toptune("evaluate", model_file, split_tree).error
    assert names(message, "dotted", "bright, dark, striped")


@pytest.mark.parametrize("command", ["fit", "features", "evaluate"])
def test_commands_missing_split_is_named(
    toptune: Toptune, split_tree: Path, model_file: Path, tmp_path: Path, command: str
) -> None:
    def error(data: Path, split: str) -> str:
        first = [model_file, data] if command == "evaluate" else [data, "-o", tmp_path / "out"]
        message: str = toptune(command, *first, "--split", split).error
        return message

    assert names(error(split_tree, "dev"), "split", "train, val, test", "'dev'")
    assert names(error(split_tree, "val"), "'val'", "train, test")
    assert names(error(split_tree / "test", "train"), "no splits", "train/")


# ---------------------------------------------------------------------------- outputs and models


@pytest.mark.parametrize("command", ["fit", "features", "demo"])
def test_commands_impossible_output_is_named(
    toptune: Toptune, tree: Path, tmp_path: Path, command: str
) -> None:
    data = [] if command == "demo" else [tree]
    there = tmp_path / "there"
    there.write_text("precious")
    assert names(toptune(command, *data, "-o", there).error, there, "exists", "--overwrite")
    assert there.read_text() == "precious"
    message = toptune(command, *data, "-o", tmp_path, "--overwrite").error
    assert names(message, tmp_path, "is a folder")
    message = toptune(command, *data, "-o", tmp_path / "no" / "m.toptune").error
    assert names(message, tmp_path / "no", "does not exist")


def test_fit_overwrite_failed_run_leaves_the_old_file(
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
    ("content", "fault"),
    [
        (None, "no model file"),
        (b"", "damaged"),
        (b"random bytes" * 100, "damaged"),
        ("cut", "damaged"),
    ],
)
def test_commands_damaged_model_is_named(
    toptune: Toptune,
    tree: Path,
    model_file: Path,
    tmp_path: Path,
    command: str,
    content: bytes | str | None,
    fault: str,
) -> None:
    path = tmp_path / "m.toptune"
    if content == "cut":
        content = model_file.read_bytes()[:-1000]
    if isinstance(content, bytes):
        path.write_bytes(content)
    assert names(toptune(command, path, tree).error, path, fault)


def test_evaluate_another_network_is_named(
    toptune: Toptune, split_tree: Path, model_file: Path
) -> None:
    message = toptune("evaluate", model_file, split_tree, "--backbone", "efficientnet_lite1").error
    assert names(message, model_file, "'efficientnet_lite0'", "'efficientnet_lite1'")


@pytest.mark.parametrize(
    ("backbone", "named"),
    [
        ("resnet5", ["'resnet5'", "efficientnet_lite0"]),
        ("", ["''"]),
        ("resnet18=no.pth", ["no.pth"]),
        ("resnet5=no.pth", ["'resnet5'", "'resnet5=no.pth'"]),
        ("local-dir:no", ["config.json", " no"]),
        ("resnet18.a1_in1k", ["'resnet18.a1_in1k'", "resnet18.a1_in1k=FILE", "HF_HUB_OFFLINE"]),
    ],
)
def test_fit_network_that_is_not_here_is_named(
    toptune: Toptune,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    named: list[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    done = toptune("fit", tree, "-o", tmp_path / "m.toptune", "--backbone", backbone)
    assert names(done.error, *named)


# ------------------------------------------------------------------------------------ disk full


def test_no_space_for_the_model(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.toptune"
    out.write_text("precious")

    opened = os.open

    def full(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).startswith(str(out)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *rest, **options)

    monkeypatch.setattr("os.open", full)
    done = toptune("fit", tree, "-o", out, "--overwrite", "--json")
    assert done.error == f"cannot write {out}: No space left on device"
    assert done.out == ""
    assert out.read_text() == "precious"


def test_features_disk_full_for_the_cache_is_an_error(
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
    assert names(message, home, "disk is full", "TOPTUNE_CACHE")
    assert not out.exists()
    assert toptune("fit", tree, "-o", tmp_path / "m.toptune", "--json").json["n"] == 24
    here, there = TopTuner.load(tmp_path / "m.toptune"), TopTuner.load(model_file)
    # The search for the weights of the layers amplifies rounding.
    assert here.loo_.log_loss == pytest.approx(there.loo_.log_loss, rel=1e-3)


def test_features_cache_that_is_a_file_is_an_error(
    toptune: Toptune, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("TOPTUNE_CACHE", str(tmp_path / "cache"))
    message = toptune("features", tree, "-o", tmp_path / "out").error
    assert names(message, "cache", tmp_path / "cache")
