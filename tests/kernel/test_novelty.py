"""Posterior variances and distances against dense float64 computations, one point at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toptune.kernel.kernels import kernel_diagonal, kernel_matrix
from toptune.kernel.novelty import reference_points
from toptune.kernel.systems.exact import exact_path

KERNELS = ("gaussian", "linear")
PENALTY, BANDWIDTH, M = 1e-3, 1.5, 30


@pytest.fixture(scope="module")
def Z() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(M, 4)))


def variance(X: torch.Tensor, Z: torch.Tensor, kernel: str, noise: float) -> torch.Tensor:
    """By the definition, with a dense solver."""
    K = kernel_matrix(Z, Z, kernel, BANDWIDTH) + noise * torch.eye(len(Z), dtype=Z.dtype)
    k = kernel_matrix(X, Z, kernel, BANDWIDTH)
    prior = kernel_diagonal(X, kernel, BANDWIDTH)
    return (prior - (k * torch.linalg.solve(K, k.T).T).sum(1)) / prior


@pytest.mark.parametrize("kernel", KERNELS)
def test_variances_are_those_of_the_definition(kernel: str, Z: torch.Tensor) -> None:
    points = reference_points(Z, kernel, BANDWIDTH, PENALTY)
    X = torch.from_numpy(np.random.default_rng(1).normal(size=(9, 4)) * 2)
    expected = variance(X, Z, kernel, PENALTY * M)
    # Cancellation of 1 - (1 - v): eps times the condition number, at most trace / noise = 4e4.
    torch.testing.assert_close(points.variances(X), expected, rtol=0, atol=1e-10)
    assert bool(((expected > 0) & (expected <= 1)).all())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("grouped", [False, True])
def test_left_out_values_are_those_of_points_without_the_group(
    kernel: str, grouped: bool, Z: torch.Tensor
) -> None:
    groups = np.random.default_rng(2).integers(0, 8, M) if grouped else None
    points = reference_points(Z, kernel, BANDWIDTH, PENALTY, groups)
    codes = np.arange(M) if groups is None else groups
    found, far = points.left_out_variances(), {k: points.left_out_distances(k) for k in (1, 3)}
    for i in range(M):
        rest = Z[codes != codes[i]]
        without = variance(Z[i : i + 1], rest, kernel, PENALTY * M)
        assert float(found[i]) == pytest.approx(float(without[0]), abs=1e-10)
        near = np.sort(np.linalg.norm((rest - Z[i]).numpy(), axis=1))
        for k, distances in far.items():
            assert float(distances[i]) == pytest.approx(near[k - 1], rel=1e-7)


def test_variance_is_the_leverage_that_a_point_would_have(Z: torch.Tensor) -> None:
    """v_i K_ii = lambda N h_i / (1 - h_i) with the leverages of the leave-one-out path."""
    K = kernel_matrix(Z, Z, "gaussian", BANDWIDTH)
    path = exact_path(K, torch.zeros(M, 1, dtype=torch.float64), torch.ones(M).double())
    noise = PENALTY * M
    h = (path.Q.square() / (path.s + noise)).sum(1)
    points = reference_points(Z, "gaussian", BANDWIDTH, PENALTY)
    torch.testing.assert_close(points.left_out_variances(), noise * h / (1 - h), rtol=1e-8, atol=0)


def test_distances_of_new_samples(Z: torch.Tensor) -> None:
    points = reference_points(Z, "linear", BANDWIDTH, PENALTY)
    X = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 4)))
    near = np.sort(torch.cdist(X, Z).numpy(), axis=1)
    np.testing.assert_allclose(points.distances(X, 2).numpy(), near[:, 1], rtol=1e-7)
    np.testing.assert_allclose(points.distances(X, 99).numpy(), near[:, -1], rtol=1e-7)


def test_a_point_has_only_points_of_other_groups_to_be_near_to() -> None:
    Z = torch.tensor([[0.0], [0.1], [5.0]])
    points = reference_points(Z, "gaussian", 1.0, PENALTY, np.array([0, 0, 1]))
    # The first two have one neighbour in another group, the third has two.
    assert points.left_out_distances(2).tolist() == pytest.approx([5.0, 4.9, 5.0], rel=1e-6)


def test_copies_of_a_point_leave_little_open() -> None:
    Z = torch.tensor([[0.0], [0.0], [4.0]])
    together = reference_points(Z, "gaussian", 1.0, 1e-6, np.array([0, 0, 1]))
    apart = reference_points(Z, "gaussian", 1.0, 1e-6)
    assert float(apart.left_out_variances()[0]) < 1e-4
    assert float(together.left_out_variances()[0]) > 0.99
