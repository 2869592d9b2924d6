"""`TopTuner.explain`: the way from an image to its score and back, on real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError

from explain_helpers import scene
from toptune import TopTuner
from toptune.errors import DataError
from toptune.images import from_arrays

CORNERS = {"upper left": (0, 0), "upper right": (0, 96), "lower left": (96, 0)}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("name", ["cat", "astronaut"])
def test_the_map_is_highest_where_the_object_is(
    tuner: TopTuner, faces: dict[str, np.ndarray], gravel: np.ndarray, name: str, corner: str
) -> None:
    row, column = CORNERS[corner]
    found = tuner.explain([scene(gravel, faces[name], row, column)], cells=5)
    assert found.label == found.predicted == name
    drops = found.occlusion.drops
    i, j = np.unravel_index(drops.argmax(), drops.shape)
    assert drops[i, j] > 0
    # The face is 64 pixels of 160 wide: the first two, or the last two, of five cells.
    inside = np.zeros((5, 5), dtype=bool)
    inside[row // 32 : row // 32 + 2, column // 32 : column // 32 + 2] = True
    assert inside[i, j]
    assert drops[inside].mean() > 2 * drops[~inside].mean()


def test_one_cell_is_what_the_whole_way_gives_for_a_covered_picture(
    tuner: TopTuner, faces: dict[str, np.ndarray], gravel: np.ndarray
) -> None:
    picture = scene(gravel, faces["cat"], 90, 30)
    found = tuner.explain([picture], label="cat", cells=8)
    by_hand = picture.copy()
    by_hand[100:120, 40:60] = np.rint(picture.mean(axis=(0, 1)))  # row 5, column 2 of 20 pixels
    features = tuner.extract(from_arrays([picture, by_hand]))
    scores = tuner.head_.decision_function(tuner.normalizer_.transform(features.X))
    column = tuner.classes_.tolist().index("cat")
    signs = 1.0 if column == 1 else -1.0  # of two classes, the score is that of the second
    expected = signs * (scores[0] - scores[1])
    assert abs(expected) > 1e-3
    assert found.occlusion.drops[5, 2] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_contributions_are_those_of_the_score_and_the_probability(
    tuner: TopTuner, face_files: Path
) -> None:
    file = face_files / "cat" / "3.png"
    found = tuner.explain(file, n_images=24)
    P = tuner.predict_proba(file)[0]
    assert found.probability == pytest.approx(P.max(), abs=1e-6)
    assert (found.label, found.n_images, found.n_centers) == ("cat", 24, 24)
    support = found.support
    named = (*support.supporting, *support.opposing)
    total = sum(image.contribution for image in named)
    size = sum(abs(image.contribution) for image in named)
    assert abs(total - found.score) <= 1e-9 * abs(found.score) + 1e-13 * size
    assert (support.supporting_rest, support.opposing_rest) == (0.0, 0.0)
    own = next(image for image in named if image.id == "cat/3.png")
    assert own.label == "cat"
    assert own.similarity == pytest.approx(1.0, abs=1e-5)
    assert max(image.similarity for image in named) == own.similarity
    assert all(image.id.startswith(image.label) for image in named)


def test_only_centers_have_a_part(face_files: Path, tiny_name: str) -> None:
    few = TopTuner(backbone=tiny_name, layers="last", cache=None, n_centers=6).fit(face_files)
    found = few.explain(face_files / "cat" / "0.png", n_images=24)
    named = {image.id for image in (*found.support.supporting, *found.support.opposing)}
    assert named == {few.ids_[j] for j in few.head_.center_indices_}
    assert (found.n_images, found.n_centers) == (24, 6)


def test_another_class_can_be_asked_for(tuner: TopTuner, face_files: Path) -> None:
    file = face_files / "cat" / "0.png"
    cat, other = tuner.explain(file), tuner.explain(file, label="astronaut")
    assert (other.label, other.predicted) == ("astronaut", "cat")
    assert other.score == pytest.approx(
        -cat.score
    )  # of two classes one is the other's mirror image
    assert other.probability == pytest.approx(1 - cat.probability)
    np.testing.assert_allclose(other.occlusion.drops, -cat.occlusion.drops, atol=1e-9)


def test_labels_that_are_numbers(faces: dict[str, np.ndarray], tiny_name: str) -> None:
    images = [face[:, ::step] for face in faces.values() for step in (1, -1)]
    tuner = TopTuner(backbone=tiny_name, layers="last", cache=None)
    tuner.fit(images, labels=np.array([3, 3, 7, 7]))
    found = tuner.explain([images[0]], label="7", cells=2)
    assert (found.label, found.predicted) == (7, 3)
    json.dumps(found.to_dict())


def test_a_stored_model_explains_alike(tuner: TopTuner, face_files: Path, tmp_path: Path) -> None:
    file = face_files / "astronaut" / "1.png"
    tuner.save(tmp_path / "model.toptune")
    loaded = TopTuner.load(tmp_path / "model.toptune")
    assert loaded.provenance_["image_folders"] == [str(face_files)]
    assert loaded.explain(file, cells=3).to_dict() == tuner.explain(file, cells=3).to_dict()


def test_what_cannot_be_explained(tuner: TopTuner, face_files: Path, tmp_path: Path) -> None:
    cat = face_files / "cat" / "0.png"
    with pytest.raises(DataError, match="one image can be explained at a time, got 12"):
        tuner.explain(face_files / "cat")
    with pytest.raises(DataError, match="has no class 'dog': it knows astronaut, cat"):
        tuner.explain(cat, label="dog")
    with pytest.raises(DataError, match="cells must be between 1 and 32, got 33"):
        tuner.explain(cat, cells=33)
    with pytest.raises(DataError, match="n_images must be >= 0, got -1"):
        tuner.explain(cat, n_images=-1)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png: not an image"):
        tuner.explain(tmp_path / "bad.png")
    with pytest.raises(NotFittedError):
        TopTuner().explain(cat)


def test_the_picture_is_upright(tuner: TopTuner, astronaut: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(astronaut[:200]).save(tmp_path / "turned.jpg", exif=exif)
    found = tuner.explain(tmp_path / "turned.jpg", cells=2)
    assert found.picture.shape == (512, 200, 3)
