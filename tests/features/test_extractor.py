"""FeatureExtractor in scikit-learn's company: pipelines, clones, cross-validation, pickles."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

from toptune import DataError, FeatureExtractor, KernelClassifier
from toptune.images import from_arrays

N_EACH = 8
LABELS = ["night"] * N_EACH + ["day"] * N_EACH


def pixels() -> list[np.ndarray]:
    """Dark, then bright images."""
    noise = np.random.default_rng(0).integers(0, 90, (2 * N_EACH, 32, 32, 3), dtype=np.uint8)
    noise[N_EACH:] += 150
    return list(noise)


@pytest.fixture
def extractor(tiny_name: str) -> FeatureExtractor:
    return FeatureExtractor(backbone=tiny_name, layers="last", precision="float32", cache=None)


@pytest.fixture
def pipeline(extractor: FeatureExtractor) -> Pipeline:
    return make_pipeline(extractor, KernelClassifier())


def test_transform_images_gives_rows_of_float32(extractor: FeatureExtractor) -> None:
    X = extractor.fit_transform(pixels())
    features = extractor.extract(from_arrays(pixels(), LABELS))
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, features.X)
    assert features.labels is not None
    assert features.labels.tolist() == LABELS
    assert len(extractor.get_feature_names_out()) == X.shape[1]


def test_transform_unreadable_image_raises_its_name(extractor: FeatureExtractor) -> None:
    with pytest.raises(DataError, match="image-000001"):
        extractor.transform([pixels()[0], b""])


def test_set_output_pandas_names_the_columns(extractor: FeatureExtractor) -> None:
    frame = extractor.set_output(transform="pandas").fit_transform(pixels())
    assert frame.columns.tolist() == extractor.get_feature_names_out().tolist()


def test_pipeline_cloned_and_pickled_answers_alike(pipeline: Pipeline) -> None:
    fitted = clone(pipeline).fit(pixels(), LABELS)
    assert fitted.predict(pixels()).tolist() == LABELS
    content = pickle.dumps(fitted)
    assert len(content) < 200_000  # without the network
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(pixels()), fitted.predict_proba(pixels()))


def test_pipeline_of_paths_or_images_cross_validates(pipeline: Pipeline, tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(2 * N_EACH)]
    for path, image in zip(paths, pixels(), strict=True):
        Image.fromarray(image).save(path)
    for images in (pixels(), [str(path) for path in paths]):
        assert cross_val_score(pipeline, images, LABELS, cv=2).tolist() == [1.0, 1.0]


def test_load_same_parameters_keeps_the_network(extractor: FeatureExtractor) -> None:
    first = extractor.load()[0]
    assert extractor.load()[0] is first
    assert extractor.set_params(resolution=48).load()[0] is not first
