"""What labels are: names of classes, numbers, or sets of names.

Folders, manifests and files give text, values in memory keep their type, and a set of names is text
in both cases. Whether "0.33" is the name of a class or a number is known only where the labels come
from: the name of a folder is a name; a column of a manifest, or values in memory, may be numbers or
sets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence, Set
from typing import Literal, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError

LabelKind: TypeAlias = Literal["class", "number", "set"]
"""Labels are names of classes, numbers, or sets of names."""

LABEL_KINDS: tuple[LabelKind, ...] = ("class", "number", "set")

#: Between the names of a set; alone it is the empty set.
SEPARATOR = ";"

# Narrower than float(): no "nan", no "1_000".
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def kind_of_values(values: Sequence[object]) -> LabelKind:
    """Infer the kind of labels in memory.

    Parameters
    ----------
    values : sequence
        One label per image.

    Returns
    -------
    LabelKind
        "set" if one is a collection or a text with a semicolon; "number" if all are numbers and
        one of them is not whole; else "class", such as integers, and text however it looks.

    Examples
    --------
    >>> kind_of_values([0.0, 0.33, 1.0]), kind_of_values([0, 1]), kind_of_values(["0.0", "0.33"])
    ('number', 'class', 'class')
    >>> kind_of_values([["scratch", "dent"], []]), kind_of_values(["scratch;dent", "dent"])
    ('set', 'set')
    """
    if any(is_collection(v) or (isinstance(v, str) and SEPARATOR in v) for v in values):
        return "set"
    numbers = [v for v in values if _is_number(v)]
    broken = any(not float(v).is_integer() for v in numbers)  # type: ignore[arg-type]
    return "number" if broken and len(numbers) == len(values) else "class"


def kind_of_column(texts: Sequence[str]) -> LabelKind:
    """Infer the kind of the labels of a manifest, which are text.

    Examples
    --------
    >>> kind_of_column(["0", "0.33", "1e-3"]), kind_of_column(["007", "12"])
    ('number', 'class')
    >>> kind_of_column(["0.33", "poly"]), kind_of_column(["mono;defect", "poly"])
    ('class', 'set')
    """
    if any(SEPARATOR in text for text in texts):
        return "set"
    numbers = all(_NUMBER.fullmatch(text.strip()) for text in texts)
    broken = numbers and any(not float(text).is_integer() for text in texts)
    return "number" if broken else "class"


def is_collection(value: object) -> TypeGuard[Collection[object]]:
    """Return whether a label is a list, a tuple or a set of names."""
    return isinstance(value, list | tuple | Set)


def set_text(names: Iterable[object]) -> str:
    """Write a set of names as text.

    Raises
    ------
    DataError
        If a name is no text, is empty, or has a semicolon in it.

    Examples
    --------
    >>> set_text(["scratch", "dent"]), set_text([])
    ('dent;scratch', ';')
    """
    texts = set()
    for name in names:  # numbers are refused: a list of 0 and 1 is a row of an indicator matrix
        if not isinstance(name, str) or not name.strip() or SEPARATOR in name:
            raise DataError(
                f"a list of labels must hold names without {SEPARATOR!r}, as text; got {name!r}"
            )
        texts.add(name.strip())
    return SEPARATOR.join(sorted(texts)) or SEPARATOR


def as_text(labels: Iterable[object]) -> NDArray[np.str_]:  # (n,)
    """Return labels of any type as text, which is how files and reports hold them.

    Examples
    --------
    >>> as_text(np.array([7, 12])).tolist()
    ['7', '12']
    """
    return np.array([str(label) for label in labels], dtype=np.str_)


def set_of(text: str) -> frozenset[str]:
    """Read a set of names from text.

    Examples
    --------
    >>> sorted(set_of("scratch; dent")), sorted(set_of(";"))
    (['dent', 'scratch'], [])
    """
    return frozenset(name.strip() for name in text.split(SEPARATOR)) - {""}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
