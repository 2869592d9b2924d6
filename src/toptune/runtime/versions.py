"""Versions of what shapes a model; they are kept in model files and benchmark results."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = ("toptune", "torch", "timm", "openvino", "scikit-learn", "numpy", "pillow")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a model."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
