"""What features go through before the kernel: signed power, then unit length, group by group.

Pooled activations are skewed: a few channels dominate every distance. A square root evens them
out before rows are scaled to unit length. For non-negative features this is the Hellinger map
(distances between rows become Hellinger distances between the features as distributions); the
signed form for features of either sign is from Perronnin, Sanchez and Mensink 2010, Improving the
Fisher Kernel for Large-Scale Image Classification, and is also what second-order pooling goes
through (Lin, RoyChowdhury and Maji 2015, Bilinear CNN Models for Fine-grained Visual Recognition).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data


class FeatureNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Map each row x to u / ||u|| with u = sign(x) |x|^power, each group of columns by itself.

    A row of zeros stays zero. The map has no parameters to learn; `fit` only checks its input.

    Parameters
    ----------
    power : float, default=0.5
        Exponent > 0; 1.0 is plain L2 normalisation.
    groups : sequence of int, optional
        Numbers of columns of the groups, in order, adding up to d; None: all are one group.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen by `fit`.

    Examples
    --------
    >>> from toptune.kernel import FeatureNormalizer
    >>> FeatureNormalizer().fit_transform([[9.0, 16.0], [0.0, -4.0]])
    array([[ 0.6,  0.8],
           [ 0. , -1. ]])
    >>> FeatureNormalizer(groups=[1, 1]).fit_transform([[9.0, 16.0]])
    array([[1., 1.]])
    """

    def __init__(self, *, power: float = 0.5, groups: Sequence[int] | None = None) -> None:
        self.power = power
        self.groups = groups

    def fit(self, X: ArrayLike, y: Any = None) -> FeatureNormalizer:
        """Check the parameters and the input.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.
        y : ignored
            For the scikit-learn interface.

        Returns
        -------
        self
        """
        if not (np.isfinite(self.power) and self.power > 0):
            raise ValueError(f"power must be > 0, got {self.power!r}")
        self._checked(X)
        d, groups = self.n_features_in_, self.groups
        if groups is not None and (sum(groups) != d or min(groups, default=0) < 1):
            raise ValueError(
                f"groups must be numbers of columns > 0 that add up to {d}, got {groups!r}"
            )
        return self

    def _checked(self, X: ArrayLike, *, reset: bool = True) -> Any:
        half = isinstance(X, np.ndarray) and X.dtype == np.float16
        dtype = np.float32 if half else [np.float64, np.float32]
        return validate_data(self, X, dtype=dtype, reset=reset)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the normalised rows, (n, d), in the floating dtype of X; float16 as float32.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.
        """
        check_is_fitted(self, "n_features_in_")
        X = self._checked(X, reset=False)
        U = np.abs(X)
        if self.power == 0.5:
            np.sqrt(U, out=U)
        elif self.power != 1.0:
            np.power(U, self.power, out=U)
        np.copysign(U, X, out=U)
        ends = np.cumsum(self.groups if self.groups is not None else [U.shape[1]])
        for part in np.split(U, ends[:-1], axis=1):  # views
            norms = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
            norms[norms == 0.0] = 1.0
            part /= norms[:, None].astype(U.dtype)
        return U
