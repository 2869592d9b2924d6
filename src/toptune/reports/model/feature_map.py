"""Training images as points of a plane: kernel principal components.

Schölkopf, Smola and Müller 1998, Nonlinear Component Analysis as a Kernel Eigenvalue Problem. The
kernel is the head's own, with its bandwidth and its weights of layers: images are near each other
where the head takes them to be alike. The axes know nothing of the labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kernel_components(
    K: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the first two principal components of a kernel.

    Parameters
    ----------
    K : ndarray of shape (k, k)
        Kernel between the images.

    Returns
    -------
    points : ndarray of shape (k, 2)
    shares : tuple of float
        Part of the variance, the trace of the centred kernel, that each shows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> points, shares = kernel_components(x @ x.T)
    >>> sorted(points[:, 0].round(6).tolist()), shares
    ([-1.0, 0.0, 1.0], (1.0, 0.0))
    """
    from sklearn.decomposition import KernelPCA

    k = len(K)
    found = KernelPCA(n_components=2, kernel="precomputed", eigen_solver="dense").fit(K)
    sizes = np.zeros(2)
    sizes[: len(found.eigenvalues_)] = np.maximum(found.eigenvalues_, 0.0)
    points = np.zeros((k, 2))
    points[:, : len(found.eigenvalues_)] = found.eigenvectors_ * np.sqrt(sizes[:k])
    total = float(np.trace(K) - K.sum() / k)
    shares = sizes / total if total > 0 else np.zeros(2)
    return points, (float(shares[0].round(12)), float(shares[1].round(12)))
