"""Row blocks of features and of the kernel matrix K_nm, so that neither need be in memory whole.

Letters: n samples, m centers, d features, c columns.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.kernel.kernels import kernel_matrix, squared_norms

CPU = torch.device("cpu")
#: Bytes of one block of K_nm. Large enough for the speed of large matrix products and for few
#: float64 sums over blocks, small enough that the passes of a kernel's profile stay near the cache.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of features on their way to a kernel: (transform(x) - offset) * scale, block by block.

    The data stays where and what it is: an array in memory, a memory map of a file, a tensor on a
    device; float16, float32 or float64. Of a memory map, rows are read through its file: pages of a
    mapping would count as memory of this process, and touching those of a file that was cut short
    would end it.

    An estimator takes data, index and transform from the rows that it is given, sets dtype and
    device itself, and refuses an offset or a scale.

    Parameters
    ----------
    data
        (N, d) array, memory map or tensor.
    dtype, device
        What blocks are computed in and on.
    index
        (n,) rows of the data; None: all of them, n = N. A file is read fastest if they ascend.
    transform
        Applied to each block as a NumPy array of float32 or float64, such as
        `FeatureNormalizer.transform`.
    offset, scale
        (d,).

    Examples
    --------
    >>> import numpy as np
    >>> from toptune.kernel import Rows
    >>> rows = Rows(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float16))
    >>> rows.read(slice(1, 2))
    tensor([[3., 4.]])
    """

    data: NDArray[Any] | Tensor
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU
    index: NDArray[np.intp] | None = None
    transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    offset: Tensor | None = None
    scale: Tensor | None = None

    def __len__(self) -> int:
        return len(self.data) if self.index is None else len(self.index)

    @property
    def n_features(self) -> int:
        """Number of features d."""
        return int(self.data.shape[1])

    @cached_property
    def _file(self) -> _MappedFile | None:
        return _MappedFile.of(self.data) if isinstance(self.data, np.ndarray) else None

    def take(
        self,
        rows: NDArray[np.intp] | NDArray[np.bool_],
    ) -> Rows:
        """Return some of the rows: positions here, in any order, or a mask of n truth values."""
        positions: NDArray[np.intp] = np.arange(len(self))[rows]
        return replace(self, index=positions if self.index is None else self.index[positions])

    def read(self, rows: slice | NDArray[np.intp]) -> Tensor:  # (b, d)
        """Return a block; the caller must not write into it.

        Raises
        ------
        ValueError
            If the block holds NaN or infinity, or the file behind a memory map has become too
            short for it.
        """
        where: slice | NDArray[np.intp] = rows if self.index is None else self.index[rows]
        if isinstance(self.data, Tensor):
            block = self.data[where].to(self.dtype)
            if self.transform is not None:
                block = self._transformed(block.cpu().numpy())
        else:
            array = self.data[where] if self._file is None else self._file.read(self.data, where)
            block = self._transformed(array)
        block = block.to(self.device, self.dtype)
        # The sum is quick and tells almost always; only huge finite values need the second look.
        if not torch.isfinite(block.sum()) and not bool(torch.isfinite(block).all()):
            bad = int((~torch.isfinite(block).all(1)).nonzero()[0])
            row = where.indices(len(self.data))[0] + bad if isinstance(where, slice) else where[bad]
            raise ValueError(f"features hold NaN or infinity in row {int(row)}")
        if self.offset is not None:
            block = block - self.offset.to(block)
        if self.scale is not None:
            block = block * self.scale.to(block)
        return block

    def _transformed(self, array: NDArray[Any]) -> Tensor:  # (b, d)
        if self.transform is not None:
            wide = np.float64 if self.dtype == torch.float64 else np.float32
            array = self.transform(np.asarray(array, dtype=wide))
        return torch.from_numpy(np.ascontiguousarray(array))

    def all(self) -> Tensor:  # (n, d)
        """Return all rows as one tensor."""
        return self.read(slice(0, len(self)))

    def settled(self) -> Rows:
        """Return the same rows read and transformed, in memory: for several passes over few.

        They are in the dtype of these rows, and stay so in what is computed in another one.
        """
        data = replace(self, offset=None, scale=None).all()
        return replace(self, data=data, index=None, transform=None)


@dataclass(frozen=True)
class _MappedFile:
    """The file behind a memory map, and the address and file position of the map's first byte."""

    path: str
    address: int
    position: int

    @classmethod
    def of(cls, array: NDArray[Any]) -> _MappedFile | None:
        """Return the file that an array is a view of, or None if it is in memory."""
        base: Any = array
        mapped: np.memmap[Any, Any] | None = None
        while isinstance(base, np.ndarray):
            if isinstance(base, np.memmap):
                mapped = base
            base = base.base
        if mapped is None or not isinstance(base, mmap.mmap) or mapped.filename is None:
            return None
        first = int(np.frombuffer(base, dtype=np.uint8).__array_interface__["data"][0])
        # numpy maps from the last page boundary at or before the offset
        start = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY
        return cls(os.fspath(mapped.filename), first, start)

    def read(self, array: NDArray[Any], rows: slice | NDArray[np.intp]) -> NDArray[Any]:  # (b, d)
        """Read rows of the array from the file."""
        n, d = array.shape
        first = int(array.__array_interface__["data"][0]) - self.address + self.position
        stride, width = array.strides[0], d * array.itemsize
        if array.strides[1] != array.itemsize or stride < width:
            raise ValueError(
                "rows of a memory map must be stored one after another, got strides "
                f"{array.strides}"
            )
        which = np.arange(n)[rows]
        out = np.empty((len(which), d), dtype=array.dtype)
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 (unbuffered)
            # Each run of adjacent rows is one read.
            breaks = np.flatnonzero((np.diff(which) != 1) | (stride != width)) + 1
            for run in np.split(np.arange(len(which)), breaks):
                if not len(run):
                    continue
                file.seek(first + int(which[run[0]]) * stride)
                view = memoryview(out[run[0] : run[-1] + 1].reshape(-1).view(np.uint8).data)
                done = 0
                while done < len(view):
                    got = file.readinto(view[done:])
                    if not got:
                        row = int(which[run[0]]) + done // width
                        raise ValueError(
                            f"{self.path} ends before row {row} of {n}: the file has become "
                            "shorter since it was mapped"
                        )
                    done += got
        return out


def rows_per_block(m: int, d: int, itemsize: int) -> int:
    """Rows in a block, at least one: of K_nm and of the features, whichever is wider."""
    return max(1, BLOCK_BYTES // (max(m, d) * itemsize))


@dataclass(frozen=True, eq=False)
class KernelOperator:
    """K_nm between samples and centers, one block of rows at a time.

    Parameters
    ----------
    X
        Samples.
    Z
        Centers, (m, d), in dtype and on device of X.
    kernel
        A name of `kernels.KERNELS`.
    bandwidth
        Length scale of the kernel, in the units of the features.
    K
        (n, m), K_nm where it is kept in memory: see `kept`.
    """

    X: Rows
    Z: Tensor  # (m, d)
    kernel: str
    bandwidth: float
    K: Tensor | None = None  # (n, m)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.X), self.Z.shape[0]

    @property
    def block_rows(self) -> int:
        """Rows in a block."""
        m, d = self.Z.shape
        return rows_per_block(m, d, self.Z.element_size())

    @cached_property
    def _Z_norms(self) -> Tensor:
        return squared_norms(self.Z)

    def slices(self) -> Iterator[slice]:
        """Yield the rows of each block, in order."""
        n, step = len(self.X), self.block_rows
        for start in range(0, n, step):
            yield slice(start, min(start + step, n))

    def block(self, rows: slice | NDArray[np.intp]) -> Tensor:  # (b, m)
        """K[rows]; the caller must not write into it."""
        if self.K is not None:
            return self.K[rows]
        return kernel_matrix(
            self.X.read(rows), self.Z, self.kernel, self.bandwidth, Z_norms=self._Z_norms
        )

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, K[rows]) in order."""
        for k, rows in enumerate(self.slices()):
            try:
                yield rows, self.block(rows)
            except ValueError as error:
                raise ValueError(
                    f"block {k}, rows {rows.start} to {rows.stop - 1}: {error}"
                ) from error

    def kept(self) -> KernelOperator:
        """Return the operator with K_nm computed and kept: n m numbers, for many products."""
        K = torch.empty(self.shape, dtype=self.Z.dtype, device=self.Z.device)
        for rows, block in self.blocks():
            K[rows] = block
        return replace(self, K=K)

    def matmul(
        self,
        V: Tensor,  # (m, c)
    ) -> Tensor:  # (n, c)
        """K_nm V, in the dtype of V."""
        out = torch.empty(len(self.X), V.shape[1], dtype=V.dtype, device=V.device)
        for rows, K in self.blocks():
            out[rows] = (V.T @ K.to(V.dtype).T).T
        return out

    def t_matmul(
        self,
        U: Tensor,  # (n, c)
    ) -> Tensor:  # (m, c), float64
        """K_nm^T U: products in the dtype of U, their sum over blocks in float64."""
        out = torch.zeros(self.Z.shape[0], U.shape[1], dtype=torch.float64, device=U.device)
        for rows, K in self.blocks():
            out += (U[rows].T @ K.to(U.dtype)).T
        return out

    def normal_matmul(
        self,
        V: Tensor,  # (m, c)
        w: Tensor,  # (n,) or (n, c)
    ) -> Tensor:  # (m, c), float64
        """K_nm^T diag(w) K_nm V in one pass; with two axes w has weights for every column.

        Products in the dtype of V, their sum over blocks in float64.
        """
        weights = w if w.ndim == 2 else w[:, None]
        out = torch.zeros(V.shape, dtype=torch.float64, device=V.device)
        for rows, K in self.blocks():
            block = K.to(V.dtype)
            U = (V.T @ block.T).mul_(weights[rows].T)  # (c, b): few columns are faster as few rows
            out += (U @ block).T
        return out
