"""Sums over the samples of a Nystrom fit, to which samples are added and from which they are taken.

    G = sum_i w_i phi_i phi_i^T,   s_k = sum over class k of phi_i

with phi_i = L^-1 k(x_i), L L^T = K_mm, as in `nystrom`. Both are additive: sums of disjoint sets of
samples add up, and what a sample contributed can be subtracted, to the rounding of float64 (the
rows phi_i are in the dtype of the features). The targets are +1 and -1, so

    Phi^T W Y_k = 2 w_k s_k - sum_l w_l s_l,   w_k the weight of class k,

holds for any class weights, and a class that is new needs no pass over the samples. G does depend
on the weights: where they change with the counts ("balanced"), there is one G per class.

The factorisation is made anew after each change: N = sum w changes, so lambda N I does, and that is
no change of low rank. Flops for k samples more or less: 2 k m (d + m) + m^3 / 3, instead of at
least 2 n m (d + m) for a fit with the same centers.

Leave-one-out needs rows, phi_i of every sample; they also tell what a sample contributed. Letters:
n samples, m centers, d features, c classes, g sums (1, or c where there is one per class).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toptune.errors import NotKeptError
from toptune.kernel.base import ROUNDED_PENALTY
from toptune.kernel.linalg.triangular import triangular_inverse, upper_matmul
from toptune.kernel.operators import rows_per_block
from toptune.kernel.selection.search import Index
from toptune.kernel.systems.bordering import signs
from toptune.kernel.systems.groups import whole_groups
from toptune.kernel.systems.nystrom import NystromSums, NystromSystem, left_out_scores

#: Rows summed in float64 at a time.
ROWS_AT_A_TIME = 4096
#: Rows of L^-T turned to float64 at a time.
WHITEN_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class NystromStatistics:
    """Sums over samples, for given centers, and the samples' rows if they are kept.

    Attributes
    ----------
    whiten
        (m, m) L^-T as the rows were computed with it.
    grams
        (g, m, m) float64: sum of w_i phi_i phi_i^T, or of phi_i phi_i^T for each class; None where
        they wait for `by_class`.
    class_sums
        (m, c) float64, sums of phi_i over each class.
    codes
        (n,) classes of the samples.
    Phi
        Blocks of rows phi_i, together (n, m), or None.
    """

    whiten: Tensor
    grams: Tensor | None
    class_sums: Tensor
    codes: NDArray[np.intp]
    Phi: tuple[Tensor, ...] | None

    @classmethod
    def of_system(
        cls,
        system: NystromSystem,
        codes: NDArray[np.intp],  # (n,)
        weights: NDArray[np.float64],  # (c,)
        *,
        balanced: bool,
        keep: bool,
    ) -> NystromStatistics:
        """Return those of a fit, whose weights are those of the classes.

        `balanced` says that weights change with counts; `keep`, that rows stay, if they were.
        """
        sums, w = system.sums, torch.as_tensor(weights, device=system.Y.device)
        class_sums = (sums.PhitY + sums.Phitw[:, None]) / (2.0 * w)
        Phi = system.Phi if keep else None
        if Phi is not None and not bool((system.sqrt_w == 1.0).all()):
            Phi = Phi / system.sqrt_w[:, None]
        grams = None if balanced else sums.gram[None]
        return cls(system.whiten, grams, class_sums, codes, None if Phi is None else (Phi,))

    @classmethod
    def of_rows(
        cls,
        whiten: Tensor,  # (m, m)
        Phi: Tensor,  # (n, m)
        codes: NDArray[np.intp],  # (n,)
        weights: NDArray[np.float64],  # (c,)
        *,
        balanced: bool,
    ) -> NystromStatistics:
        """Return those of rows, summed in float64."""
        m, c = whiten.shape[0], len(weights)
        zeros = torch.zeros(c if balanced else 1, m, m, dtype=torch.float64, device=Phi.device)
        empty = cls(whiten, zeros, zeros.new_zeros(m, c), codes[:0], ())
        return empty.added(Phi, codes, weights)

    @property
    def has_rows(self) -> bool:
        """Whether samples can be taken away, and left out."""
        return self.Phi is not None

    def rows(self, why: str) -> Tensor:  # (n, m)
        """Return the rows as one tensor.

        Raises
        ------
        NotKeptError
            If they are not kept; `why` says what they are needed for.
        """
        if self.Phi is None:
            raise NotKeptError(f"{why} needs the kernel rows of all images")
        return self.Phi[0] if len(self.Phi) == 1 else torch.cat(self.Phi)

    def by_class(self, weights: NDArray[np.float64]) -> NystromStatistics:
        """Return the same with one gram matrix per class, from the rows."""
        Phi = self.rows("one sum per class")
        return self.of_rows(self.whiten, Phi, self.codes, weights, balanced=True)

    def added(
        self,
        Phi: Tensor,  # (k, m)
        codes: NDArray[np.intp],  # (k,)
        weights: NDArray[np.float64],  # (c,)
    ) -> NystromStatistics:
        """Return those with k samples more."""
        return replace(
            self._moved(Phi, codes, weights, 1.0),
            codes=np.concatenate([self.codes, codes]),
            Phi=None if self.Phi is None else (*self.Phi, Phi),
        )

    def without(
        self,
        kept: NDArray[np.bool_],  # (n,)
        weights: NDArray[np.float64],  # (c,)
    ) -> NystromStatistics:
        """Return those of the samples that are kept.

        Raises
        ------
        NotKeptError
            If there are no rows: what a sample contributed is not known.
        """
        if self.Phi is None:
            self.rows("taking images away")
        blocks, gone, first = [], [], 0
        for block in self.Phi or ():
            here = kept[first : first + len(block)]
            first += len(block)
            if here.all():
                blocks.append(block)
                continue
            gone.append(block[torch.as_tensor(~here)])
            if here.any():
                blocks.append(block[torch.as_tensor(here)])
        left, n, m = int(kept.sum()), len(kept), len(self.whiten)
        if left < max(n - left, m):  # what the sums were rounded to would show
            rows = torch.cat(blocks)
            balanced = self.grams is not None and len(self.grams) > 1
            return self.of_rows(self.whiten, rows, self.codes[kept], weights, balanced=balanced)
        less = self._moved(torch.cat(gone), self.codes[~kept], weights, -1.0)
        return replace(less, codes=self.codes[kept], Phi=tuple(blocks))

    def joined(self, other: NystromStatistics) -> NystromStatistics:
        """Return those of both sets of samples, made with the same `whiten`."""
        assert self.grams is not None
        assert other.grams is not None
        both = self.Phi is not None and other.Phi is not None
        return replace(
            self,
            grams=self.grams + other.grams,
            class_sums=self.class_sums + other.class_sums,
            codes=np.concatenate([self.codes, other.codes]),
            Phi=(*(self.Phi or ()), *(other.Phi or ())) if both else None,
        )

    def rebased(
        self,
        whiten: Tensor,  # (m, m)
    ) -> NystromStatistics:
        """Return the same as if made with another `whiten` for the same centers.

        That of another machine differs in its last bits, which are large in weak directions: rows
        were K_nm times this one, and become K_nm times the other.
        """
        if torch.equal(whiten, self.whiten):
            return self
        everything = np.ones(len(whiten), dtype=bool)
        return self.at_centers(everything, whiten)

    def at_centers(
        self,
        kept: NDArray[np.bool_],  # (m,)
        whiten: Tensor,  # (m', m')
    ) -> NystromStatistics:
        """Return the same for some of the centers, with their own `whiten`.

        Phi' = K_nm P L'^-T = Phi R, P choosing columns: sums follow without any sample.
        """
        assert self.grams is not None
        P = torch.eye(len(kept), dtype=torch.float64, device=whiten.device)[
            :, torch.as_tensor(kept)
        ]
        R = torch.linalg.solve_triangular(self.whiten.double(), P, upper=True) @ whiten.double()
        Phi = self.Phi
        return replace(
            self,
            whiten=whiten,
            grams=R.T @ self.grams @ R,
            class_sums=R.T @ self.class_sums,
            Phi=None if Phi is None else tuple((block.double() @ R).to(block) for block in Phi),
        )

    def with_classes(
        self,
        places: NDArray[np.intp],  # (c,) where each class is among all
        c: int,
    ) -> NystromStatistics:
        """Return the same among c classes, of which some have no sample yet."""
        assert self.grams is not None
        class_sums = self.class_sums.new_zeros(len(self.class_sums), c)
        class_sums[:, places] = self.class_sums
        grams = self.grams
        if len(grams) > 1:
            grams = grams.new_zeros(c, *grams.shape[1:])
            grams[places] = self.grams
        return replace(self, grams=grams, class_sums=class_sums, codes=places[self.codes])

    def coefficients(
        self,
        weights: NDArray[np.float64],  # (c,)
        penalty: float,
    ) -> Tensor:  # (m, c) float64
        """Coefficients alpha on the centers at one penalty."""
        sums = self.sums(weights)
        L = sums.factor(penalty)
        half = torch.linalg.solve_triangular(L, sums.PhitY, upper=False)
        beta = torch.linalg.solve_triangular(L.mT, half, upper=True)
        # In float64 a block at a time: fresh memory for all of it would cost more than the product.
        blocks = torch.split(self.whiten, WHITEN_ROWS_AT_A_TIME)
        return torch.cat([block.double() @ beta for block in blocks])

    def leave_one_out(
        self,
        weights: NDArray[np.float64],  # (c,)
        penalty: float,
        groups: NDArray[np.intp] | None,  # (n,)
        rows: NDArray[np.intp] | None = None,  # (b,)
    ) -> Tensor:  # (n, c) or (b, c)
        """Predictions for every sample by the model fitted without it, or without its group.

        `rows` are some of the samples, of a group all or none; None: all samples.

        Raises
        ------
        NotKeptError
            If there are no rows phi_i.
        """
        Phi, codes, sums = self.rows("leave-one-out after a change"), self.codes, self.sums(weights)
        if len(codes) < len(self.whiten):  # leverages may be near 1, and float32 rounds 1 - h
            Phi = Phi.double()
        if rows is not None:
            Phi, codes = Phi[rows], codes[rows]
            groups = None if groups is None else groups[rows]
        factor = sums.factor(penalty)
        half = torch.linalg.solve_triangular(factor, sums.PhitY, upper=False).to(Phi.dtype)
        T = triangular_inverse(factor).T.to(Phi.dtype)
        sqrt_w = torch.as_tensor(weights[codes]).to(Phi).sqrt()

        def whitened(block: Index) -> Tensor:  # (b, m)
            return upper_matmul(Phi[block], T).mul_(sqrt_w[block, None])

        Y = signs(codes, len(weights), Phi)
        return left_out_scores(whitened, _blocks(Phi, groups), half, Y, sqrt_w, groups)

    def rounding(
        self,
        weights: NDArray[np.float64],  # (c,)
    ) -> float:
        """Penalty down to which the rows resolve eigenvalues; 0 where they are float64."""
        if self.whiten.dtype == torch.float64:
            return 0.0
        sums = self.sums(weights)
        return ROUNDED_PENALTY * float(sums.gram.trace()) / sums.weight

    def sums(self, weights: NDArray[np.float64]) -> NystromSums:
        """Return the sums at some weights of the classes."""
        assert self.grams is not None
        w = torch.as_tensor(weights, device=self.class_sums.device)
        gram = self.grams[0] if len(self.grams) == 1 else torch.tensordot(w, self.grams, dims=1)
        weighted = w * self.class_sums
        Phitw = weighted.sum(1)
        counts = np.bincount(self.codes, minlength=len(weights))
        return NystromSums(gram, 2.0 * weighted - Phitw[:, None], Phitw, float(counts @ weights))

    def _moved(
        self,
        Phi: Tensor,  # (k, m)
        codes: NDArray[np.intp],  # (k,)
        weights: NDArray[np.float64],  # (c,)
        sign: float,
    ) -> NystromStatistics:
        """Return the sums with rows added (sign 1) or subtracted (sign -1)."""
        assert self.grams is not None
        grams, class_sums = self.grams, self.class_sums.clone()
        by_class = len(grams) > 1
        if by_class:
            grams = grams.clone()
        for k in np.unique(codes).tolist():
            # A block in float64 at a time: twice its size in float32.
            for rows in torch.split(torch.as_tensor(np.flatnonzero(codes == k)), ROWS_AT_A_TIME):
                block = Phi[rows].double()
                class_sums[:, k] += sign * block.sum(0)
                if by_class:
                    grams[k].addmm_(block.T, block, alpha=sign)
        if not by_class:
            grams = self._moved_gram(Phi, weights[codes], sign)[None]
        return replace(self, grams=grams, class_sums=class_sums)

    def _moved_gram(
        self,
        Phi: Tensor,  # (k, m)
        w: NDArray[np.float64],  # (k,)
        sign: float,
    ) -> Tensor:  # (m, m)
        assert self.grams is not None
        gram = self.grams[0]
        for rows in torch.split(torch.arange(len(w)), ROWS_AT_A_TIME):
            block = Phi[rows].double()
            weighted = block * torch.as_tensor(w[rows.numpy()], device=block.device)[:, None]
            gram = torch.addmm(gram, weighted.T, block, alpha=sign)
        return gram


def _blocks(
    Phi: Tensor,  # (n, m)
    groups: NDArray[np.intp] | None,  # (n,)
) -> Iterator[Index]:
    """Rows of each block; where there are groups, none is cut."""
    n, m = Phi.shape
    step = rows_per_block(m, m, Phi.element_size())
    if groups is not None:
        yield from whole_groups(groups, step)
        return
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))
