"""The nearest of many rows, read a block at a time.

Letters: n rows, q queries, d features, k neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from toptune.kernel.kernels import base_matrix
from toptune.kernel.operators import Rows

#: Rows compared with the queries at a time.
BLOCK_ROWS = 512


def nearest_rows(
    rows: Rows,
    queries: NDArray[np.intp],  # (q,)
    k: int,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:  # (q, k) both
    """Return the rows nearest to some of them, and their distances, the nearest first.

    A row is not a neighbour of itself. There are n - 1 neighbours at most.

    Examples
    --------
    >>> import numpy as np
    >>> from toptune.kernel import Rows
    >>> rows = Rows(np.array([[0.0], [1.0], [3.0]]))
    >>> index, distance = nearest_rows(rows, np.array([2]), 2)
    >>> index.tolist(), distance.tolist()
    ([[1, 0]], [[2.0, 3.0]])
    """
    n = len(rows)
    k = min(k, n - 1)
    X = rows.take(queries).all()
    own = torch.as_tensor(queries, device=X.device)[:, None]
    best = X.new_full((len(queries), k), torch.inf)
    index = torch.zeros((len(queries), k), dtype=torch.int64, device=X.device)
    for first in range(0, n, BLOCK_ROWS):
        block = rows.read(slice(first, first + BLOCK_ROWS))
        squares = base_matrix(X, block, "gaussian")
        here = torch.arange(first, first + len(block), device=X.device).expand_as(squares)
        squares[here == own] = torch.inf
        best, place = torch.cat([best, squares], 1).topk(k, dim=1, largest=False)
        index = torch.cat([index, here], 1).gather(1, place)
    return index.cpu().numpy().astype(np.intp), best.sqrt().cpu().numpy().astype(np.float64)
