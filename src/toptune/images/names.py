"""Names of images and of their groups, when images of several origins come together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from toptune.errors import DataError
from toptune.images.image_set import group_names

#: Names listed in a message.
SHOWN = 3

#: Names of images in memory, which have none of their own.
_NUMBERED = re.compile(r"image-(\d+)")


def concatenated_groups(
    parts: Sequence[NDArray[np.str_] | None],
    ids: Sequence[tuple[str, ...]],
    prefixes: Sequence[str] | None = None,
) -> NDArray[np.str_] | None:
    """Return the groups of all images; None where no origin has any.

    Parameters
    ----------
    parts : sequence
        Groups of the images of each origin, or None.
    ids : sequence
        Names of the images of each origin: one without a group is a group of its own.
    prefixes : sequence of str, optional
        Put before the names of groups, one for each origin.

    Raises
    ------
    DataError
        If all images would be of one group.
    """
    if all(groups is None for groups in parts):
        return None
    names: list[str | None] = []
    for groups, own, mark in zip(parts, ids, prefixes or [""] * len(ids), strict=True):
        names += [None] * len(own) if groups is None else [mark + name for name in groups.tolist()]
    joined = group_names(names, [name for own in ids for name in own])
    check_several_groups(joined)
    return joined


def check_several_groups(groups: NDArray[np.str_] | None) -> None:
    """Raise if all images are of one group."""
    if groups is not None and len(set(groups.tolist())) < 2:
        raise DataError(
            "all images would belong to one group: leave-one-out of whole groups would leave none"
        )


def check_distinct(ids: Sequence[str], what: str) -> None:
    """Raise if names occur several times; `what` is the message's predicate."""
    values, counts = np.unique(np.array(ids, dtype=object), return_counts=True)
    again = values[counts > 1].tolist()
    if again:
        raise DataError(f"{listed(again)} {what}: a name stands for one image")


def listed(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def names_among(ids: str | Iterable[str], known: Sequence[str]) -> set[str]:
    """Return names of training images, one or several, that must be known.

    Raises
    ------
    DataError
        Naming those that are not, and the known ones that are most like them.
    """
    names = {ids} if isinstance(ids, str) else set(ids)
    if strange := [name for name in names if not isinstance(name, str)]:
        raise DataError(f"names of images are text, as in ids_, got {strange[0]!r}")
    if unknown := sorted(names - set(known)):
        alike = _nearest(unknown, known)
        raise DataError(
            f"the model was not trained on {listed(unknown)}"
            + (f", but on {', '.join(alike)}" if alike else "")
            + ": ids_, or toptune forget MODEL --list, has the names of its images"
        )
    return names


def are_numbered(ids: Sequence[str]) -> bool:
    """Return whether all names are those given to images in memory."""
    return all(map(_NUMBERED.fullmatch, ids))


def next_number(ids: Sequence[str], least: int = 0) -> int:
    """Return the number after those of the images in memory among others, `least` at least."""
    return max([least, *(int(m[1]) + 1 for m in map(_NUMBERED.fullmatch, ids) if m)])


def _nearest(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the known name that is most like each of the first names, where one is alike."""
    alike = (difflib.get_close_matches(name, known, n=1) for name in names[:SHOWN])
    return list(dict.fromkeys(name for matches in alike for name in matches))
