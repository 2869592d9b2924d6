"""Page of an explanation: the picture, its map, and training images for and against the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toptune.images import ImageSource
from toptune.model.explanation.attribution import UNNAMED, Attribution, TrainingImage
from toptune.model.explanation.explain import Explanation
from toptune.model.explanation.occlusion import Occlusion
from toptune.reports.html.pictures import data_uri, thumbnail
from toptune.reports.html.rendering import render
from toptune.reports.html.text import card, percent, signed

#: Red, green and blue for a class and against it: the orange and blue of `reports.html.drawing`.
FOR, AGAINST = (213, 94, 0), (0, 114, 178)

#: How many times larger than the score, or than 1, the two sides are where a page warns of it.
CANCELLING = 10

# Of the colour where the map is strongest; the picture is seen through it.
_STRONGEST = 0.75

# Longer side that a picture is enlarged to, at most, pixels.
_LEAST = 360


def heat_map(occlusion: Occlusion, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:  # (h, w, 3)
    """Lay a map over the picture in grey: orange for the class, blue against it.

    Parameters
    ----------
    occlusion : Occlusion
        The map.
    picture : ndarray of uint8, shape (h, w, 3)
        What it was made of, upright.
    """
    height, width, _ = picture.shape
    left, upper, right, lower = occlusion.box
    x, y = round(left * width), round(upper * height)
    size = max(1, round(right * width) - x), max(1, round(lower * height) - y)
    small = Image.fromarray(occlusion.drops.astype(np.float32))
    whole = Image.fromarray(np.zeros((height, width), dtype=np.float32))
    whole.paste(small.resize(size, Image.Resampling.BICUBIC), (x, y))
    values = np.asarray(whole)
    most = float(np.abs(occlusion.drops).max())
    part = np.clip(values / most if most > 0 else values, -1, 1)[..., None]
    grey = picture.mean(axis=2, keepdims=True)
    colour = np.where(part > 0, np.array(FOR), np.array(AGAINST))
    weight = _STRONGEST * np.abs(part)
    out: NDArray[np.uint8] = np.rint(grey * (1 - weight) + colour * weight).astype(np.uint8)
    return out


def explanation_page(
    explanation: Explanation,
    files: Mapping[str, ImageSource],
    *,
    model: str = "",
) -> str:
    """Return an explanation as one HTML page that needs no other file.

    Parameters
    ----------
    explanation : Explanation
        What `TopTuner.explain` returned.
    files : mapping
        Id of a training image to its file, of those that are there; see
        `toptune.images.image_files`.
    model : str, optional
        Name of the model, to be shown.
    """
    support = explanation.support
    named = (*support.supporting, *support.opposing)
    most = max((abs(image.contribution) for image in named), default=1.0)

    def shown(image: TrainingImage) -> dict[str, Any]:
        return {
            "id": UNNAMED if image.id is None else image.id,
            "label": "" if image.label is None else image.label,
            "contribution": signed(image.contribution),
            "similarity": f"{image.similarity:.3f}",
            "width": f"{100 * abs(image.contribution) / most:.1f}",
            "picture": None if image.id is None else thumbnail(files.get(image.id)),
        }

    supporting, opposing = (list(map(shown, s)) for s in (support.supporting, support.opposing))
    picture = _enlarged(explanation.picture)
    drops = explanation.occlusion.drops
    content = {
        "explanation": explanation,
        "support": support,
        "supporting": supporting,
        "opposing": opposing,
        "absent": sum(image["picture"] is None for image in (*supporting, *opposing)),
        "picture": data_uri(picture),
        "map": data_uri(heat_map(explanation.occlusion, picture)),
        "cells": len(drops),
        "most": signed(float(drops.max())),
        "least": signed(float(drops.min())),
        "scale": float(np.abs(drops).max()),
        "cards": _cards(explanation),
        "signed": signed,
        "cancelling": _sides(support)[0] > CANCELLING * max(1.0, abs(explanation.score)),
        "model": model,
    }
    return render("toptune.reports.explanation", "explanation.html.j2", content)


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the pixels of a small picture, so that the map over it is fine enough."""
    times = max(1, _LEAST // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _sides(support: Attribution) -> tuple[float, float]:
    """Sum of all contributions above zero, and of those below."""
    above = sum(image.contribution for image in support.supporting) + support.supporting_rest
    below = sum(image.contribution for image in support.opposing) + support.opposing_rest
    return above, below


def _cards(explanation: Explanation) -> list[dict[str, str]]:
    support = explanation.support
    above, below = _sides(support)
    same = explanation.label == explanation.predicted
    second = "the most probable class" if same else f"more probable: {explanation.predicted}"
    return [
        card(percent(explanation.probability), f"probability of {explanation.label}", second),
        card(
            signed(explanation.score),
            "score",
            "about +1: sure of this class; about -1: sure of another",
        ),
        card(
            signed(above),
            "added by training images",
            f"{support.n_supporting:,} images speak for the class",
        ),
        card(
            signed(below),
            "taken by training images",
            f"{support.n_opposing:,} images speak against it",
        ),
    ]
