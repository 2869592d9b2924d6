from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from toptune import DataError
from toptune.images import stratified_split


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    test_size=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_split_parts_are_disjoint_and_proportional(
    counts: list[int], test_size: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        train, test = stratified_split(labels, test_size=test_size, random_state=seed)
    except DataError:
        assume(False)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    divided = sum(c for c in counts if c > 1)
    share = math.ceil(test_size * divided) / divided
    for label, count in enumerate(counts):
        tested = int((labels[test] == label).sum())
        if count == 1:
            assert tested == 0
        else:
            assert abs(tested - count * share) <= 1
            assert tested < count


def test_stratified_split_seed_decides() -> None:
    labels = np.repeat(["cat", "dog"], 50)
    first, again = (stratified_split(labels, random_state=3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != stratified_split(labels, random_state=4)[1]).any()
    assert len(first) == 25


def test_stratified_split_lone_images_are_trained_on() -> None:
    train, test = stratified_split(["a", "b", "a", "c", "a", "a"], test_size=0.5)
    assert {1, 3} <= set(train.tolist())
    assert len(test) == 2


@pytest.mark.parametrize("test_size", [0, 1, -0.5, 1.5, float("nan")])
def test_stratified_split_bad_test_size_raises(test_size: float) -> None:
    with pytest.raises(DataError, match="test_size must be between 0 and 1"):
        stratified_split(["a", "a"], test_size=test_size)


def test_stratified_split_too_few_images_raise() -> None:
    with pytest.raises(DataError, match=r"6 images of 3 classes with test_size=0\.25"):
        stratified_split(["a", "a", "b", "b", "c", "c"], test_size=0.25)


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b", "c"]])
def test_stratified_split_nothing_to_divide_raises(labels: list[str]) -> None:
    with pytest.raises(DataError, match="no class has two images"):
        stratified_split(labels)
