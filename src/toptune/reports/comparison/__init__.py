"""Top-tuning and fine-tuning on the same images: what each costs and gains.

    images -> training and test part -> each method, timed -> difference, learning curve, verdict

Both see the same training images and are compared on the same test images, which nothing is chosen
on. Nothing is read from the cache of features, so that times are those of a first run.
"""

from toptune.reports.comparison.compute import compare
from toptune.reports.comparison.result import (
    Comparison,
    Curve,
    CurvePoint,
    FineTuningPlan,
    MethodOutcome,
)

__all__ = ["Comparison", "Curve", "CurvePoint", "FineTuningPlan", "MethodOutcome", "compare"]
