"""A score as a sum over training images: nothing is lost and nothing is counted twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toptune.model.explanation import Attribution, support_of


def total(found: Attribution) -> float:
    named = sum(image.contribution for image in (*found.supporting, *found.opposing))
    return named + found.supporting_rest + found.opposing_rest


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5)),
    n_images=st.integers(0, 40),
)
def test_parts_add_up(values: np.ndarray, n_images: int) -> None:
    m = len(values)
    ids = [f"image {j}" for j in range(m)]
    labels = [(None, "a", "b")[j % 3] for j in range(m)]
    found = support_of(values, np.linspace(0, 1, m), ids, labels, n_images=n_images)
    assert found.score == pytest.approx(values.sum(), abs=1e-12)
    assert total(found) == pytest.approx(values.sum(), abs=1e-12)
    assert sum(share.contribution for share in found.classes) == pytest.approx(
        values.sum(), abs=1e-12
    )
    assert sum(share.n_images for share in found.classes) == m
    assert found.n_supporting == (values > 0).sum()
    assert found.n_opposing == (values < 0).sum()
    assert len(found.supporting) == min(n_images, found.n_supporting)
    assert len(found.opposing) == min(n_images, found.n_opposing)


def test_the_most_important_come_first_with_their_own_names() -> None:
    values = np.array([0.1, -0.7, 0.5, -0.2, 0.0])
    similarity = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = support_of(values, similarity, list("abcde"), ["x", "y", "x", "y", "y"], n_images=1)
    (best,), (worst,) = found.supporting, found.opposing
    assert (best.id, best.label, best.contribution, best.similarity) == ("c", "x", 0.5, 0.3)
    assert (worst.id, worst.label, worst.contribution, worst.similarity) == ("b", "y", -0.7, 0.2)
    assert (found.supporting_rest, found.opposing_rest) == (0.1, -0.2)
    assert [(share.label, share.n_images) for share in found.classes] == [("x", 2), ("y", 3)]


def test_lengths_and_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="must have one length, got 2, 2, 1 and 2"):
        support_of(np.ones(2), np.ones(2), ["a"], [0, 1])
    with pytest.raises(ValueError, match="n_images must be >= 0, got -1"):
        support_of(np.ones(1), np.ones(1), ["a"], [0], n_images=-1)
