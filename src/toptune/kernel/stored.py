"""What a fitted kernel estimator needs to predict, as arrays and numbers for a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from toptune.kernel.base import KernelEstimator
from toptune.kernel.kernels import check_kernel


def stored_arrays(estimator: KernelEstimator) -> dict[str, NDArray[Any]]:
    """Centers, their rows, coefficients, and what features are shifted and multiplied by."""
    check_is_fitted(estimator)
    return {
        "centers": estimator.centers_,
        "center_indices": estimator.center_indices_,
        "dual_coef": estimator.dual_coef_,
        "offset": estimator._offset.cpu().numpy(),
        "scale": estimator._feature_scale_array(),
    }


def stored_numbers(estimator: KernelEstimator) -> dict[str, float | str]:
    """Hyperparameters that were used."""
    return {
        "kernel": estimator.kernel_,
        "bandwidth": estimator.bandwidth_,
        "penalty": estimator.penalty_,
    }


def restore_solution(
    estimator: KernelEstimator,
    arrays: Mapping[str, NDArray[Any]],
    numbers: Mapping[str, Any],
    *,
    c: int,
) -> None:
    """Give an estimator of c outputs the solution that was stored.

    Raises
    ------
    ValueError
        If shapes disagree with each other, or the kernel is unknown.
    """
    names = ("dual_coef", "center_indices", "offset", "scale")
    m, d = arrays["centers"].shape
    scores = arrays.get("loo_scores", np.empty((0, c)))  # they may be unknown
    shapes = (*(arrays[name].shape for name in names), scores.shape[1:])
    if shapes != ((m, c), (m,), (d,), (d,), (c,)):
        raise ValueError(f"shapes of {', '.join(names)}, loo_scores do not fit: {shapes}")
    check_kernel(numbers["kernel"])
    estimator.centers_, estimator.dual_coef_ = arrays["centers"], arrays["dual_coef"]
    estimator.center_indices_ = arrays["center_indices"]
    estimator._offset = torch.tensor(arrays["offset"])
    estimator._feature_scale = torch.tensor(arrays["scale"])
    estimator.kernel = estimator.kernel_ = numbers["kernel"]
    estimator.bandwidth_, estimator.penalty_ = numbers["bandwidth"], numbers["penalty"]
    estimator.n_centers_, estimator.n_features_in_ = m, d
    estimator.selection_seconds_ = 0.0
