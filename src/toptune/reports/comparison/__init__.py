"""Top-tuning and fine-tuning on the same images: what each costs and gains.

    images -> training and test part -> each method, timed -> difference, learning curve, verdict

Both see the same training images and are compared on the same test images, which no choice depends
on. Nothing is read from the cache of features, so that times are those of a first run.
"""

from toptune.reports.comparison.compute import compare
from toptune.reports.comparison.page import comparison_page
from toptune.reports.comparison.result import Comparison, FineTuningPlan, MethodOutcome
from toptune.reports.learning_curve import CurvePoint, LearningCurve

__all__ = ["Comparison", "CurvePoint", "FineTuningPlan", "LearningCurve", "MethodOutcome"]
__all__ += ["compare", "comparison_page"]
