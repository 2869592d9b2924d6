"""One score as a sum over training images.

The score of a class is sum_j alpha_j k(x, z_j) over the head's centers z_j, which are training
images: all of them, or some where there are many. Nothing is approximated: the terms add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What stands for the name of an image that has none.
UNNAMED = "a center of another model, or a forgotten image"


@dataclass(frozen=True)
class TrainingImage:
    """A training image and its part in a score.

    Attributes
    ----------
    id : str or None
        Its name; None where it is a center of another model, or was forgotten and stays a center.
    label : str or number, or None
        Its class; None where it has no name.
    contribution : float
        What it adds to the score; negative where it speaks against the class.
    similarity : float
        Of the two images' features as the kernel sees them, 1 at most.
    """

    id: str | None
    label: Any
    contribution: float
    similarity: float


@dataclass(frozen=True)
class ClassShare:
    """What the training images of one class add to a score.

    Attributes
    ----------
    label : str or number, or None
        The class; None for those without a name.
    contribution : float
        Sum over its images.
    n_images : int
        How many of them have a part.
    """

    label: Any
    contribution: float
    n_images: int


@dataclass(frozen=True)
class Attribution:
    """A score as a sum over training images.

    Attributes
    ----------
    score : float
        The sum of the contributions of `supporting` and `opposing`, and of both rests.
    supporting, opposing : tuple of TrainingImage
        The images that add most to the score and that take most from it, the most important first.
    supporting_rest, opposing_rest : float
        Sum of all other contributions above and below zero.
    n_supporting, n_opposing : int
        Number of all images with a contribution above and below zero.
    classes : tuple of ClassShare
        The same score as a sum over classes, the largest contribution first.
    """

    score: float
    supporting: tuple[TrainingImage, ...]
    opposing: tuple[TrainingImage, ...]
    supporting_rest: float
    opposing_rest: float
    n_supporting: int
    n_opposing: int
    classes: tuple[ClassShare, ...]


def support_of(
    contributions: NDArray[np.float64],
    similarity: NDArray[np.float64],
    ids: Sequence[str | None],
    labels: Sequence[Any],
    *,
    n_images: int = 6,
) -> Attribution:
    """Sort the terms of a score into images for and against it.

    Parameters
    ----------
    contributions, similarity : ndarray of shape (m,)
        Of the training images that are centers.
    ids : sequence of length m
        Their names; None for those without a name.
    labels : sequence of length m
        Their classes, or None.
    n_images : int, default=6
        Images to name on each side.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        If `n_images` is negative, or the lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([0.5, -0.1, 0.25])
    >>> found = support_of(values, np.ones(3), ["a", "b", "c"], [1, 0, 1], n_images=1)
    >>> found.supporting[0].id, found.supporting_rest, found.score
    ('a', 0.25, 0.65)
    """
    if not len(contributions) == len(similarity) == len(ids) == len(labels):
        raise ValueError(
            "contributions, similarity, ids and labels must have one length, got "
            f"{len(contributions)}, {len(similarity)}, {len(ids)} and {len(labels)}"
        )
    if n_images < 0:
        raise ValueError(f"n_images must be >= 0, got {n_images}")
    order = np.argsort(-contributions, kind="stable")
    above = order[contributions[order] > 0]
    below = order[contributions[order] < 0][::-1]

    def named(rows: NDArray[np.intp]) -> tuple[TrainingImage, ...]:
        return tuple(
            TrainingImage(ids[j], labels[j], float(contributions[j]), float(similarity[j]))
            for j in rows.tolist()
        )

    return Attribution(
        score=float(contributions.sum()),
        supporting=named(above[:n_images]),
        opposing=named(below[:n_images]),
        supporting_rest=float(contributions[above[n_images:]].sum()),
        opposing_rest=float(contributions[below[n_images:]].sum()),
        n_supporting=len(above),
        n_opposing=len(below),
        classes=_shares(contributions, labels),
    )


def _shares(
    contributions: NDArray[np.float64],
    labels: Sequence[Any],
) -> tuple[ClassShare, ...]:
    sums: dict[Any, list[float]] = {}
    for label, value in zip(labels, contributions.tolist(), strict=True):
        sums.setdefault(label, []).append(value)
    shares = (ClassShare(label, math.fsum(part), len(part)) for label, part in sums.items())
    return tuple(sorted(shares, key=lambda share: -share.contribution))
