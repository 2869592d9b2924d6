"""Models in stored files: loaded, saved again, asked, and made again from what they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_comparison import (
    ANSWERS,
    FITS,
    assert_same_arrays,
    assert_same_json,
    bits_count,
    same_machine,
    without_volatile,
)
from golden_comparison import CLOSE as SAME_MACHINE
from golden_files import read_arrays, read_file
from golden_material import FILES
from golden_models import CASES as HEADS
from golden_models import (
    FEATURE_FILES,
    RECIPES,
    fine_tuned_answers,
    fitted_case,
    model_answers,
    stored_model,
)

from toptune import Features, FineTuner


@pytest.mark.parametrize("name", RECIPES)
def test_model_loaded_and_saved_again_is_the_same_file(name: str, tmp_path: Path) -> None:
    keep: Any = {"nystrom_nothing": "nothing"}.get(name, "auto")
    stored_model(name).save(tmp_path / "again", keep=keep)
    assert_same_file(tmp_path / "again", FILES / f"{name}.toptune")


@pytest.mark.parametrize("name", RECIPES)
def test_model_loaded_answers_as_stored(name: str) -> None:
    found = model_answers(stored_model(name), RECIPES[name].probe)
    expected = read_arrays(f"model/{name}/")
    assert_same_arrays(found, expected, name=f"answers of {name}", elsewhere=ANSWERS)


@pytest.mark.parametrize("name", RECIPES)
def test_model_made_again_is_the_stored_one(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    model = recipe.make()
    model.save(tmp_path / "again", keep=recipe.keep)
    found, document = read_file(tmp_path / "again")
    expected, stored = read_file(FILES / f"{name}.toptune")
    assert_same_arrays(found, expected, name=name, elsewhere=FITS)
    tolerance = 0.0 if bits_count(name) else SAME_MACHINE if same_machine() else FITS
    assert_same_json(without_volatile(document), without_volatile(stored), tolerance=tolerance)
    answers = read_arrays(f"model/{name}/")
    assert_same_arrays(model_answers(model, recipe.probe), answers, name=name, elsewhere=FITS)


@pytest.mark.parametrize("name", HEADS)
def test_head_fitted_again_is_the_stored_one(name: str) -> None:
    expected = read_arrays(f"head/{name}/")
    assert_same_arrays(fitted_case(HEADS[name]), expected, name=name, elsewhere=FITS)


@pytest.mark.parametrize("name", FEATURE_FILES)
def test_features_loaded_and_saved_again_are_the_same_file(name: str, tmp_path: Path) -> None:
    path = FILES / f"{name}.safetensors"
    features = Features.load(path)
    features.save(tmp_path / "again", half=features.X.dtype == np.float16)
    assert_same_file(tmp_path / "again", path)


def test_fine_tuned_model_loaded_and_saved_again_is_the_same_file(tmp_path: Path) -> None:
    FineTuner.load(FILES / "trained.finetuned").save(tmp_path / "again")
    assert_same_file(tmp_path / "again", FILES / "trained.finetuned")


def test_fine_tuned_model_loaded_answers_as_stored() -> None:
    expected = read_arrays("fine-tuned/")
    assert_same_arrays(fine_tuned_answers(), expected, name="fine-tuned", elsewhere=FITS)


def assert_same_file(found: Path, expected: Path) -> None:
    """The same tensors, byte by byte, and the same document, on every machine."""
    tensors, document = read_file(found)
    stored, stored_document = read_file(expected)
    assert document == stored_document
    assert tensors.keys() == stored.keys()
    for name, tensor in stored.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape), name
        assert tensors[name].tobytes() == tensor.tobytes(), name
