"""Small classification problems and what the estimator tests compare scores with."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import make_classification

from toptune.kernel import KernelClassifier

FIXED = {"bandwidth": 3.0, "penalty": 1e-3}


def sample(n: int, c: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return make_classification(
        n, 6, n_informative=4, n_classes=c, n_clusters_per_class=1, random_state=seed
    )


def coded(y: np.ndarray) -> np.ndarray:
    return 2.0 * (y[:, None] == np.unique(y)) - 1.0


def all_scores(model: KernelClassifier, X: np.ndarray) -> np.ndarray:
    """One column per class, also for two classes."""
    scores = model.decision_function(X)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
