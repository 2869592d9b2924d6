"""What a fitted regressor needs to predict, as arrays and numbers, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toptune.kernel import KernelRegressor

N, D = 40, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2] + 5], axis=1)


@pytest.mark.parametrize("y", [Y, Y[:, 0], Y[:, 1:]], ids=["two", "one", "a column"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_centers": 12, "kernel": "laplacian"},
        {"feature_groups": [2, 4]},
        {"kernel": "linear"},
    ],
    ids=["exact", "nystrom", "groups", "linear"],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_a_regressor_comes_back(y: np.ndarray, options: dict[str, Any]) -> None:
    model = KernelRegressor(random_state=0, **options).fit(X, y)
    again = KernelRegressor().restore(*model.state())
    assert np.array_equal(again.predict(X[:7] + 0.1), model.predict(X[:7] + 0.1))
    assert np.array_equal(again.loo_predictions_, model.loo_predictions_)
    assert again.predict(X[:7]).shape == model.predict(X[:7]).shape
    for name in ("kernel_", "bandwidth_", "penalty_", "loo_r2_", "n_centers_", "n_features_in_"):
        assert getattr(again, name) == getattr(model, name)


@pytest.mark.parametrize(
    "name", ["dual_coef", "center_indices", "offset", "scale", "loo_scores", "intercept"]
)
def test_arrays_that_do_not_fit_each_other(name: str) -> None:
    arrays, numbers = KernelRegressor().fit(X, Y).state()
    arrays[name] = arrays[name][..., :-1]
    with pytest.raises(ValueError, match="do not fit"):
        KernelRegressor().restore(arrays, numbers)


def test_a_kernel_there_is_not() -> None:
    arrays, numbers = KernelRegressor().fit(X, Y).state()
    with pytest.raises(ValueError, match="kernel must be one of"):
        KernelRegressor().restore(arrays, numbers | {"kernel": "rbf"})
