"""The kernel head: feature arrays in, labels and probabilities out. It never sees an image."""

from toptune.kernel.changing import ChangeableClassifier
from toptune.kernel.estimators import KernelClassifier, KernelRegressor
from toptune.kernel.kernels import KERNELS
from toptune.kernel.normalization import FeatureNormalizer
from toptune.kernel.operators import Rows
from toptune.kernel.selection.planning import MemoryBudgetError
from toptune.kernel.selection.search import Candidate
from toptune.kernel.sharing import SharingClassifier
from toptune.kernel.terms import ScoreTerms

__all__ = [
    "KERNELS",
    "Candidate",
    "ChangeableClassifier",
    "FeatureNormalizer",
    "KernelClassifier",
    "KernelRegressor",
    "MemoryBudgetError",
    "Rows",
    "ScoreTerms",
    "SharingClassifier",
]
