"""Groups of near-duplicate images, from the features that a network gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toptune.evaluation.leakage import near_duplicates
from toptune.features import Features
from toptune.features.taps import LAST
from toptune.kernel.duplicates import joined_groups

#: Value of `groups` that has them found from the features.
NEAR_DUPLICATES = "near-duplicates"


def with_near_duplicates(features: Features) -> Features:
    """Return the features with groups of near-duplicates, joined with the groups there are.

    What counts is the network's own pooled output, where it is among the features.
    """
    classes = features.labels if features.label_kind == "class" else None
    codes = near_duplicates(features.X, features.groups, classes, layer=LAST)
    if features.image_groups is not None:
        codes = joined_groups(codes, features.image_groups)
    # No group that somebody names later has such a name by accident.
    names = np.char.add("near-duplicates ", codes.astype(np.str_))
    return replace(features, image_groups=names)
