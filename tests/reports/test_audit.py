"""Audits of digits with labels changed, copies relabelled and copies put into the test split."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from toptune import DataError, TopTuner
from toptune.images import from_arrays, open_images
from toptune.reports.audit import Audit, audit, audit_page

CHANGED = (3, 17, 41)  # positions of images that carry the name of another digit
N = 90


@pytest.fixture(scope="module")
def small(tiny_name: str, kept: Path) -> TopTuner:
    """A tuner of small images, not fitted."""
    return TopTuner(backbone=tiny_name, resolution=32, cache=kept)


@pytest.fixture(scope="module")
def digits() -> tuple[list[Image.Image], list[str]]:
    """Ninety zeros, ones and fours, as pictures, with their names."""
    data = load_digits()
    rows = np.flatnonzero(np.isin(data.target, [0, 1, 4]))[:N]
    images = (data.images[rows] * 15).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    names = [{0: "zero", 1: "one", 4: "four"}[k] for k in data.target[rows].tolist()]
    return [Image.fromarray(image) for image in images], names


def wrong(name: str) -> str:
    return {"zero": "one", "one": "four", "four": "zero"}[name]


@pytest.fixture(scope="module")
def tree(digits: tuple[list[Image.Image], list[str]], tmp_path_factory: object) -> Path:
    """Two splits; a changed label each, a copy across, and a copy that is labelled differently."""
    root: Path = tmp_path_factory.mktemp("data") / "digits <b>"  # type: ignore[attr-defined]
    images, names = digits
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        label = wrong(name) if i in CHANGED else name
        folder = root / ("test" if i >= 60 else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{i:02d}.png")
    images[0].save(root / "test" / names[0] / "copy.png")
    images[1].save(root / "train" / wrong(names[1]) / "relabelled.png")
    (root / "train" / "one" / "broken.png").write_text("no image")
    return root


@pytest.fixture(scope="module")
def found(tree: Path, small: TopTuner) -> Audit:
    with pytest.warns(UserWarning, match="1 image could not be read"):
        out = audit(tree, tuner=small)
    assert not hasattr(small, "head_")  # it is left as it was
    return out


def number(name: str) -> str:
    return Path(name).stem


def test_audit_changed_labels_are_suspected_with_their_true_class(
    found: Audit, digits: tuple[list[Image.Image], list[str]]
) -> None:
    suggested = {number(s.image.id): s.suggested for s in found.suspects}
    assert suggested.keys() >= {f"{i:02d}" for i in CHANGED}
    for i in CHANGED:
        assert suggested[f"{i:02d}"] == digits[1][i]
    scores = [s.suspicion for s in found.suspects]
    assert scores == sorted(scores, reverse=True)
    assert len(found.suspects) == found.n_suspects < 12
    for suspect in found.suspects:
        assert 0 <= suspect.label_probability < suspect.probability <= 1
        assert len(suspect.neighbours) == 4
        assert suspect.image.id not in {near.id for near in suspect.neighbours}


def test_audit_relabelled_copy_has_its_original_as_neighbour(found: Audit) -> None:
    relabelled = next(s for s in found.suspects if number(s.image.id) == "relabelled")
    assert number(relabelled.neighbours[0].id) == "01"  # the copy


def test_audit_copies_are_conflicts_and_leaks(found: Audit) -> None:
    conflict = [{number(i.id) for i in group} for group in found.conflicts]
    assert any({"01", "relabelled"} <= group for group in conflict)
    leak = [{number(i.id): i.split for i in group} for group in found.leaks]
    assert any({("00", "train"), ("copy", "test")} <= group.items() for group in leak)
    assert all(set(group.values()) == {"train", "test"} for group in leak)
    assert found.n_near_duplicates >= 4
    assert found.splits == {"train": 61, "test": 31}
    assert found.n == 92
    assert found.classes == ["four", "one", "zero"]
    assert [item.id for item in found.quarantined] == ["train/one/broken.png"]


def test_audit_to_dict_is_json(found: Audit) -> None:
    content = json.loads(json.dumps(found.to_dict()))
    first = content["suspects"][0]
    assert first.keys() == {
        *("id", "split", "label", "suggested", "probability", "label_probability"),
        *("suspicion", "neighbours"),
    }
    assert first["neighbours"][0].keys() == {"id", "split", "label"}
    assert content["leaks"][0][0].keys() == {"id", "split", "label"}


def test_audit_page_pictures_are_inside(found: Audit) -> None:
    page = audit_page(found, data="digits <b>")
    assert "<h1>Audit of digits &lt;b&gt;</h1>" in page
    uris = re.findall(r'src="([^"]*)"', page)
    shown = len(found.suspects) * 5 + sum(map(len, (*found.conflicts, *found.leaks)))
    assert len(uris) == shown
    assert all(uri.startswith("data:image/") for uri in uris)
    assert base64.b64decode(uris[0].partition(",")[2])[:4] == b"\x89PNG"
    assert "http" not in re.sub(r'src="[^"]*"', "", page)
    assert "<script" not in page
    assert "Copies in several splits" in page
    assert "train/one/broken.png" in page


def test_audit_page_missing_file_has_no_picture(tree: Path, found: Audit) -> None:
    place = tree / found.suspects[0].image.id
    content = place.read_bytes()
    place.unlink()
    try:
        page = audit_page(found)
    finally:
        place.write_bytes(content)
    assert "1 file could not be read again" in page
    assert "file not there" in page


def test_audit_arrays_without_splits_has_no_leaks(
    digits: tuple[list[Image.Image], list[str]], small: TopTuner
) -> None:
    images, names = digits
    found = audit(from_arrays(images[:40], names[:40]), tuner=small, max_suspects=1)
    assert found.splits == {}
    assert found.leaks == ()
    assert len(found.suspects) <= 1
    assert all(s.image.split is None for s in found.suspects)
    page = audit_page(found)
    assert "Copies in several splits" not in page
    assert "3 classes" in page


def test_audit_image_in_both_splits_is_a_leak(tree: Path, small: TopTuner) -> None:
    rows = [(i, Path(i).parent.name, "train") for i in open_images(tree, split="train").ids]
    rows += [(i, Path(i).parent.name, "test") for i in open_images(tree, split="test").ids]
    rows = [row for row in rows if "broken" not in row[0]]
    rows.append((rows[5][0], rows[5][1], "test"))
    table = tree / "all.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image_path", "label", "split"), *rows])
    try:
        found = audit(table, tuner=small)
    finally:
        table.unlink()
    assert found.n == 93
    twice = {(rows[5][0], "train"), (rows[5][0], "test")}
    assert any(twice <= {(i.id, i.split) for i in group} for group in found.leaks)


def test_audit_uninformative_model_is_weak_evidence(
    found: Audit, digits: tuple[list[Image.Image], list[str]], small: TopTuner
) -> None:
    """Sixteen of 16 labels would be suspected by a model whose accuracy is 0."""
    labels = [f"class {i % 5}" for i in range(15)]
    nothing = audit([digits[0][0]] * 15, labels, tuner=small)
    assert nothing.loo_accuracy <= 0.2
    assert nothing.n_suspects == 0
    assert "always naming the largest class on 20.0 %" in nothing.weak_evidence
    assert nothing.weak_evidence in audit_page(nothing)
    assert found.weak_evidence == ""
    assert "too little" not in audit_page(found)


def test_audit_bad_input_raises(
    digits: tuple[list[Image.Image], list[str]], small: TopTuner
) -> None:
    images, _ = digits
    with pytest.raises(DataError, match="at least two classes"):
        audit(images[:5], ["one"] * 5, tuner=small)
    with pytest.raises(DataError, match="these images have no labels: an audit needs one label"):
        audit(from_arrays(images[:5]))
    with pytest.raises(ValueError, match="max_suspects must be >= 1, got 0"):
        audit(images[:5], ["one"] * 5, max_suspects=0)
    with pytest.raises(DataError, match='name one instead of backbone="auto"'):
        audit(images[:4], list("abab"), tuner=TopTuner(backbone="auto"))
