"""The heads of studies by name: our kernel head, scikit-learn's classifiers, fine-tuning.

All heads that take features see the same ones: signed square root, then every group of columns
scaled to unit length. What a head must choose it chooses on the training images; grid searches use
three shuffled folds that keep groups of images together.

Most classifiers of scikit-learn see features only through inner products and distances, and there
are more columns than images. They are given the coordinates of the images in the space that the
training images span, and the distance from it as one more column: the same inner products with
training images and the same distances, from 20 times fewer numbers (`Span`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import SVC

from toptune.kernel import KernelClassifier

#: Our own head: with the better of two kernels, as `TopTuner` has it, or with one.
KERNEL = ("kernel", "gaussian", "laplacian", "linear")
#: scikit-learn's classifiers.
RIVALS = ("logistic", "ridge", "svc", "knn", "centroid")
#: Heads that train the network: modes of FineTuner.
FINE_TUNING = ("full", "lp-ft", "last-block", "head-only")
HEADS = (*KERNEL, *RIVALS, *FINE_TUNING)

# What a plan may set of FineTuner, of which type and in which range; and `steps`, how many it makes
# at most, about: where there are many images, it sees them in fewer epochs.
_RANGES: dict[str, tuple[type, float, float]] = {
    "epochs": (int, 1, np.inf),
    "steps": (int, 1, np.inf),
    "batch_size": (int, 2, np.inf),
    "patience": (int, 1, np.inf),
    "learning_rate": (float, 0, np.inf),
    "layer_decay": (float, 0, 1),
    "ema": (bool, 0, 1),
}


def check_head(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse an unknown head or setting.

    Raises
    ------
    ValueError
        Naming it, and the known ones.
    """
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}; known are {', '.join(HEADS)}")
    known = tuple(_RANGES) if name in FINE_TUNING else ()
    for setting, value in settings.items():
        if setting not in known:
            raise ValueError(
                f"the head {name} has no setting {setting!r}; it has "
                + (", ".join(known) or "none, everything is chosen on the training images")
            )
        _check_setting(setting, value)


def _check_setting(name: str, value: Any) -> None:
    """Refuse a setting of another type, or out of its range, when the plan is read."""
    kind, least, most = _RANGES[name]
    if name == "learning_rate" and value == "auto":
        return
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    right = right or (kind is float and type(value) is int)
    if not right or not least <= value <= most or (kind is float and value == least):
        what = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        hint = "; in YAML 1e-3 is text: write 0.001" if isinstance(value, str) else ""
        bounds = "" if kind is bool else f" {'>' if kind is float else '>='} {least:g}"
        top = "" if most == np.inf or kind is bool else f" and <= {most:g}"
        raise ValueError(f"{name} must be {what}{bounds}{top}, got {value!r}{hint}")


def folds(labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int) -> list[Any]:
    """Three shuffled stratified folds, whole groups in each; positions of training and test.

    Two where no class has three images, or there are two groups. Classes may have fewer images than
    there are folds: some folds then lack the class.
    """
    n_folds = min(3, int(np.unique(labels, return_counts=True)[1].max()))
    if groups is not None and len(set(groups.tolist())) > 1:
        n_folds = min(n_folds, len(set(groups.tolist())))
        splitter: Any = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    found = list(splitter.split(labels, labels, groups))
    # A fold whose training part has one class, or whose test part is empty, says nothing.
    return [
        (train, test) for train, test in found if len(set(labels[train].tolist())) > 1 and len(test)
    ]


class Span:
    """Coordinates in the span of the training rows, and the distance from it as a last column.

    Inner products with training rows and distances to them are those of the rows given. The span
    is that of the eigenvectors of the Gram matrix whose eigenvalues are above rounding.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
        Training rows.

    Attributes
    ----------
    coordinates : ndarray of float32, shape (n, r + 1), r <= n
        Of the training rows.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        # float64: a small eigenvalue of the Gram matrix is the square of a small singular value.
        G = (rows @ rows.T).astype(np.float64)
        values, U = np.linalg.eigh(G)
        kept = values > values[-1] * len(G) * np.finfo(np.float32).eps
        s, U = np.sqrt(values[kept]), U[:, kept]
        self._rows, self._inverse = rows, U / s
        self.coordinates = np.column_stack([U * s, np.zeros(len(U))]).astype(np.float32)

    def coordinates_of(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates (t, r + 1) of other rows (t, d)."""
        inside = (rows @ self._rows.T).astype(np.float64) @ self._inverse
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        outside = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", inside, inside), 0.0))
        return np.column_stack([inside, outside]).astype(np.float32)


class GaussianSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """SVC with a Gaussian kernel, bandwidth and C from a grid search over distances.

    Distances are computed once: scikit-learn's SVC would compute them anew for every fit.

    Parameters
    ----------
    cv : list of (train, test)
        Folds.
    """

    def __init__(self, *, cv: Sequence[Any] = ()) -> None:
        self.cv = cv

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> GaussianSVC:
        """Choose and fit on (n, r) coordinates."""
        D = euclidean_distances(X, squared=True)
        typical = float(np.median(D))
        best = -np.inf
        for factor in (0.5, 2.0, 8.0):
            gamma = factor / (typical or 1.0)
            search = GridSearchCV(
                SVC(kernel="precomputed"), {"C": [1.0, 10.0, 100.0]}, cv=self.cv
            ).fit(np.exp(-gamma * D), y)
            if search.best_score_ > best:
                best, self.gamma_, self.model_ = search.best_score_, gamma, search.best_estimator_
        self.best_params_ = {"C": self.model_.C, "gamma": self.gamma_}
        self.X_, self.classes_ = X, self.model_.classes_
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Labels of (t, r) coordinates."""
        D = euclidean_distances(X, self.X_, squared=True)
        found: NDArray[Any] = self.model_.predict(np.exp(-self.gamma_ * D))
        return found


def rival(name: str, labels: NDArray[Any], groups: NDArray[Any] | None, *, seed: int) -> Any:
    """Return one of scikit-learn's classifiers, unfitted, with its search over what it must choose.

    Parameters
    ----------
    name : str
        One of `RIVALS`.
    labels, groups : ndarray of shape (n,)
        Of the training images, for the folds.
    seed : int
        Of the folds.
    """
    if name == "centroid":
        return NearestCentroid()
    cv = folds(labels, groups, seed=seed)
    if name == "svc":
        return GaussianSVC(cv=cv)
    if name == "logistic":
        return GridSearchCV(
            LogisticRegression(max_iter=300), {"C": [0.1, 1.0, 10.0, 100.0, 1000.0]}, cv=cv
        )
    if name == "ridge":
        return GridSearchCV(RidgeClassifier(), {"alpha": [10.0**k for k in range(-4, 3)]}, cv=cv)
    smallest = min(len(train) for train, _ in cv)
    neighbours = [k for k in (1, 3, 5, 9, 15) if k <= smallest]
    return GridSearchCV(
        KNeighborsClassifier(algorithm="brute"),
        {"n_neighbors": neighbours, "weights": ["uniform", "distance"]},
        cv=cv,
    )


def kernel_head(name: str, widths: Sequence[int], *, seed: int) -> KernelClassifier:
    """Return our head with one of the kernels in `KERNEL`, for groups of columns."""
    return KernelClassifier(
        kernel="auto" if name == "kernel" else name,  # type: ignore[arg-type]
        feature_groups=list(widths) if len(widths) > 1 else None,
        random_state=seed,
    )
