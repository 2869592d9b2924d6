"""Groups of near-duplicates that hold what they should not, against a loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from toptune.evaluation.near_duplicates import mixed_groups, near_duplicates
from toptune.features import Features
from toptune.features.taps import LAST


@given(rows=st.lists(st.tuples(st.integers(0, 6), st.sampled_from("xyz")), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_mixed_groups_any_codes_equals_loop(rows: list[tuple[int, str]]) -> None:
    codes = np.array([code for code, _ in rows])
    values = [value for _, value in rows]
    expected = []
    for code in set(codes.tolist()):
        members = [i for i, (other, _) in enumerate(rows) if other == code]
        if len({values[i] for i in members}) > 1:
            expected.append(members)
    found = mixed_groups(codes, values)
    assert sorted(rows.tolist() for rows in found) == sorted(expected)
    sizes = [len(rows) for rows in found]
    assert sizes == sorted(sizes, reverse=True)


def test_near_duplicates_layer_decides() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 20)).astype(np.float16)
    X[3, 10:] = X[7, 10:]  # twins in the second layer alone
    ids = tuple(map(str, range(12)))
    for layers, twins in (
        ({"early": 10, LAST: 10}, True),
        ({LAST: 10, "late": 10}, False),
        ({"early": 10, "late": 10}, False),
    ):
        codes = near_duplicates(Features(X, ids, None, layers, {}))
        assert (codes[3] == codes[7]) == twins
        assert len(np.unique(codes)) == 12 - twins
