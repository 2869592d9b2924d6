"""Why an image was given its label: training images for and against it, and where it matters.

`support` takes a score apart into training images, `occlusion` covers parts of the picture, `page`
shows both.
"""

from toptune.model.explanation.attribution import Attribution, ClassShare, TrainingImage, support_of
from toptune.model.explanation.explain import Explanation, explain_image
from toptune.model.explanation.occlusion import Occlusion, covered, score_drops

__all__ = [
    "Attribution",
    "ClassShare",
    "Explanation",
    "Occlusion",
    "TrainingImage",
    "covered",
    "explain_image",
    "score_drops",
    "support_of",
]
