"""Results as plain numbers, strings, lists and dictionaries, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, each as `plain` returns it.

    Examples
    --------
    >>> from dataclasses import make_dataclass
    >>> plain_fields(make_dataclass("Point", ["x"])(np.array([1.0, 2.0])))
    {'x': [1.0, 2.0]}
    """
    return {field.name: plain(getattr(record, field.name)) for field in fields(record)}


def plain(value: Any) -> Any:
    """Return a value with only plain ones in it; keys are text, arrays and tuples are lists.

    A dataclass is what its method `to_dict` returns, if it has one, else its fields.
    """
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return plain_fields(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
