"""`toptune update`, `forget` and `merge`: files in, new files out, mistakes in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toptune import TopTuner
from toptune.images import image_files

Toptune = Callable[..., Any]

KEYS = {
    *("n", "n_before", "classes", "loo_accuracy", "loo_log_loss", "penalty", "n_centers"),
    *("refresh", "seconds", "quarantined"),
}


@pytest.fixture
def more(split_tree: Path) -> Path:
    """Nine images that the model does not know, under names that it does not know."""
    for path in sorted((split_tree / "test").rglob("*.png")):
        path.rename(path.with_name(f"new-{path.name}"))
    return split_tree / "test"


def test_images_are_added(toptune: Toptune, model_file: Path, more: Path, tmp_path: Path) -> None:
    (more / "odd").mkdir()
    for k, kind in enumerate(("bright", "dark")):
        (more / kind / "new-0.png").rename(more / "odd" / f"{k}.png")
    (more / "bright" / "broken.png").write_bytes(b"no image")
    before, out = model_file.read_bytes(), tmp_path / "new.toptune"
    found = toptune("update", model_file, more, "-o", out, "--json").json
    assert found.keys() == KEYS
    assert (found["n"], found["n_before"]) == (33, 24)
    assert found["classes"] == ["bright", "dark", "odd", "striped"]
    assert 0 < found["loo_accuracy"] <= 1
    assert [item["id"] for item in found["quarantined"]] == ["bright/broken.png"]
    assert found["refresh"] is None
    assert model_file.read_bytes() == before
    assert "bright/new-1.png" in TopTuner.load(out).ids_
    # Found in use: a later change listed the files that an earlier one had set aside.
    again = toptune("forget", out, "bright/new-1.png", "-o", tmp_path / "next", "--json").json
    assert again["quarantined"] == []
    assert len(TopTuner.load(tmp_path / "next").quarantined_) == 1


def test_images_are_forgotten(toptune: Toptune, model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.toptune"
    done = toptune("forget", model_file, "train/dark/0.png", "train/bright/3.png", "-o", out)
    assert done.code == 0, done.err
    assert "22, before 24; 3 classes" in done.out
    assert f"model written to {out}" in done.out.replace("\n", "")
    assert not {"train/dark/0.png", "train/bright/3.png"} & set(TopTuner.load(out).ids_)
    found = toptune(
        "forget",
        out,
        *(f"train/{k}/{i}.png" for k in ("dark", "bright") for i in (1, 2, 4)),
        "-o",
        out,
        "--overwrite",
        "--json",
    ).json
    assert (found["n"], found["n_before"], found["n_centers"]) == (16, 22, 16)
    assert found["refresh"].startswith("only 16 images are left of 24")


def test_names_to_forget_are_listed(toptune: Toptune, model_file: Path) -> None:
    """Found in use: `forget` asked for names that nothing printed."""
    ids = TopTuner.load(model_file).ids_
    done = toptune("forget", model_file, "--list")
    assert (done.code, done.out.splitlines()) == (0, list(ids))
    assert toptune("forget", model_file, "--list", "--json").json == {"n": 24, "ids": list(ids)}


def test_sites_are_merged(toptune: Toptune, model_file: Path, tree: Path, tmp_path: Path) -> None:
    sites = [tmp_path / "north", tmp_path / "south"]
    for k, site in enumerate(sites):
        shutil.copytree(tree, site)
        for path in sorted(site.rglob("*.png"))[k::2]:
            path.unlink()
        model = tmp_path / f"{site.name}.toptune"
        fit = toptune("fit", site, "-o", model, "--centers", model_file, "--json")
        assert (fit.json["n"], fit.json["n_centers"]) == (12, 24)
        assert fit.json["refresh"] is None
    files = [tmp_path / "north.toptune", tmp_path / "south.toptune"]
    out = tmp_path / "both.toptune"
    prefixes = ("--prefix", "north/", "--prefix", "south/")
    found = toptune("merge", *files, "-o", out, *prefixes, "--json").json
    assert found.keys() == KEYS
    assert (found["n"], found["n_before"]) == (24, 12)
    assert found["loo_accuracy"] is None  # the files hold sums, and nothing of single images
    assert found["loo_log_loss"] is None
    assert TopTuner.load(out).ids_[0].startswith("north/")
    shown = toptune("merge", *files, "-o", out, "--overwrite")
    assert shown.out.splitlines()[1].split() == ["leave-one-out", "accuracy", "not", "known"]
    evaluated = toptune("evaluate", out, tree.parent, "--json").json
    assert evaluated["accuracy"] == 1.0
    page = tmp_path / "report.html"
    for model, data in ((files[0], ()), (out, ("--data", tree.parent))):
        arguments = ("report", model, *data, "-o", page, "--overwrite", "--no-curve", "--json")
        report = toptune(*arguments).json
        assert report["feature_map"] is None  # found in use: a traceback, no center to be drawn
        assert "No map: the centers of this model are not" in page.read_text(encoding="utf-8")
    name = TopTuner.load(out).ids_[0]
    assert "without kernel rows" in toptune("forget", out, name, "-o", tmp_path / "x").error


def test_sites_do_not_tell_their_folders_and_their_files_are_found_where_they_are_named(
    toptune: Toptune, model_file: Path, tree: Path, tmp_path: Path
) -> None:
    sites = [tmp_path / "north", tmp_path / "south"]
    for site in sites:
        shutil.copytree(tree, site)
        for path in sorted(site.rglob("*.png")):
            path.rename(path.with_name(f"{site.name}-{path.name}"))
        model = tmp_path / f"{site.name}.toptune"
        assert toptune("fit", site, "-o", model, "--centers", model_file).code == 0
    out = tmp_path / "both.toptune"
    files = [tmp_path / "north.toptune", tmp_path / "south.toptune"]
    assert toptune("merge", *files, "-o", out).code == 0
    both = TopTuner.load(out)
    assert "image_folders" not in both.provenance_
    assert len(image_files(both.ids_, sites)) == len(both.ids_) == 48


def test_rows_are_kept_when_asked_for(
    toptune: Toptune, model_file: Path, tree: Path, tmp_path: Path
) -> None:
    model, out = tmp_path / "m.toptune", tmp_path / "n.toptune"
    arguments = ("--centers", model_file, "--keep", "rows", "--json")
    assert toptune("fit", tree, "-o", model, *arguments).json["n"] == 24
    assert toptune("forget", model, "dark/0.png", "-o", out, "--reselect", "--json").json["n"] == 23
    again = toptune("forget", out, "dark/1.png", "-o", out, "--overwrite", "--json")
    assert again.json["loo_accuracy"] is not None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("forget", "MODEL", "cat.png"), "the model was not trained on cat.png: ids_, or toptune"),
        (
            ("forget", "MODEL", "trains/dark/0.png"),
            "not trained on trains/dark/0.png, but on train/dark/0.png: ids_, or toptune forget",
        ),
        (("forget", "MODEL", "--list"), "--list only prints names"),
        (("forget", "MODEL"), "name training images to forget"),
        (
            ("update", "MODEL", "DATA"),
            "train/bright/1.png, train/bright/2.png and",
        ),
        (("forget", "MODEL"), "name training images to forget"),
        (("merge", "MODEL"), "merging takes at least two models, got"),  # found in use: a traceback
        (("merge", "MODEL", "MODEL"), "are in several of the models: give prefixes"),
        (("merge", "MODEL", "MODEL", "--prefix", "a"), "2 models need as many prefixes, got 1"),
        (("fit", "TREE", "--keep", "all"), "keep must be one of auto, nothing, sums, rows"),
        (("update", "MODEL", "TREE", "--keep", "all"), "keep must be one of auto, nothing"),
    ],
)
def test_mistakes_take_one_line_and_write_nothing(
    arguments: tuple[str, ...],
    why: str,
    toptune: Toptune,
    model_file: Path,
    tree: Path,
    tmp_path: Path,
) -> None:
    places: dict[str, Any] = {"MODEL": model_file, "TREE": tree, "DATA": tree.parent}
    out = tmp_path / "new.toptune"
    done = toptune(*(places.get(word, word) for word in arguments), "-o", out)
    assert why in done.error
    assert not out.exists()


@pytest.mark.parametrize("command", ["update", "forget", "merge"])
def test_a_model_is_not_overwritten_by_accident(
    command: str, toptune: Toptune, model_file: Path, tree: Path
) -> None:
    what = {"update": tree, "forget": "train/dark/0.png", "merge": model_file}[command]
    before = model_file.read_bytes()
    assert "exists already" in toptune(command, model_file, what, "-o", model_file).error
    assert model_file.read_bytes() == before
