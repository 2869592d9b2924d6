"""Learning curves: the error as a power law of the number of images, and its extrapolation.

    error(n) = a + b n^-c,    a >= 0, b >= 0, c > 0

is fitted by weighted least squares: for each c of a fine grid, a and b in closed form. Intervals
are those of a bootstrap over the draws of the training subsets and over the test images (or groups
of them), which all sizes and draws share.

Letters: K sizes, S draws, n test images, u units (images, or groups) that are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]

#: Exponents tried. Beyond the last, all of the fall is over at once.
EXPONENTS = np.geomspace(0.02, 3.0, 400)

#: Sizes that a curve needs: as many as it has unknowns.
LEAST_SIZES = 3

# Part of the widest possible interval, c between 0 and 1, beyond which a forecast is not given.
_TOO_WIDE = 0.5


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = a + b n^-c."""

    a: float
    b: float
    c: float


@dataclass(frozen=True)
class Forecast:
    """Expected gain in accuracy with a multiple of the present images.

    Attributes
    ----------
    multiple : float
        Of the present number of images.
    gain, low, high : float or None
        Accuracy gained and its 95 % interval; None where the curve does not identify them.
    """

    multiple: float
    gain: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolation of a learning curve.

    Attributes
    ----------
    status : {"power law", "flat", "not identified", "too few sizes"}
        Whether there are forecasts, and why not: the error does not fall beyond chance; the
        intervals of the forecasts are too wide; or there are fewer than three sizes.
    law : PowerLaw or None
        None unless there are forecasts.
    forecasts : tuple of Forecast
        One per multiple.
    """

    status: Literal["power law", "flat", "not identified", "too few sizes"]
    law: PowerLaw | None
    forecasts: tuple[Forecast, ...]


def nested_subsets(
    labels: ArrayLike,
    fractions: Sequence[float],
    *,
    groups: ArrayLike | None = None,
    random_state: int = 0,
) -> list[NDArray[np.intp]]:
    """Draw subsets that keep the proportions of the classes, each within all larger ones.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Class of each image.
    fractions : sequence of float
        Parts of the images, in (0, 1].
    groups : array-like of shape (n,), optional
        What is taken whole or not at all. Groups of several classes make the subsets larger than
        asked for.
    random_state : int, default=0
        Seed.

    Returns
    -------
    list of ndarray of int
        Sorted positions. Each class has at least two images, or groups, if there are so many.

    Raises
    ------
    ValueError
        If a fraction is out of range, or the shapes differ.

    Examples
    --------
    >>> small, large = nested_subsets(["a"] * 8 + ["b"] * 4, [0.5, 1.0])
    >>> len(small), len(large), set(small) <= set(large)
    (6, 12, True)
    """
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions must be in (0, 1], got {list(fractions)}")
    classes = np.unique(np.asarray(labels), return_inverse=True)[1]
    names = np.arange(len(classes)) if groups is None else np.asarray(groups)
    if names.shape != classes.shape:
        raise ValueError(f"groups must have shape {classes.shape}, got {names.shape}")
    members = np.unique(names, return_inverse=True)[1]
    place = np.random.default_rng(random_state).permutation(int(members.max(initial=-1)) + 1)
    # Groups of a class enter in the order of their places. A group comes in with the part of the
    # class that was there before it; with the first part, of all its classes, that it is needed in.
    (owner, group), counts = np.unique(np.stack([classes, members]), axis=1, return_counts=True)
    order = np.lexsort([place[group], owner])
    owner, group, counts = owner[order], group[order], counts[order]
    first = np.searchsorted(owner, owner)  # row of the class's first group
    before = np.cumsum(counts) - counts
    before = before - before[first]
    entry = np.where(np.arange(len(owner)) - first < 2, 0.0, before / np.bincount(classes)[owner])
    entries = np.full(len(place), np.inf)
    np.minimum.at(entries, group, entry)
    return [np.flatnonzero(entries[members] < fraction) for fraction in fractions]


def fit_power_law(sizes: ArrayLike, errors: ArrayLike, n_tested: int) -> PowerLaw:
    """Fit error(n) = a + b n^-c.

    Parameters
    ----------
    sizes : array-like of shape (K,)
        Numbers of training images, three at least, all different.
    errors : array-like of shape (K,)
        Error rates.
    n_tested : int
        Number of test images; errors weigh by the inverse of their binomial variance.

    Returns
    -------
    PowerLaw

    Raises
    ------
    ValueError
        If there are fewer than three sizes.

    Examples
    --------
    >>> law = fit_power_law([100, 200, 400, 800], [0.25, 0.225, 0.2125, 0.20625], 1000)
    >>> round(law.a, 3), round(law.c, 1)
    (0.2, 1.0)
    """
    n = np.asarray(sizes, dtype=np.float64)
    if len(n) < LEAST_SIZES:
        raise ValueError(f"a power law needs {LEAST_SIZES} sizes, got {len(n)}")
    y = np.asarray(errors, dtype=np.float64)
    a, b, c = (float(values[0]) for values in _fits(n / n[-1], y[None], n_tested))
    return PowerLaw(a, float(b * n[-1] ** c), c)


def extrapolate(
    sizes: ArrayLike,
    wrong: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    multiples: Sequence[float] = (2.0, 4.0),
    n_resamples: int = 2000,
    random_state: int = 0,
) -> Extrapolation:
    """Forecast the gain from more images, where the measured errors allow it.

    Parameters
    ----------
    sizes : array-like of shape (K,)
        Numbers of training images, ascending; the last are all there are.
    wrong : array-like of bool, shape (S, K, n)
        Whether each test image was classified wrongly after training on draw s of size k. The last
        size has one draw, repeated.
    groups : array-like of shape (n,), optional
        Group of each test image.
    multiples : sequence of float
        How many times the present number of images.
    n_resamples : int, default=2000
        Bootstrap samples.
    random_state : int, default=0
        Seed of the bootstrap.

    Returns
    -------
    Extrapolation

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Notes
    -----
    The error is taken not to fall at all where the 95 % interval of its fall from the first to the
    last size reaches zero. A forecast is given where its interval is at most half as wide as what
    is possible without any measurement, c between 0 and 1 and a = 0.
    """
    n, W = np.asarray(sizes, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    if W.ndim != 3 or W.shape[1] != len(n):
        raise ValueError(f"wrong must have shape (S, {len(n)}, n), got {W.shape}")
    members = np.arange(W.shape[2]) if groups is None else np.asarray(groups)
    if members.shape != W.shape[2:]:
        raise ValueError(f"groups must have shape {W.shape[2:]}, got {members.shape}")
    nothing = tuple(Forecast(multiple, None, None, None) for multiple in multiples)
    if len(n) < LEAST_SIZES:
        return Extrapolation("too few sizes", None, nothing)
    unit = np.unique(members, return_inverse=True)[1]
    errors = resampled_errors(W, unit, n_resamples, np.random.default_rng(random_state))
    now = float(W[:, -1].mean())
    if now == 0 or np.quantile(errors[:, 0] - errors[:, -1], 0.025) <= 0:
        return Extrapolation("flat", None, nothing)
    law = fit_power_law(n, W.mean(axis=(0, 2)), len(members))
    _, b, c = _fits(n / n[-1], errors, len(members))
    forecasts = []
    for multiple in multiples:
        gain = law.b * n[-1] ** -law.c * (1 - multiple**-law.c)
        low, high = np.quantile(b * (1 - multiple**-c), [0.025, 0.975])
        known = high - low <= _TOO_WIDE * (1 - 1 / multiple) * now
        numbers = (float(gain), float(low), float(high)) if known else (None, None, None)
        forecasts.append(Forecast(multiple, *numbers))
    if all(forecast.gain is None for forecast in forecasts):
        return Extrapolation("not identified", None, nothing)
    return Extrapolation("power law", law, tuple(forecasts))


def resampled_errors(
    wrong: _Floats,  # (S, K, n)
    unit: NDArray[np.intp],  # (n,), from 0 without a gap
    n_resamples: int,
    generator: np.random.Generator,
) -> _Floats:  # (n_resamples, K)
    """Return the error rates of bootstrap samples of the draws and of the units."""
    n_draws, n_sizes, _ = wrong.shape
    sizes = np.bincount(unit).astype(np.float64)  # (u,)
    sums = np.zeros((len(sizes), n_draws * n_sizes))
    np.add.at(sums, unit, wrong.reshape(n_draws * n_sizes, -1).T)
    errors = np.empty((n_resamples, n_sizes))
    step = max(1, 10_000_000 // len(sizes))  # bounds the memory
    for first in range(0, n_resamples, step):
        rows = errors[first : first + step]
        units = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), len(rows))
        draws = generator.multinomial(n_draws, np.full(n_draws, 1 / n_draws), len(rows)) / n_draws
        rates = (units @ sums) / (units @ sizes)[:, None]
        rows[:] = np.einsum("rs,rsk->rk", draws, rates.reshape(-1, n_draws, n_sizes))
    return errors


def _fits(
    t: _Floats,  # (K,): sizes, the last of which is 1
    y: _Floats,  # (r, K)
    n_tested: int,
) -> tuple[_Floats, _Floats, _Floats]:  # each (r,)
    """Fit y = a + b t^-c to every row, a and b not negative; return a, b and c."""
    w = 1 / (y * (1 - y) + 1 / n_tested)  # (r, K)
    w /= w.sum(axis=1, keepdims=True)
    X = t[None, :] ** -EXPONENTS[:, None]  # (e, K)
    sx, sxx = w @ X.T, w @ (X**2).T  # (r, e)
    sy = (w * y).sum(axis=1, keepdims=True)
    sxy = (w * y) @ X.T
    b = (sxy - sx * sy) / (sxx - sx**2)
    a = sy - b * sx
    syy = (w * y**2).sum(axis=1, keepdims=True)

    def loss(a: _Floats, b: _Floats) -> _Floats:
        squares: _Floats = syy - 2 * (a * sy + b * sxy) + a**2 + 2 * a * b * sx + b**2 * sxx
        return squares

    zero = np.zeros_like(b)
    only_a, only_b = np.broadcast_to(sy, b.shape), sxy / sxx
    on_b = loss(zero, only_b) < loss(only_a, zero)
    out = (a < 0) | (b < 0)  # then the best point is on the border of what is allowed
    a, b = np.where(out, np.where(on_b, 0, only_a), a), np.where(out, np.where(on_b, only_b, 0), b)
    best = loss(a, b).argmin(axis=1)
    rows = np.arange(len(y))
    return a[rows, best], b[rows, best], EXPONENTS[best]
