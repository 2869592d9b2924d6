"""Image -> pixels -> features -> score, and back: what the score is made of, and from where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError
from toptune.features import Backbone, Engine
from toptune.features.extract import pixel_features
from toptune.images import ImageSet, UnreadableImage, decode, decode_within, read_source
from toptune.kernel import KernelClassifier
from toptune.model.explanation.attribution import Attribution, support_of
from toptune.model.explanation.occlusion import Occlusion, covered, score_drops, seen_part
from toptune.model.fitted_model import FittedModel

#: Longer side of the picture that is kept for a page, pixels.
PICTURE = 720


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an image has the score of a class that it has.

    Attributes
    ----------
    id : str
        Name of the image.
    label : str or number
        The class that is explained.
    predicted : str or number
        The most probable class.
    probability : float
        Of `label`.
    score : float
        Of `label`: about +1 where the model is sure of it, about -1 where it is sure of another.
    support : Attribution
        Training images for and against the class; their contributions add up to the score.
    occlusion : Occlusion
        What covering parts of the image takes from the score.
    n_images, n_centers : int
        Number of training images, and of those that can have a part in a score: the head's
        centers. All images are centers up to about three thousand.
    picture : ndarray of uint8, shape (h, w, 3)
        The image, upright and perhaps smaller.
    """

    id: str
    label: Any
    predicted: Any
    probability: float
    score: float
    support: Attribution
    occlusion: Occlusion
    n_images: int
    n_centers: int
    picture: NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON; not the picture."""
        support = asdict(self.support)
        del support["score"]
        return {
            "id": self.id,
            "label": self.label,
            "predicted": self.predicted,
            "probability": self.probability,
            "score": self.score,
            **support,
            "occlusion": {"drops": self.occlusion.drops.tolist(), "box": list(self.occlusion.box)},
            "n_images": self.n_images,
            "n_centers": self.n_centers,
        }


def explain_image(
    image: ImageSet,
    *,
    backbone: Backbone,
    engine: Engine,
    model: FittedModel,
    label: Any = None,
    n_images: int = 6,
    cells: int = 8,
) -> Explanation:
    """Explain the score of one image.

    Parameters
    ----------
    image : ImageSet
        One image.
    backbone, engine
        Network of the model.
    model : FittedModel
        Of classes.
    label : optional
        Class to explain; by default the most probable one.
    n_images : int, default=6
        Training images to name on each side.
    cells : int, default=8
        Cells along each side of the grid of the occlusion map.

    Returns
    -------
    Explanation

    Raises
    ------
    DataError
        If there is not exactly one image, it cannot be read, the model does not know the label, or
        `n_images` or `cells` is out of its range.
    """
    if len(image) != 1:
        raise DataError(f"one image can be explained at a time, got {len(image)}")
    try:
        source = read_source(image.sources[0])
        pixels = decode(source, backbone.preprocessing.geometry)
        picture = decode_within(source, PICTURE)
    except UnreadableImage as error:
        raise DataError(f"{image.ids[0]}: {error.reason}") from error
    if n_images < 0:
        raise DataError(f"n_images must be >= 0, got {n_images}")
    try:
        stack = covered(pixels, cells)
    except ValueError as error:
        raise DataError(str(error)) from error
    X = pixel_features(stack, backbone, engine)
    head: KernelClassifier = model.head
    terms = head.score_terms(model.rows(X))
    scores = terms.scores.cpu().numpy()  # (1 + cells^2, c)
    proba = head.probabilities(scores[:1])[0]
    best = int(proba.argmax())
    column = best if label is None else _column(head.classes_, label)
    centers = head.center_indices_.tolist()  # < 0: of a forgotten image, or of another model
    labels = head.classes_.tolist()
    support = support_of(
        terms.of(0, column).cpu().numpy(),
        terms.similarity[0].cpu().numpy(),
        [None if j < 0 else model.ids[j] for j in centers],
        [None if j < 0 else labels[model.codes[j]] for j in centers],
        n_images=n_images,
    )
    box = seen_part(backbone.preprocessing.geometry, *picture.shape[:2])
    return Explanation(
        id=image.ids[0],
        label=labels[column],
        predicted=labels[best],
        probability=float(proba[column]),
        score=float(scores[0, column]),
        support=support,
        occlusion=Occlusion(score_drops(scores[:, column]), box),
        n_images=len(model.ids),
        n_centers=len(centers),
        picture=picture,
    )


def _column(classes: NDArray[Any], label: Any) -> int:
    """Position of a class, which may be given as text."""
    names = [str(name) for name in classes.tolist()]
    if str(label) not in names:
        raise DataError(f"the model has no class {str(label)!r}: it knows {', '.join(names)}")
    return names.index(str(label))
