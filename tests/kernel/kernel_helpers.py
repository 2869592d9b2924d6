"""Small classification problems and what the estimator tests compare scores with."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import make_classification
from torch import Tensor

from toptune.kernel import KernelClassifier, Rows
from toptune.kernel.operators import KernelOperator

#: Of the solver tests.
BANDWIDTH = 1.7
FIXED = {"bandwidth": 3.0, "penalty": 1e-3}


def operator_of(X: Tensor, Z: Tensor, kernel: str, bandwidth: float) -> KernelOperator:
    """K_nm between two tensors."""
    return KernelOperator(Rows(X, dtype=X.dtype), Z, kernel, bandwidth)


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


def problem(n: int, c: int, *, weighted: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, +1/-1 targets and weights."""
    rng = np.random.default_rng(seed)
    X = torch.tensor(rng.normal(size=(n, 4)))
    codes = torch.tensor(rng.permutation(np.arange(n) % c))
    Y = 2.0 * torch.nn.functional.one_hot(codes, c).double() - 1.0
    w = torch.tensor(rng.uniform(0.2, 3.0, n)) if weighted else torch.ones(n, dtype=torch.float64)
    return X, Y, w


def dense_ridge(K: Tensor, Y: Tensor, w: Tensor, ridge: float) -> Tensor:
    """alpha of (W K + ridge I) alpha = W Y: stationarity of the weighted objective, unsymmetric."""
    A = w[:, None].numpy() * K.numpy() + ridge * np.eye(len(w))
    return torch.tensor(np.linalg.solve(A, (w[:, None] * Y).numpy()))
