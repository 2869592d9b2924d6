"""Terms of a score against formulas written out in NumPy, and against the score itself."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_helpers import FIXED, all_scores, sample

from toptune.kernel import KernelClassifier, KernelRegressor


def naive_kernel(x: np.ndarray, z: np.ndarray, kernel: str, bandwidth: float) -> float:
    """One kernel value from the formulas of docs/concepts/explanations.md."""
    r = np.sqrt(((x - z) ** 2).sum()) / bandwidth
    p = (x @ z) / bandwidth**2
    return {
        "gaussian": np.exp(-(r**2) / 2),
        "laplacian": np.exp(-r),
        "cauchy": 1 / (1 + r**2),
        "linear": 1 + p,
        "polynomial": (1 + p) ** 3,
    }[kernel]


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "cauchy", "linear", "polynomial"])
@pytest.mark.parametrize("n_centers", [80, 20])
def test_terms_are_those_of_the_formula_and_add_up(kernel: str, n_centers: int) -> None:
    X, y = sample(80, 3)
    model = KernelClassifier(kernel=kernel, n_centers=n_centers, random_state=0, **FIXED).fit(X, y)
    new = X[:4] + 0.1
    terms = model.score_terms(new)
    scores = all_scores(model, new)
    centers = X[model.center_indices_]
    assert len(centers) == n_centers
    for i in range(len(new)):
        K = np.array([naive_kernel(new[i], z, kernel, FIXED["bandwidth"]) for z in centers])
        # Distances come from one matrix product, which costs a few digits of the 16.
        np.testing.assert_allclose(terms.K[i].numpy(), K, rtol=1e-9)
        for c in range(3):
            contributions = terms.of(i, c).numpy()
            np.testing.assert_allclose(contributions, model.dual_coef_[:, c] * K, rtol=1e-9)
            # Terms of either sign cancel: rounding is relative to their size, not to the sum's.
            size = np.abs(contributions).sum()
            assert (
                abs(contributions.sum() - scores[i, c]) <= 1e-9 * abs(scores[i, c]) + 1e-14 * size
            )
    np.testing.assert_allclose(terms.scores.numpy(), scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", ["gaussian", "linear", "polynomial"])
def test_similarity_is_a_cosine(kernel: str) -> None:
    X, y = sample(40, 2)
    model = KernelClassifier(kernel=kernel, **FIXED).fit(X, y)
    terms = model.score_terms(X)
    expected = [
        [
            naive_kernel(x, z, kernel, FIXED["bandwidth"])
            / np.sqrt(
                naive_kernel(x, x, kernel, FIXED["bandwidth"])
                * naive_kernel(z, z, kernel, FIXED["bandwidth"])
            )
            for z in X
        ]
        for x in X
    ]
    np.testing.assert_allclose(terms.similarity.numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(terms.similarity.diagonal().numpy(), 1.0, rtol=1e-12)


def test_weights_of_groups_are_applied() -> None:
    X, y = sample(60, 2)
    weights = [2.0, 0.5]
    model = KernelClassifier(feature_groups=[2, 4], group_weights=weights, **FIXED).fit(X, y)
    scale = np.sqrt(np.repeat(weights, [2, 4]))
    expected = naive_kernel(X[3] * scale, X[5] * scale, "gaussian", FIXED["bandwidth"])
    assert float(model.score_terms(X[3:4]).K[0, 5]) == pytest.approx(expected, rel=1e-9)


def test_terms_of_a_regression_add_up_to_what_is_above_the_mean() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    model = KernelRegressor(**FIXED).fit(X, X[:, 0] ** 2)
    total = model.score_terms(X[:5]).scores[:, 0].numpy() + model.intercept_
    np.testing.assert_allclose(total, model.predict(X[:5]), rtol=1e-9)
