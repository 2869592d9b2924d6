"""Which samples are left out together: residuals of leave-one-group-out from a fit of all samples.

Letters: n samples, c outputs, G the rows of one group, H the hat matrix of the fit in the weighted
coordinates W^1/2 Y, r the residuals there. The residuals of the fit without the whole group are

    e_G = (I - H_GG)^-1 r_G,

exactly, for fixed kernel, penalty and normalisation: leave-one-out where every sample is a group of
its own. Photographs of one object, or frames of one video, tell of each other; left out one by one
they would vouch for each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Numbers in the matrices of one batch of groups.
BATCH_NUMBERS = 2**22


def group_batches(
    groups: NDArray[np.intp] | None,  # (n,) codes
    device: torch.device,
    width: int,
) -> tuple[Tensor, ...]:  # each (k, size)
    """Rows of the groups of two and more samples, those of one size together.

    Groups of one sample are left to the formula for single samples, which needs no matrices.
    `width` is how many numbers there are of each sample: batches are of bounded size.
    """
    if groups is None:
        return ()
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    out = []
    for size in np.unique(sizes[sizes > 1]).tolist():
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        step = max(1, BATCH_NUMBERS // (size * max(size, width)))
        out += [
            torch.as_tensor(rows[k : k + step], device=device) for k in range(0, len(rows), step)
        ]
    return tuple(out)


def left_out_residuals(
    Q: Tensor,  # (k, size, r)
    shrink: Tensor,  # (r,), H = Q diag(shrink) Q^T
    R: Tensor,  # (k, size, c)
) -> Tensor:  # (k, size, c)
    """Solve (I - H_GG) e_G = r_G for groups of one size, in the smaller of its two forms."""
    size, r = Q.shape[1:]
    tiny = 8 * torch.finfo(Q.dtype).eps  # rounding may reach 0 where exact arithmetic is above it
    if size <= r:
        A = -(Q * shrink) @ Q.mT
        A.diagonal(dim1=1, dim2=2).add_(1.0 + tiny)
        solved: Tensor = torch.linalg.solve(A, R)
        return solved
    # Woodbury: (I - Q D Q^T)^-1 = I + Q (D^-1 - Q^T Q)^-1 Q^T
    B = -(Q.mT @ Q)
    B.diagonal(dim1=1, dim2=2).add_((1.0 + tiny) / shrink)
    inner: Tensor = torch.linalg.solve(B, Q.mT @ R)
    return R + Q @ inner


def whole_groups(
    groups: NDArray[np.intp],  # (n,) codes
    block_rows: int,
) -> Iterator[NDArray[np.intp]]:
    """Yield all rows in blocks that cut no group; a block is longer only where one group is."""
    order = np.argsort(groups, kind="stable")
    _, sizes = np.unique(groups, return_counts=True)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(order):
        fits = ends[(ends > start) & (ends <= start + block_rows)]
        end = int(fits[-1]) if len(fits) else int(ends[ends > start][0])
        yield np.sort(order[start:end])  # a file is read in its own order
        start = end
