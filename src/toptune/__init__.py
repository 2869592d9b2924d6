"""Top-tuning: a frozen network turns images into features once, a fast kernel head learns on them.

Importing this package does no work: the public names are loaded on first use, so that
``import toptune`` needs neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from toptune.runtime.deprecation import serve_old_modules

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "FeatureExtractor",
    "Features",
    "FineTuner",
    "KernelClassifier",
    "TopTuner",
    "ToptuneError",
    "__version__",
]

_HOME = {
    "DataError": "toptune.errors",
    "FeatureExtractor": "toptune.features.extractor",
    "Features": "toptune.features",
    "FineTuner": "toptune.finetuning.estimator",
    "KernelClassifier": "toptune.kernel",
    "TopTuner": "toptune.tuner",
    "ToptuneError": "toptune.errors",
}

if TYPE_CHECKING:
    from toptune.errors import DataError, ToptuneError
    from toptune.features import FeatureExtractor, Features
    from toptune.finetuning.estimator import FineTuner
    from toptune.kernel import KernelClassifier
    from toptune.tuner import TopTuner


serve_old_modules()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'toptune' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
