"""The estimators keep scikit-learn's contract."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from toptune.kernel import FeatureNormalizer, KernelClassifier, KernelRegressor

LEAVE_ONE_OUT = (
    "to the solution a weight of k is k samples, but leave-one-out leaves out one of k copies, not "
    "the weighted sample, so what is chosen by it (temperature, bandwidth, penalty) differs; "
    "test_estimators shows that decision_function is equivalent when both are given"
)


def expected_failures(estimator: Any) -> dict[str, str]:
    if isinstance(estimator, KernelClassifier | KernelRegressor):
        return {"check_sample_weight_equivalence_on_dense_data": LEAVE_ONE_OUT}
    return {}


@parametrize_with_checks(
    [
        KernelClassifier(),
        KernelClassifier(bandwidth=5.0, penalty=1e-3),
        KernelClassifier(kernel="laplacian", n_centers=20, random_state=0),
        KernelClassifier(kernel="linear"),
        KernelClassifier(solver="falkon", penalty=1e-2, random_state=0),
        KernelRegressor(),
        KernelRegressor(kernel="cauchy", n_centers=20, random_state=0),
        FeatureNormalizer(),
    ],
    expected_failed_checks=expected_failures,
)
def test_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_regressor_has_no_classes_to_balance_centers_over() -> None:
    with pytest.raises(ValueError, match="centers must be one of uniform, got 'balanced'"):
        KernelRegressor(centers="balanced").fit([[0.0], [1.0]], [0.0, 1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("kernel", "rbf"),
        ("bandwidth", 0.0),
        ("bandwidth", "median"),
        ("penalty", -1.0),
        ("penalty", float("nan")),
        ("n_centers", 0),
        ("n_centers", 2.5),
        ("n_centers", "sqrt"),
        ("centers", "kmeans"),
        ("solver", "lbfgs"),
        ("memory", 0),
        ("memory", "lots"),
        ("device", "abacus"),
        ("feature_groups", (1, 1)),
        ("group_weights", "equal"),
        ("group_weights", (-1.0,)),
    ],
)
def test_invalid_parameters_are_named_with_their_value(parameter: str, value: Any) -> None:
    model = KernelClassifier(**{parameter: value})
    with pytest.raises(ValueError, match=parameter) as caught:
        model.fit([[0.0], [1.0]], [0, 1])
    assert str(value) in str(caught.value)
