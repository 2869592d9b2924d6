"""Nearest rows against all distances, sorted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toptune.kernel import Rows, neighbours
from toptune.kernel.neighbours import nearest_rows


@pytest.mark.parametrize("block", [3, 512])
@pytest.mark.parametrize("k", [1, 4, 99])
def test_nearest_rows_are_those_of_all_distances(
    block: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", block)
    X = np.random.default_rng(0).normal(size=(20, 5))
    X[8] = X[2]  # a copy is a neighbour, the row itself is not
    queries = np.array([2, 19, 0])
    index, distance = nearest_rows(Rows(X, dtype=torch.float64), queries, k)
    D = np.linalg.norm(X[queries, None] - X[None], axis=2)
    D[np.arange(3), queries] = np.inf
    m = min(k, 19)
    assert index.shape == distance.shape == (3, m)
    assert index[0, 0] == 8
    assert all(len(set(row)) == m for row in index.tolist())
    # Equal distances may come in any order.
    np.testing.assert_array_equal(np.take_along_axis(D, index, 1), np.sort(D, axis=1)[:, :m])
    # Squared distances come from one product: 1e-15 of squares of size 10, under a root.
    np.testing.assert_allclose(distance, np.sort(D, axis=1)[:, :m], rtol=1e-10, atol=1e-7)
