"""Leave-one-group-out: against refits without each group, by every solver that gives it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_helpers import BANDWIDTH, dense_ridge, operator_of, problem, sample
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel import KernelClassifier, KernelRegressor
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.operators import KernelOperator
from toptune.kernel.selection.search import whole_group_subset
from toptune.kernel.systems.exact import exact_path, exact_solution
from toptune.kernel.systems.groups import group_batches, left_out_residuals, whole_groups
from toptune.kernel.systems.nystrom import nystrom_system

#: Groups of 1, 1, 2, 3, 3 and 30 of 40 samples: one of them larger than the number of centers.
SIZES = [1, 1, 2, 3, 3, 30]


def unequal_groups(seed: int = 0) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(SIZES)), SIZES))


def refits(
    X: Tensor, Z: Tensor, Y: Tensor, w: Tensor, ridge: float, groups: NDArray[np.intp]
) -> Tensor:
    """Predictions for each group by the model of the others, from the normal equations."""
    K_nm, K_mm = (kernel_matrix(A, Z, "gaussian", BANDWIDTH) for A in (X, Z))
    out = torch.empty_like(Y)
    for group in np.unique(groups):
        kept = torch.as_tensor(groups != group)
        A = K_nm[kept].T @ (w[kept, None] * K_nm[kept]) + ridge * K_mm
        alpha = torch.linalg.solve(A, K_nm[kept].T @ (w[kept, None] * Y[kept]))
        out[~kept] = K_nm[~kept] @ alpha
    return out


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("c", [2, 5])
def test_the_exact_solution_leaves_groups_out_as_refits_do(c: int, weighted: bool) -> None:
    X, Y, w = problem(40, c, weighted=weighted)
    groups, penalty = unequal_groups(), 1e-3
    K, ridge = kernel_matrix(X, X, "gaussian", BANDWIDTH), penalty * float(w.sum())
    expected = torch.empty_like(Y)
    for group in np.unique(groups):
        kept = torch.as_tensor(groups != group)
        alpha = dense_ridge(K[kept][:, kept], Y[kept], w[kept], ridge)
        expected[~kept] = K[~kept][:, kept] @ alpha
    # Condition of K + ridge: about 40 / ridge = 1e3, times float64 rounding.
    by_path = exact_path(K, Y, w, groups).leave_one_out(penalty)
    torch.testing.assert_close(by_path, expected, rtol=1e-9, atol=1e-10)
    by_factor = exact_solution(K, Y, w, penalty).leave_one_out(groups)
    torch.testing.assert_close(by_factor, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_the_nystrom_solution_leaves_groups_out_as_refits_do(
    keep: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y, w = problem(40, 3, weighted=weighted)
    groups, penalty, Z = unequal_groups(), 1e-3, X[::4]
    # Blocks of 5 rows: groups of 3 must not be cut, and one of 30 is a block of its own.
    monkeypatch.setattr(KernelOperator, "block_rows", 5)
    operator = operator_of(X, Z, "gaussian", BANDWIDTH)
    system = nystrom_system(operator, Y, w, keep=keep, groups=groups)
    expected = refits(X, Z, Y, w, penalty * float(w.sum()), groups)
    found = system.leave_one_out(penalty)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    rows = whole_group_subset(groups, 9, random_state=np.random.RandomState(0))
    part = system.part(rows).leave_one_out(penalty)
    torch.testing.assert_close(part, expected[rows], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("size", "r"), [(3, 7), (7, 3)])
def test_both_forms_of_the_residuals_are_the_inverse(size: int, r: int) -> None:
    rng = np.random.default_rng(0)
    Q, R = torch.tensor(rng.normal(size=(2, size, r))), torch.tensor(rng.normal(size=(2, size, 4)))
    shrink = torch.tensor(rng.uniform(0.01, 0.03, r))
    found = left_out_residuals(Q, shrink, R)
    for q, e, right in zip(Q, found, R, strict=True):
        H = (q @ torch.diag(shrink) @ q.T).numpy()
        expected = np.linalg.inv(np.eye(size) - H) @ right.numpy()
        np.testing.assert_allclose(e, expected, rtol=1e-10)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12))
def test_blocks_hold_every_row_once_and_cut_no_group(codes: list[int], block_rows: int) -> None:
    groups = np.array(codes)
    blocks = list(whole_groups(groups, block_rows))
    assert sorted(np.concatenate(blocks)) == list(range(len(groups)))
    for block in blocks:
        inside = np.unique(groups[block])
        assert np.isin(groups, inside).sum() == len(block)
        assert len(block) <= block_rows or len(inside) == 1
    batched = [row for batch in group_batches(groups, torch.device("cpu"), 5) for row in batch]
    for rows in batched:
        assert len(set(groups[rows].tolist())) == 1
    several = [g for g in set(codes) if codes.count(g) > 1]
    assert len(batched) == len(several)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 9))
def test_a_subset_of_whole_groups_is_one(codes: list[int], size: int, seed: int) -> None:
    groups = np.array(codes)
    rows = whole_group_subset(groups, size, random_state=np.random.RandomState(seed))
    inside = np.unique(groups[rows])
    assert np.array_equal(rows, np.flatnonzero(np.isin(groups, inside)))
    assert len(inside) == 1 or len(rows) <= size


@pytest.mark.parametrize("n_centers", ["auto", 150])
def test_twins_do_not_vouch_for_each_other(n_centers: int | str) -> None:
    """Labels that are noise: with every sample twice, only whole groups tell the truth."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(150, 5)), 2, axis=0) + 1e-3 * rng.normal(size=(300, 5))
    y = np.repeat(rng.integers(0, 2, 150), 2)
    groups = np.repeat(np.arange(150), 2)
    model = KernelClassifier(n_centers=n_centers, random_state=0)
    alone = model.fit(X, y).loo_accuracy_
    together = model.fit(X, y, groups=groups).loo_accuracy_
    assert alone > 0.75
    assert abs(together - 0.5) < 4 * 0.5 / 150**0.5


def test_the_names_and_the_order_of_groups_do_not_matter_and_single_ones_are_none() -> None:
    X, y = sample(90, 3)
    codes = np.random.default_rng(1).integers(0, 20, 90)
    names = np.array([f"patient {(7 * code) % 20}" for code in codes])
    first = KernelClassifier().fit(X, y, groups=codes)
    second = KernelClassifier().fit(X, y, groups=names)
    np.testing.assert_allclose(first.loo_decision_function_, second.loo_decision_function_)
    single = KernelClassifier().fit(X, y, groups=np.arange(90))
    none = KernelClassifier().fit(X, y)
    assert np.array_equal(single.loo_decision_function_, none.loo_decision_function_)


def test_regression_leaves_groups_out() -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 4)), 3, axis=0) + 1e-3 * rng.normal(size=(180, 4))
    y = np.repeat(rng.normal(size=60), 3)
    groups = np.repeat(np.arange(60), 3)
    assert KernelRegressor().fit(X, y).loo_r2_ > 0.5
    assert KernelRegressor().fit(X, y, groups=groups).loo_r2_ < 0.2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(30), "at least two"),
        (np.zeros(29), "inconsistent numbers of samples"),
    ],
)
def test_groups_that_cannot_be_used_are_errors(groups: np.ndarray, message: str) -> None:
    X, y = sample(30, 2)
    with pytest.raises(ValueError, match=message):
        KernelClassifier().fit(X, y, groups=groups)
