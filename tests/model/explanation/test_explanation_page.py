"""The page of an explanation: whole, alone, and safe with any name."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from page_checks import Page
from toptune import TopTuner
from toptune.images import image_files
from toptune.model.explanation import ClassShare, Occlusion
from toptune.reports.explanation.page import AGAINST, FOR, explanation_page, heat_map


@pytest.fixture(scope="module")
def found(tuner: TopTuner, face_files: Path) -> object:
    return tuner.explain(face_files / "cat" / "3.png", n_images=4, cells=4)


def page_of(found: object, root: Path, **options: str) -> str:
    support = found.support
    named = (i.id for i in (*support.supporting, *support.opposing))
    files = image_files(filter(None, named), [root])
    return explanation_page(found, files, **options)


def test_explanation_page_holds_numbers_and_pictures(found: object, face_files: Path) -> None:
    text = page_of(found, face_files, model="faces.toptune")
    page = Page(text)
    page.check_alone()
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) == 2 + 8
    for picture in pictures:
        content = base64.b64decode(picture.partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    assert "Why cat" in page.text
    assert "faces.toptune" in page.text
    assert f"{100 * found.probability:.1f} %" in page.text
    for image in (*found.support.supporting, *found.support.opposing):
        assert image.id in page.text
        assert f"{image.contribution:+.3f}".replace("-", "−") in page.text
    assert "file not there" not in page.text
    assert "All 24 training images carry weight" in page.text


def test_explanation_page_missing_files_are_noted(found: object, tmp_path: Path) -> None:
    page = Page(page_of(found, tmp_path))
    assert page.text.count("file not there") == 8
    assert "The files of 8 of the images above are not where they were" in page.text


def test_explanation_page_few_centers_are_noted(found: object, tmp_path: Path) -> None:
    page = Page(page_of(replace(found, n_images=5000), tmp_path))
    assert "Only the 24 of 5,000 training images that are centers" in page.text


def test_explanation_page_hostile_names_are_escaped(found: object, tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>'
    support = replace(
        found.support, supporting=(replace(found.support.supporting[0], id=hostile, label=hostile),)
    )
    text = page_of(replace(found, id=hostile, label=hostile, support=support), tmp_path)
    page = Page(text)
    page.check_alone()
    assert hostile in page.text


def test_heat_map_box_is_coloured() -> None:
    picture = np.full((100, 200, 3), 200, dtype=np.uint8)
    drops = np.zeros((2, 2))
    drops[0, 1], drops[1, 0] = 0.5, -0.5
    out = heat_map(Occlusion(drops, (0.25, 0.0, 0.75, 1.0)), picture).astype(int)
    np.testing.assert_array_equal(out[:, :45], 200)  # not seen by the network
    np.testing.assert_array_equal(out[:, 155:], 200)
    right, left = out[2, 147], out[97, 52]
    for colour, seen in ((FOR, right), (AGAINST, left)):
        np.testing.assert_allclose(seen, 0.25 * 200 + 0.75 * np.array(colour), atol=3)


def test_explanation_page_small_picture_is_enlarged(found: object, tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    page = Page(page_of(replace(found, picture=small), tmp_path))
    pictures = [value for name, value in page.attributes if name == "src"]
    for picture in pictures:
        content = base64.b64decode(picture.partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (270, 360)


def test_explanation_page_cancelling_sides_warn(found: object, tmp_path: Path) -> None:
    support = found.support
    warning = "The two sides nearly cancel here"
    plain = replace(support, supporting_rest=0.5, supporting=())
    assert warning not in Page(page_of(replace(found, support=plain), tmp_path)).text
    large = replace(plain, supporting_rest=5000.0)
    assert warning in Page(page_of(replace(found, support=large), tmp_path)).text


def test_explanation_page_forgotten_image_has_no_name(found: object, tmp_path: Path) -> None:
    gone = replace(found.support.supporting[0], id=None, label=None)
    classes = (ClassShare(None, 0.25, 1), *found.support.classes)
    support = replace(found.support, supporting=(gone,), classes=classes)
    page = Page(page_of(replace(found, support=support), tmp_path))
    assert "a center of another model, or a forgotten image" in page.text
    assert "forgotten images" in page.text
    assert "None" not in page.text


def test_heat_map_without_drops_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = heat_map(Occlusion(np.zeros((3, 3)), (0, 0, 1, 1)), picture)
    grey = np.repeat(np.rint(picture.mean(axis=2, keepdims=True)), 3, axis=2)
    np.testing.assert_array_equal(out, grey)


def test_explanation_page_colours_are_variables(found: object, face_files: Path) -> None:
    text = page_of(found, face_files)
    style = text[text.index("</title>") :].replace("data:image", "")
    used = set(re.findall(r"var\(--([a-z]+)\)", style))
    defined = set(re.findall(r"--([a-z]+):", style))
    assert used <= defined
