"""`toptune predict`: one record for each image, whatever way it was named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toptune import TopTuner

Toptune = Callable[..., Any]


@pytest.fixture
def at_home(split_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test split as the current folder: bright/0.png and so on."""
    monkeypatch.chdir(split_tree / "test")
    return split_tree / "test"


def test_one_record_for_each_image(toptune: Toptune, model_file: Path, at_home: Path) -> None:
    shutil.copy("dark/0.png", "loose.png")
    done = toptune("predict", model_file, "bright", "loose.png", "--json")
    assert done.json.keys() == {"predictions", "quarantined"}
    records = done.json["predictions"]
    assert [r["path"] for r in records] == [
        "bright/0.png",
        "bright/1.png",
        "bright/2.png",
        "loose.png",
    ]
    assert [r["label"] for r in records] == ["bright"] * 3 + ["dark"]
    for record in records:
        assert record.keys() == {"path", "label", "probability", "top"}
        assert 1 / 3 < record["probability"] <= 1
        assert record["top"] == [{k: record[k] for k in ("label", "probability")}]
        assert Path(record["path"]).is_file()
    assert done.json["quarantined"] == []
    assert done.err == ""


def test_probabilities_are_those_of_the_model(
    toptune: Toptune, model_file: Path, at_home: Path
) -> None:
    found = toptune("predict", model_file, "dark/1.png", "--top", "3", "--json").json
    (record,) = found["predictions"]
    model = TopTuner.load(model_file)
    (P,) = model.predict_proba(["dark/1.png"])
    assert [row["label"] for row in record["top"]] == model.classes_[(-P).argsort()].tolist()
    assert [row["probability"] for row in record["top"]] == sorted(P.tolist(), reverse=True)


@pytest.mark.parametrize(("top", "rows"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_top_lists_that_many_classes_best_first(
    toptune: Toptune, model_file: Path, at_home: Path, top: int, rows: int
) -> None:
    found = toptune("predict", model_file, "striped/0.png", "--top", top, "--json").json
    (record,) = found["predictions"]
    ranked = [row["probability"] for row in record["top"]]
    assert len(ranked) == rows
    assert ranked == sorted(ranked, reverse=True)
    assert record["label"] == record["top"][0]["label"] == "striped"
    if rows == 3:
        assert sum(ranked) == pytest.approx(1)


def test_an_image_named_twice_is_listed_once(
    toptune: Toptune, model_file: Path, at_home: Path
) -> None:
    paths = ["dark/1.png", "dark", "dark/", "./dark/1.png", "dark/1.png"]
    found = toptune("predict", model_file, *paths, "--json").json
    assert [r["path"] for r in found["predictions"]] == ["dark/1.png", "dark/0.png", "dark/2.png"]


def test_two_copies_of_one_image_are_two_images(
    toptune: Toptune, model_file: Path, at_home: Path
) -> None:
    shutil.copy("dark/0.png", "dark/copy.png")
    found = toptune("predict", model_file, "dark/0.png", "dark/copy.png", "--json").json
    first, second = found["predictions"]
    assert (first["path"], second["path"]) == ("dark/0.png", "dark/copy.png")
    # The same features; the place in a batch may change the last bit of a matrix product.
    assert first["probability"] == pytest.approx(second["probability"], rel=1e-12)


def test_here_and_absolute_paths(toptune: Toptune, model_file: Path, at_home: Path) -> None:
    here = toptune("predict", model_file, ".", "--json").json["predictions"]
    assert len(here) == 9
    assert here[0]["path"] == "bright/0.png"
    there = toptune("predict", model_file, at_home, "--json").json["predictions"]
    assert there[0]["path"] == str(at_home / "bright" / "0.png")
    assert [r["probability"] for r in here] == [r["probability"] for r in there]


def test_what_cannot_be_read_is_listed_apart(
    toptune: Toptune, model_file: Path, at_home: Path
) -> None:
    Path("dark/text.jpg").write_text("no image")
    Path("dark/gone.png").symlink_to("nowhere.png")
    done = toptune("predict", model_file, "dark", "--json")
    assert len(done.json["predictions"]) == 3
    assert {q["id"]: q["reason"] for q in done.json["quarantined"]} == {
        "dark/text.jpg": "not an image, or its header is damaged",
        "dark/gone.png": "broken symbolic link",
    }
    assert done.err.startswith("warning: 2 images could not be read and are left out")
    strict = toptune("predict", model_file, "dark", "--strict", "--json")
    assert strict.out == ""
    assert strict.error.startswith("dark/gone.png: broken symbolic link")


@pytest.mark.parametrize("name", ["two words.png", "été 猫.png", "[bold].png", "a:key:b.png"])
def test_names_are_printed_as_they_are(
    toptune: Toptune, model_file: Path, at_home: Path, name: str
) -> None:
    folder = Path("a folder whose name alone is longer than a screen of eighty columns is wide")
    folder.mkdir()
    shutil.copy("dark/0.png", folder / name)
    (folder / "empty.png").touch()
    done = toptune("predict", model_file, folder, "--top", "2")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{folder}/{name}  dark 0.")
    assert len(lines[0].split("  ")) == 3
    assert lines[1:] == ["1 image set aside:", f"  {folder}/empty.png: empty file"]


def test_a_name_that_is_not_utf8(toptune: Toptune, model_file: Path, at_home: Path) -> None:
    name = os.fsencode(at_home) + b"/dark/caf\xe9.png"
    try:
        shutil.copy("dark/0.png", name)  # type: ignore[call-overload]
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = toptune("predict", model_file, "dark", "--json").json
    assert "dark/caf\\xe9.png" in [r["path"] for r in found["predictions"]]
    assert "caf\\xe9.png  dark" in toptune("predict", model_file, "dark").out


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        (["no.png"], "'no.png': no such file or folder"),
        (["dark", "no/folder"], "'no/folder': no such file or folder"),
        ([""], "the path of the images is empty: name a folder or a manifest"),
        (["nothing"], "no images in nothing: looked for the extensions "),
    ],
)
def test_paths_without_images(
    toptune: Toptune, model_file: Path, at_home: Path, paths: list[str], error: str
) -> None:
    Path("nothing").mkdir()
    assert toptune("predict", model_file, *paths).error.startswith(error)


def test_one_image_that_cannot_be_read(toptune: Toptune, model_file: Path, at_home: Path) -> None:
    Path("text.jpg").write_text("no image")
    assert toptune("predict", model_file, "text.jpg").error == (
        "none of the 1 images can be read; the first, 'text.jpg': "
        "not an image, or its header is damaged"
    )


def test_sets_and_unknown_images(toptune: Toptune, model_file: Path, at_home: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").convert("RGB").save("gradient.png")
    rates = ("--coverage", "0.9", "--reject", "0.1")
    found = toptune("predict", model_file, "dark", "gradient.png", *rates, "--json").json
    keys = {"path", "label", "probability", "top", "set", "unknown_score", "unknown"}
    assert [record.keys() for record in found["predictions"]] == [keys] * 4
    here = TopTuner.load(model_file).classify(["dark/0.png"], coverage=0.9, reject=0.1)
    first, strange = found["predictions"][0], found["predictions"][-1]
    assert first["set"] == here.set_labels()[0]
    assert here.unknown_score is not None
    assert first["unknown_score"] == pytest.approx(here.unknown_score[0], rel=1e-6)
    assert strange["unknown"]
    assert strange["unknown_score"] > first["unknown_score"]
    lines = toptune("predict", model_file, "gradient.png", *rates).out.splitlines()
    assert lines[0].startswith("gradient.png  unknown:  ")
    assert "  set: " in lines[0]
    assert lines[0].endswith(f"  unknown score {strange['unknown_score']:.2f}")
    alone = toptune("predict", model_file, "dark", "--coverage", "0.9", "--json").json
    assert alone["predictions"][0].keys() == keys - {"unknown_score", "unknown"}


def test_what_python_refuses_is_refused(
    toptune: Toptune, model_file: Path, at_home: Path, tmp_path: Path
) -> None:
    """Found in use: the command line went on where `TopTuner.predict` did not."""
    line = ("predict", model_file, "dark", "--coverage", "0.9", "--threshold", "dark=0.3")
    why = "costs and thresholds decide for one class, a coverage asks for a set"
    assert toptune(*line).error == why
    tuner = TopTuner.load(model_file)
    labels = ["unknown", "other"] * 4
    paths = sorted(map(str, at_home.rglob("*.png")))[:8]
    tuner.fit(paths, labels=labels).save(tmp_path / "m.toptune")
    line = ("predict", tmp_path / "m.toptune", "dark", "--reject", "0.2")
    assert toptune(*line).error.startswith("a class is called 'unknown', as images unlike")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--coverage", "95"), "coverage must be between 0 and 1, and neither of them, got 95"),
        (("--reject", "1e-17"), "reject must be between 0 and 1, and neither of them, got 1e-17"),
        (("--reject", "0"), "reject must be between 0 and 1, and neither of them, got 0"),
        (("--reject", "0.01"), "reject=0.01 needs at least 99 training images, and there are 24"),
    ],
)
def test_rates_that_cannot_be(
    toptune: Toptune, model_file: Path, at_home: Path, arguments: tuple[str, str], error: str
) -> None:
    assert toptune("predict", model_file, "dark", *arguments).error.startswith(error)
