"""Why an image was given its label: training images for and against it, and where it matters.

`support` takes a score apart into training images, `occlusion` covers parts of the picture, `page`
shows both.
"""

from toptune.explain.explaining import Explanation, explain_image
from toptune.explain.occlusion import Occlusion, covered, score_drops
from toptune.explain.page import explanation_page
from toptune.explain.support import ClassShare, Support, TrainingImage, support_of

__all__ = [
    "ClassShare",
    "Explanation",
    "Occlusion",
    "Support",
    "TrainingImage",
    "covered",
    "explain_image",
    "explanation_page",
    "score_drops",
    "support_of",
]
