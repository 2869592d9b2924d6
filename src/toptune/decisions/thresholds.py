"""Thresholds of classes: what they decide, and how they are chosen on samples of known labels.

Choosing and judging on the same samples is optimistic: the share of a class that is found, say, is
what was wanted on these samples, and about that on others. Letters: n samples, c classes, P (n, c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toptune.decisions.costs import check_known_classes
from toptune.errors import DataError

Objective: TypeAlias = Literal["macro-f1", "balanced-accuracy"]
"""Mean over classes of the harmonic mean of precision and recall, or of recall."""

OBJECTIVES: tuple[Objective, ...] = ("macro-f1", "balanced-accuracy")

# Rounds of the coordinate ascent; it ends as soon as no class improves the objective.
_ROUNDS = 20

# Probabilities that differ by less are equal.
_ROUNDING = 1e-9


def threshold_vector(
    thresholds: Mapping[Any, float], classes: ArrayLike
) -> NDArray[np.float64]:  # (c,)
    """Return thresholds in the order of the classes, NaN for those without one.

    Parameters
    ----------
    thresholds : mapping
        Class to probability, in (0, 1]. Keys are compared with `classes` as text.
    classes : array-like of shape (c,)
        Labels.

    Raises
    ------
    DataError
        If there are no thresholds, a class is unknown, or a value is not in (0, 1].
    """
    if not isinstance(thresholds, Mapping):
        raise DataError(f"thresholds must map classes to probabilities, got {thresholds!r}")
    names = [str(label) for label in np.asarray(classes).tolist()]
    check_known_classes(map(str, thresholds), names, "thresholds")
    if not thresholds:
        raise DataError("thresholds name no class: give one probability at least")
    out = np.full(len(names), np.nan)
    for label, value in thresholds.items():
        if not isinstance(value, int | float | np.number) or not 0 < value <= 1:
            raise DataError(f"the threshold of {label!r} must be in (0, 1], got {value!r}")
        out[names.index(str(label))] = value
    return out


def apply_thresholds(
    P: NDArray[np.float64],  # (n, c)
    t: NDArray[np.float64],  # (c,), NaN for none
) -> NDArray[np.intp]:  # (n,)
    """Codes of the classes whose probability reaches their threshold.

    Of several the one that exceeds its threshold most, as a ratio. If there is none, the most
    probable of the classes without a threshold; if all have one, the one that comes nearest to its
    threshold. With two classes, a threshold t of one is what it says: it is decided from t on.

    Examples
    --------
    >>> P = np.array([[0.3, 0.7], [0.1, 0.9]])
    >>> apply_thresholds(P, np.array([0.2, np.nan])).tolist()
    [0, 1]
    """
    given = ~np.isnan(t)
    ratios = np.where(given, P / np.where(given, t, 1.0), -np.inf)
    first: NDArray[np.intp] = ratios.argmax(axis=1)
    if given.all():
        return first
    other = np.where(given, -np.inf, P).argmax(axis=1)
    decided: NDArray[np.intp] = np.where(ratios.max(axis=1) >= 1, first, other)
    return decided


def choose_thresholds(
    codes: NDArray[Any],  # (n,) or (n, c)
    P: NDArray[np.float64],  # (n, c)
    labels: ArrayLike,  # (c,)
    objective: Objective | None = None,
    *,
    recall: Mapping[Any, float] | None = None,
    precision: Mapping[Any, float] | None = None,
) -> dict[Any, float]:
    """Choose thresholds; see `toptune.TopTuner.choose_thresholds`.

    Raises
    ------
    DataError
        If nothing or too much is asked for, or it cannot be had: where an image has one class,
        thresholds that each give what is wanted may not do so together, because classes compete.
    """
    wishes = [*(recall or {}), *(precision or {})]
    if (objective is None) == (not wishes):
        raise DataError(
            "say what thresholds are for: either an objective, or a recall or precision of classes"
        )
    if len(set(map(str, wishes))) < len(wishes):
        raise DataError("a class can have a wanted recall or a wanted precision, not both")
    classes = np.asarray(labels).tolist()
    single = codes.ndim == 1
    if objective is not None and single:
        return dict(zip(classes, best_thresholds(codes, P, objective).tolist(), strict=True))
    present = codes[:, None] == np.arange(len(classes)) if single else codes > 0
    if objective is not None:
        return {
            label: best_label_threshold(present[:, k], P[:, k], objective)
            for k, label in enumerate(classes)
        }
    places = {str(label): k for k, label in enumerate(classes)}
    found = {}
    for name, wanted in (("recall", recall or {}), ("precision", precision or {})):
        check_known_classes(map(str, wanted), list(places), f"wishes for {name}")
        for label, value in wanted.items():
            k = places[str(label)]
            try:
                found[classes[k]] = threshold_for(present[:, k], P[:, k], **{name: value})
            except DataError as error:
                raise DataError(f"{label}: {error}") from error
    if single:
        decided = apply_thresholds(P, threshold_vector(found, labels))
        _check_reached(codes, decided, list(places), recall or {}, precision or {})
    return found


def _check_reached(
    codes: NDArray[Any],  # (n,)
    decided: NDArray[np.intp],  # (n,)
    names: list[str],
    recall: Mapping[Any, float],
    precision: Mapping[Any, float],
) -> None:
    """Refuse thresholds that do not give what was wanted, once each image has one class."""
    missed = []
    for name, wanted, among in (("recall", recall, codes), ("precision", precision, decided)):
        for label, value in wanted.items():
            k = names.index(str(label))
            hits, total = np.sum((codes == k) & (decided == k)), np.sum(among == k)
            if total == 0 or hits < value * total * (1 - 1e-12):
                got = f"{hits / total:.4g}" if total else "none, as it is never decided"
                missed.append(f"the {name} of {label} is {got} (wanted {value:g})")
    if missed:
        raise DataError(
            "an image gets one class, and these wishes cannot be had together: with the thresholds "
            f"that each of them needs, {'; '.join(missed)}. Wish for fewer classes, or for less"
        )


def threshold_for(
    y_true: ArrayLike,
    p: ArrayLike,
    *,
    recall: float | None = None,
    precision: float | None = None,
) -> float:
    """Choose the threshold of one class for a wanted recall or precision.

    Parameters
    ----------
    y_true : array-like of bool, shape (n,)
        Whether the sample is of the class.
    p : array-like of shape (n,)
        Probability of the class.
    recall : float, optional
        Part of the class to be found, in (0, 1]: the threshold is the highest that finds so many,
        which keeps false alarms fewest.
    precision : float, optional
        Part of what is found that is to be right, in (0, 1]: the threshold is the lowest at which
        so many are, which finds most.

    Returns
    -------
    float
        Decide for the class where its probability is at least this.

    Raises
    ------
    DataError
        If not exactly one is wanted, it is not in (0, 1], no sample is of the class, or no
        threshold gives the precision.

    Examples
    --------
    >>> y, p = [1, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.4, 0.1]
    >>> threshold_for(y, p, recall=1.0), threshold_for(y, p, precision=0.9)
    (0.4, 0.8)
    """
    if (recall is None) == (precision is None):
        raise DataError("say either the recall or the precision that is wanted")
    name, wanted = ("recall", recall) if recall is not None else ("precision", precision)
    if wanted is None or not 0 < wanted <= 1:
        raise DataError(f"the wanted {name} must be in (0, 1], got {wanted!r}")
    positive, chances = np.asarray(y_true, dtype=bool), np.asarray(p, dtype=np.float64)
    if not positive.any():
        raise DataError("no sample is of the class: there is nothing to choose a threshold on")
    order = np.argsort(-chances, kind="stable")
    hits, values = np.cumsum(positive[order]), chances[order]
    last = np.append(values[1:] < values[:-1], True)  # equal probabilities go together
    if recall is not None:
        enough = hits >= np.ceil(recall * positive.sum() * (1 - 1e-12))
        return _above_zero(values[np.flatnonzero(enough & last)[0]])
    reached = hits / np.arange(1, len(hits) + 1)
    good = np.flatnonzero(last & (reached >= wanted))
    if len(good) == 0:
        raise DataError(
            f"no threshold gives a precision of {wanted:g} on these samples: the best is "
            f"{reached[last].max():.4g}"
        )
    return _above_zero(values[good[-1]])


def best_thresholds(
    codes: NDArray[np.intp],  # (n,), classes as columns of P
    P: NDArray[np.float64],  # (n, c)
    objective: Objective = "macro-f1",
) -> NDArray[np.float64]:  # (c,)
    """Choose thresholds t of all classes; the decision is argmax_j P_j / t_j.

    Coordinate ascent: one threshold after the other is set to its best value, the others being
    held, from the better of equal thresholds and thresholds that follow the frequencies, until no
    class improves the objective. Classes that do not occur count in no mean.

    Returns
    -------
    ndarray of shape (c,)
        Adding up to 1: with two classes each is the probability from which on it is decided.

    Raises
    ------
    DataError
        If the objective is unknown.

    Examples
    --------
    >>> P = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.9, 0.1]])
    >>> t = best_thresholds(np.array([0, 1, 1, 0]), P)
    >>> (P / t).argmax(axis=1).tolist()
    [0, 1, 1, 0]
    """
    check_objective(objective)
    n, c = P.shape
    frequency = np.bincount(codes, minlength=c) / n
    starts = (np.full(c, 1 / c), np.where(frequency > 0, frequency, 1 / n))
    t = max(starts, key=lambda start: _objective(codes, (P / start).argmax(axis=1), c, objective))
    best = _objective(codes, (P / t).argmax(axis=1), c, objective)
    for _ in range(_ROUNDS):
        before = best
        for k in range(c):
            value, found = _best_of_class(codes, P, t, k, objective)
            if found > best + 1e-12:
                t[k], best = value, found
        if best == before:
            break
    total: NDArray[np.float64] = t / t.sum()
    return total


def best_label_threshold(y_true: ArrayLike, p: ArrayLike, objective: Objective) -> float:
    """Choose the threshold of a label that is there or not, whatever the other labels.

    Parameters
    ----------
    y_true : array-like of bool, shape (n,)
        Whether the sample has the label.
    p : array-like of shape (n,)
        Probability of the label.
    objective : {"macro-f1", "balanced-accuracy"}
        F1 of the label, or the mean of the recalls of having it and of not having it.

    Returns
    -------
    float
        0.5 where no sample has the label or all have it, where all probabilities are equal, which
        is where the label cannot be learned, and where no other threshold is better.
    """
    check_objective(objective)
    positive, chances = np.asarray(y_true, dtype=bool), np.asarray(p, dtype=np.float64)
    if positive.all() or not positive.any() or np.ptp(chances) < _ROUNDING:
        return 0.5
    order = np.argsort(-chances, kind="stable")
    values = chances[order]
    hits, found = np.cumsum(positive[order]), np.arange(1, len(order) + 1)
    if objective == "macro-f1":
        score = 2 * hits / (found + positive.sum())
    else:
        score = hits / positive.sum() - (found - hits) / (~positive).sum()
    above = np.count_nonzero(values >= 0.5)
    at_half = score[above - 1] if above else 0.0  # either objective, where nothing is found
    score = np.where(np.append(values[1:] < values[:-1], True), score, -np.inf)
    return _above_zero(values[score.argmax()]) if score.max() > at_half + 1e-12 else 0.5


def check_objective(objective: Any) -> None:
    """Refuse what is no objective."""
    if objective not in OBJECTIVES:
        raise DataError(f"the objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")


def _above_zero(value: float) -> float:
    """Threshold as a probability in (0, 1]."""
    return float(min(max(value, np.finfo(np.float64).tiny), 1.0))


def _objective(
    codes: NDArray[np.intp], decided: NDArray[np.intp], c: int, objective: Objective
) -> float:
    hits = np.bincount(codes[codes == decided], minlength=c)
    support, found = np.bincount(codes, minlength=c), np.bincount(decided, minlength=c)
    return float(_mean(hits, found, support, objective))


def _mean(
    hits: NDArray[Any],  # (..., c)
    found: NDArray[Any],  # (..., c)
    support: NDArray[Any],  # (c,)
    objective: Objective,
) -> Any:  # (...)
    """Mean of the objective over the classes that occur."""
    occurs = support > 0
    below = found + support if objective == "macro-f1" else 2 * support
    return (2 * hits[..., occurs] / below[..., occurs]).mean(axis=-1)


def _best_of_class(
    codes: NDArray[np.intp],
    P: NDArray[np.float64],
    t: NDArray[np.float64],
    k: int,
    objective: Objective,
) -> tuple[float, float]:
    """Best threshold of class k, the others being held, and the objective there.

    Sample i goes to k where P_ik / t_k exceeds the best ratio s_i of the others, that is where
    t_k < P_ik / s_i. From high to low thresholds the samples go over one by one.
    """
    n, c = P.shape
    ratios = P / t
    ratios[:, k] = -np.inf
    other = ratios.argmax(axis=1)
    edge = P[:, k] / np.maximum(ratios.max(axis=1), np.finfo(np.float64).tiny)
    order = np.argsort(-edge, kind="stable")
    edges = edge[order]
    moved = np.zeros((n, c), dtype=np.int64)  # decisions for the others that are given up
    moved[np.arange(n), other[order]] = 1
    lost = moved * (codes[order] == other[order])[:, None]
    found = np.bincount(other, minlength=c) - moved.cumsum(axis=0)
    hits = np.bincount(codes[codes == other], minlength=c) - lost.cumsum(axis=0)
    found[:, k] = np.arange(1, n + 1)
    hits[:, k] = np.cumsum(codes[order] == k)
    score = _mean(hits, found, np.bincount(codes, minlength=c), objective)
    score = np.where(np.append(edges[1:] < edges[:-1], True), score, -np.inf)
    i = int(score.argmax())
    below = edges[i + 1] if i + 1 < n else 0.0
    return float(max((edges[i] + below) / 2, np.finfo(np.float64).tiny)), float(score[i])
