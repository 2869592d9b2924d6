"""The unknown score against its definition, point by point, and the rate of its threshold."""

from __future__ import annotations

import numpy as np
import pytest

from toptune import DataError
from toptune.decisions import novelty
from toptune.decisions.novelty import NEIGHBOUR, unknown_scorer
from toptune.kernel import KernelClassifier
from toptune.kernel.kernels import kernel_diagonal, kernel_matrix

N = 60


def data(n: int, seed: int = 0, *, rare: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rare).astype(int)
    return rng.normal(size=(n, 3)) + 2 * y[:, None], y


@pytest.fixture(params=["gaussian", "linear"])
def head(request: pytest.FixtureRequest) -> KernelClassifier:
    X, y = data(N)
    return KernelClassifier(kernel=request.param, random_state=0).fit(X, y)


@pytest.mark.parametrize("grouped", [False, True])
def test_scores_of_training_samples_are_those_of_the_definition(
    head: KernelClassifier, grouped: bool
) -> None:
    y = data(N)[1]
    names = np.array([f"g{k // 3}" for k in range(N)]) if grouped else None
    scorer = unknown_scorer(head, y, names)
    _, Z = head.kernel_space(head.centers_)
    values = np.empty((N, 2))
    for i in range(N):
        rest = [j for j in range(N) if (j != i if names is None else names[j] != names[i])]
        K = kernel_matrix(Z[rest], Z[rest], head.kernel_, head.bandwidth_).numpy()
        k = kernel_matrix(Z[[i]], Z[rest], head.kernel_, head.bandwidth_).numpy()[0]
        prior = float(kernel_diagonal(Z[[i]], head.kernel_, head.bandwidth_)[0])
        inverse = np.linalg.inv(K + head.penalty_ * N * np.eye(len(rest)))
        near = np.sort(np.linalg.norm((Z[rest] - Z[i]).numpy(), axis=1))
        values[i] = (prior - k @ inverse @ k) / prior, near[NEIGHBOUR - 1]
    logs = np.log(values)
    median, high = np.quantile(logs, [0.5, 0.84], axis=0)
    expected = ((logs - median) / (high - median)).mean(axis=1)
    # Rounding of v is amplified by the condition number of K, at most 1 / penalty = 1.6e7.
    np.testing.assert_allclose(scorer.left_out, expected, atol=1e-5)
    # One in six of normal values lies above one standard deviation.
    assert (scorer.left_out > 1).mean() < 0.25


def test_the_rate_of_false_alarms(head: KernelClassifier) -> None:
    X, _ = data(4000, seed=1)
    scorer = unknown_scorer(head, data(N)[1])
    rows, _ = head.kernel_space(X)
    for reject in (0.05, 0.2):
        rate = (scorer.scores(rows) > scorer.threshold(reject)).mean()
        # Three standard deviations of the order statistic of 60.
        assert rate == pytest.approx(reject, abs=3 * np.sqrt(reject * (1 - reject) / N))
    assert scorer.threshold(0.01) == np.inf
    far, _ = head.kernel_space([[50.0, -50.0, 50.0]])
    assert scorer.scores(far)[0] > scorer.left_out.max()


def test_centers_stand_for_the_samples_of_their_class() -> None:
    X, y = data(400, rare=0.1)
    head = KernelClassifier(n_centers=60, random_state=0).fit(X, y)
    scorer = unknown_scorer(head, y)
    classes = y[head.center_indices_]
    assert len(scorer.weights) == 60
    for k in (0, 1):
        assert scorer.weights[classes == k].sum() == pytest.approx((y == k).sum())


def test_points_are_bounded(monkeypatch: pytest.MonkeyPatch, head: KernelClassifier) -> None:
    monkeypatch.setattr(novelty, "MAX_POINTS", 20)
    scorer = unknown_scorer(head, data(N)[1])
    assert len(scorer.points.Z) == len(scorer.left_out) == 20


def test_forgotten_samples_are_not_compared_with(head: KernelClassifier) -> None:
    y = data(N)[1]
    head.center_indices_[:7] = -1
    scorer = unknown_scorer(head, y)
    assert len(scorer.points.Z) == N - 7
    head.center_indices_[:] = -1
    with pytest.raises(
        DataError,
        match="they are of another model, or their samples were",
    ):
        unknown_scorer(head, y)


def test_no_rows_have_no_scores(head: KernelClassifier) -> None:
    scorer = unknown_scorer(head, data(N)[1])
    rows, _ = head.kernel_space(data(5)[0])
    assert scorer.scores(rows.take(np.zeros(5, dtype=bool))).shape == (0,)
