"""Do the centers still stand for the samples? What tells that they should be chosen anew.

A Nystrom model sees of a sample what the centers span. The part it does not see is

    r_i = 1 - ||phi_i||^2 / k(x_i, x_i),   phi_i = L^-1 k(x_i) as in `nystrom`,

the squared distance of the sample to the span of the centers in the kernel's space, over its own
squared norm: 0 for a center, 1 for a sample that no center resembles. It is what bounds the error
of the Nystrom approximation (Rudi, Camoriano and Rosasco 2015, arXiv 1507.04717). Of samples like
those that the centers were drawn from, one in twenty lies above the 95th percentile of r; when a
quarter of what was added does, it is of another kind. The other sign is the number of samples: the
centers wanted, and the hyperparameters, go with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from toptune.kernel.kernels import kernel_diagonal

#: Quantile of r over samples that the centers were drawn from; samples above it are not covered.
QUANTILE = 0.95
#: Samples that the quantile is taken over.
QUANTILE_SAMPLES = 500
#: Share of added samples not covered, expected 0.05, and their least number, that ask for new
#: centers: of 20 like the old ones 5 are not covered with a probability of 0.003.
UNCOVERED_SHARE, UNCOVERED_LEAST = 0.25, 5
#: Factor by which the number of samples may change before everything should be chosen again.
GROWTH = 1.5


def uncovered_part(
    Phi: Tensor,  # (k, m)
    X: Tensor,  # (k, d), as the kernel takes them
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (k,) float64
    """R of each sample."""
    return 1.0 - Phi.double().square().sum(1) / kernel_diagonal(X, kernel, bandwidth).double()


def left_out_parts(
    whiten: Tensor,  # (m, m), L^-T as in `nystrom`
    Z: Tensor,  # (m, d), as the kernel takes them
    kernel: str,
    bandwidth: float,
) -> Tensor:  # (m,) float64
    """R of each center by the other ones, 1 / (K_mm^-1)_jj / k(z_j, z_j); K_mm^-1 = L^-T L^-1."""
    inverse = whiten.double().square().sum(1)
    return 1.0 / (inverse * kernel_diagonal(Z, kernel, bandwidth).double())


@dataclass(frozen=True)
class Coverage:
    """How the samples have changed since centers and hyperparameters were chosen.

    Attributes
    ----------
    n_chosen
        Samples there were then.
    limit
        r above which a sample is not covered; None where all samples are centers.
    n_added, n_uncovered
        Samples added since, and how many of them are not covered.
    """

    n_chosen: int
    limit: float | None = None
    n_added: int = 0
    n_uncovered: int = 0

    @classmethod
    def of(
        cls,
        n: int,
        parts: Tensor,  # (k,), of samples that are no centers
    ) -> Coverage:
        """Return that of a fit, from r of some of its samples."""
        limit = float(torch.quantile(parts, QUANTILE)) if len(parts) else None
        return cls(n, limit)

    def added(
        self,
        parts: Tensor,  # (k,)
    ) -> Coverage:
        """Return that after samples were added."""
        above = 0 if self.limit is None else int((parts > self.limit).sum())
        return replace(
            self, n_added=self.n_added + len(parts), n_uncovered=self.n_uncovered + above
        )

    def joined(self, other: Coverage) -> Coverage:
        """Return that of two models whose centers were given to both."""
        return Coverage(
            self.n_chosen + other.n_chosen,
            other.limit if self.limit is None else self.limit,
            self.n_added + other.n_added,
            self.n_uncovered + other.n_uncovered,
        )

    def reason(self, n: int) -> str | None:
        """Why everything should be chosen anew, now that there are n samples; None: no reason."""
        uncovered = self.n_uncovered
        if uncovered >= UNCOVERED_LEAST and uncovered > UNCOVERED_SHARE * self.n_added:
            return (
                f"{uncovered} of {self.n_added} added images are not covered by the centers, "
                f"where {(1 - QUANTILE):.0%} would be usual"
            )
        if n >= GROWTH * self.n_chosen:
            return (
                f"there are {n} images, and {self.n_chosen} when centers and hyperparameters were "
                "chosen"
            )
        if n * GROWTH <= self.n_chosen:
            return (
                f"only {n} images are left of {self.n_chosen} that centers and hyperparameters "
                "were chosen on"
            )
        return None


def quantile_rows(
    n: int,
    centers: np.ndarray[tuple[int], np.dtype[np.intp]],  # (m,)
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """At most `QUANTILE_SAMPLES` of the samples that are no centers, evenly spread."""
    others = np.setdiff1d(np.arange(n), centers)
    some = np.linspace(0, len(others) - 1, min(len(others), QUANTILE_SAMPLES)).astype(np.intp)
    rows: np.ndarray[tuple[int], np.dtype[np.intp]] = others[some]
    return rows
