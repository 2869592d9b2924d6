"""What a score is made of: one term for every center.

    f_c(x) = sum_j alpha_jc k(x, z_j)

The terms alpha_jc k(x, z_j) add up to the score, so that they say exactly which centers speak for
class c and which against it. Letters: n samples, m centers, c outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toptune.kernel.kernels import kernel_diagonal
from toptune.kernel.operators import KernelOperator


@dataclass(frozen=True, eq=False)
class ScoreTerms:
    """Kernel values between n samples and m centers, and what they make of the coefficients.

    Attributes
    ----------
    K : Tensor of shape (n, m), float64
        k(x_i, z_j).
    similarity : Tensor of shape (n, m), float64
        Cosine of the angle between x_i and z_j in the space of the kernel,
        k(x, z) / sqrt(k(x, x) k(z, z)): 1 for equal features. A radial kernel is its own cosine.
    alpha : Tensor of shape (m, c), float64
        Coefficients.
    """

    K: Tensor
    similarity: Tensor
    alpha: Tensor

    @property
    def scores(self) -> Tensor:  # (n, c)
        """Scores of all outputs."""
        return self.K @ self.alpha

    def of(self, sample: int, output: int) -> Tensor:  # (m,)
        """Terms of one score, a center each; they add up to it."""
        return self.alpha[:, output] * self.K[sample]


def score_terms(
    operator: KernelOperator,  # n samples, m centers
    alpha: Tensor,  # (m, c)
) -> ScoreTerms:
    """Take the scores of a few samples apart.

    K is kept whole, n m numbers in float64.

    Examples
    --------
    >>> import torch
    >>> from toptune.kernel.operators import KernelOperator, Rows
    >>> X, Z = torch.tensor([[0.0]]), torch.tensor([[0.0], [2.0]])
    >>> operator = KernelOperator(Rows(X), Z, "gaussian", 1.0)
    >>> terms = score_terms(operator, torch.tensor([[1.0], [-1.0]]))
    >>> terms.of(0, 0), terms.scores
    (tensor([ 1.0000, -0.1353], dtype=torch.float64), tensor([[0.8647]], dtype=torch.float64))
    """
    K = operator.kept().block(slice(None)).double()
    kernel, bandwidth, Z = operator.kernel, operator.bandwidth, operator.Z.double()
    X = operator.X.all().double()
    norms = kernel_diagonal(X, kernel, bandwidth)[:, None] * kernel_diagonal(Z, kernel, bandwidth)
    return ScoreTerms(K, K / norms.sqrt(), alpha.double())
