"""Prediction sets and "unknown": digits as images, photographs as what no digit looks like."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from toptune import DataError, TopTuner
from toptune.decisions.prediction_sets import set_threshold
from toptune.decisions.rule import UNKNOWN

N_TRAIN, N_TEST = 200, 200
#: In random order: scikit-learn's are in the order of their writers.
ORDER = np.random.default_rng(0).permutation(1797)[: N_TRAIN + N_TEST]
IMAGES = (load_digits().images[ORDER] * 15).astype(np.uint8).repeat(4, 1).repeat(4, 2)
DIGITS = load_digits().target[ORDER]
NAMES = np.array([f"digit {k}" for k in DIGITS])
TEST = list(IMAGES[N_TRAIN:])


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def tuner_of(backbone: str, labels: np.ndarray, **options: Any) -> TopTuner:
    tuner = TopTuner(backbone=backbone, layers="last", resolution=32, **options)
    return tuner.fit(list(IMAGES[:N_TRAIN]), labels=labels[:N_TRAIN])


@pytest.fixture(scope="module")
def fitted(tiny_name: str) -> TopTuner:
    """Not to be changed."""
    return tuner_of(tiny_name, NAMES)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    from skimage import data

    whole = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    return [p[i : i + 200, i : i + 200] for p in whole for i in (0, 40, 80)]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_true_class_as_often_as_asked(fitted: TopTuner, coverage: float) -> None:
    sets = fitted.predict(TEST, coverage=coverage)
    assert sets.shape == (N_TEST, 10)
    assert sets.dtype == bool
    held = (sets & (NAMES[N_TRAIN:, None] == fitted.classes_)).any(axis=1)
    # Four standard deviations: of the share in 200, and of the order statistic of 200.
    bound = 4 * np.sqrt(2 * coverage * (1 - coverage) / N_TEST)
    assert held.mean() == pytest.approx(coverage, abs=bound)
    assert sets.sum(axis=1).mean() < 4  # all ten classes would be no answer


def test_sets_are_those_of_the_threshold(fitted: TopTuner) -> None:
    loo = fitted.loo_proba_
    lowest = set_threshold(loo, fitted.codes_, 0.9)
    found = fitted.classify(TEST[:40], coverage=0.9)
    assert found.sets is not None
    np.testing.assert_array_equal(found.sets, found.probabilities >= lowest)
    assert found.unknown is found.unknown_score is None
    for names, held, P in zip(found.set_labels(), found.sets, found.probabilities, strict=True):
        assert set(names) == set(found.classes[held])
        ranks = [P[found.classes.tolist().index(name)] for name in names]
        assert ranks == sorted(ranks, reverse=True)
    with pytest.raises(ValueError, match="no prediction sets: ask for them with coverage="):
        fitted.classify(TEST[:1]).set_labels()


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("n_centers", ["auto", 150])
def test_photographs_are_unknown_and_digits_are_not(
    tiny_name: str, photographs: list[np.ndarray], kernel: Any, n_centers: Any
) -> None:
    tuner = tuner_of(tiny_name, NAMES, kernel=kernel, n_centers=n_centers)
    assert tuner.head_.n_centers_ == (N_TRAIN if n_centers == "auto" else 150)
    answers = tuner.predict([*TEST, *photographs], reject=0.05)
    assert answers.dtype.kind == "U"
    assert (answers[N_TEST:] == UNKNOWN).all()
    false_alarms = (answers[:N_TEST] == UNKNOWN).mean()
    assert 0 < false_alarms < 0.05 + 4 * np.sqrt(2 * 0.05 * 0.95 / 150)
    known = answers[:N_TEST] != UNKNOWN
    assert (answers[:N_TEST][known] == tuner.predict(TEST)[known]).all()
    scores = tuner.unknown_score([*TEST, *photographs])
    assert scores[N_TEST:].min() > np.quantile(scores[:N_TEST], 0.95)


def test_both_leave_the_sets_of_unknown_images_empty(
    fitted: TopTuner, photographs: list[np.ndarray]
) -> None:
    sets = fitted.predict([*TEST[:20], *photographs], coverage=0.95, reject=0.05)
    assert not sets[20:].any()
    found = fitted.classify([*TEST[:20], *photographs], coverage=0.95, reject=0.05)
    assert found.sets is not None
    assert found.unknown is not None
    np.testing.assert_array_equal(sets, found.sets & ~found.unknown[:, None])


def test_labels_that_are_no_text_keep_their_kind(
    tiny_name: str, photographs: list[np.ndarray]
) -> None:
    tuner = tuner_of(tiny_name, DIGITS)
    answers = tuner.predict([TEST[0], photographs[0]], reject=0.02)
    assert answers.dtype == object
    assert answers.tolist() == [DIGITS[N_TRAIN], "unknown"]


def test_a_class_called_unknown_is_not_mixed_up(tiny_name: str) -> None:
    labels = np.where(DIGITS == 0, "unknown", "other")
    tuner = tuner_of(tiny_name, labels)
    with pytest.raises(DataError, match=r"a class is called 'unknown'.*reject=\.\.\.\)\.unknown"):
        tuner.predict(TEST[:2], reject=0.05)
    assert tuner.classify(TEST[:2], reject=0.05).unknown is not None
    assert tuner.predict(TEST[:2], reject=0.05, coverage=0.9).shape == (2, 2)


def test_a_loaded_model_says_the_same(
    tiny_name: str, photographs: list[np.ndarray], tmp_path: Path
) -> None:
    groups = [f"writer {k // 5}" for k in range(N_TRAIN)]
    tuner = TopTuner(backbone=tiny_name, layers="last", resolution=32)
    tuner.fit(list(IMAGES[:N_TRAIN]), labels=NAMES[:N_TRAIN], groups=groups)
    tuner.save(tmp_path / "digits.toptune")
    loaded = TopTuner.load(tmp_path / "digits.toptune")
    assert loaded.groups_ is not None
    assert loaded.groups_.tolist() == groups
    images = [*TEST[:30], *photographs]
    here = tuner.classify(images, coverage=0.9, reject=0.05)
    there = loaded.classify(images, coverage=0.9, reject=0.05)
    np.testing.assert_array_equal(here.sets, there.sets)
    np.testing.assert_array_equal(here.unknown, there.unknown)
    np.testing.assert_allclose(here.unknown_score, there.unknown_score, rtol=1e-6)


def test_groups_are_left_out_whole(tiny_name: str) -> None:
    """Copies vouch for each other; named as groups they do not, and nothing is unknown for it."""
    twice, labels = list(IMAGES[:100].repeat(2, axis=0)), NAMES[:100].repeat(2)
    names = [f"image {k // 2}" for k in range(200)]
    tuner = TopTuner(backbone=tiny_name, layers="last", resolution=32, random_state=0)
    alone = tuner.fit(twice, labels=labels).predict(TEST, reject=0.05)
    together = tuner.fit(twice, labels=labels, groups=names).predict(TEST, reject=0.05)
    assert (alone == UNKNOWN).mean() > 0.9
    assert (together == UNKNOWN).mean() < 0.2
    with pytest.raises(DataError, match="at least 199 training groups of images, and there are 10"):
        tuner.predict(TEST[:1], reject=0.005)


@pytest.mark.parametrize("name", ["coverage", "reject"])
def test_rates_that_are_none_are_named(fitted: TopTuner, name: str) -> None:
    for value in (0, 1, -0.5, 95):
        with pytest.raises(ValueError, match=f"{name} must be between 0 and 1.* got {value}"):
            fitted.predict(TEST[:1], **{name: value})
    share = {"coverage": 0.999, "reject": 0.001}[name]
    with pytest.raises(DataError, match=f"{name}={share} needs at least 999 training images, and "):
        fitted.predict(TEST[:1], **{name: share})


def test_it_is_fitted_first() -> None:
    for call in (TopTuner().unknown_score, lambda x: TopTuner().predict(x, reject=0.1)):
        with pytest.raises(NotFittedError, match="call fit or load first"):
            call(TEST[:1])


def test_another_head_is_compared_with_itself(tiny_name: str) -> None:
    tuner = tuner_of(tiny_name, NAMES)
    model = tuner.model_
    first, again = model.unknown_scorer, tuner.model_.unknown_scorer
    assert first is again
    assert "unknown_scorer" not in vars(pickle.loads(pickle.dumps(tuner)).model_)
    tuner.forget(tuner.ids_[0])
    assert tuner.model_ is not model
    assert tuner.model_.unknown_scorer is not first
