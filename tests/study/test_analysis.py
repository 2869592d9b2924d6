"""Comparisons of methods: examples computed by hand, properties, and what is not there."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import failed_record, make_record, make_study

from toptune.errors import DataError
from toptune_study.analysis import (
    Cells,
    Column,
    Method,
    curve,
    energy_totals,
    image_differences,
    leave_one_out,
    mean_seconds,
    paired_difference,
    paired_images,
    ranking,
    score_table,
    time_ratio,
    training_seconds,
)
from toptune_study.records import Record

LITE0 = "efficientnet_lite0"
GAUSSIAN = Method(LITE0, "auto", "gaussian")
LINEAR = Method(LITE0, "auto", "linear")
FULL = Method(LITE0, None, "full")


@st.composite
def two_heads(draw: st.DrawFn) -> list[Record]:
    """Records of two heads on a few data sets and seeds, not all of both."""
    sets = draw(st.integers(1, 8))
    scores = st.none() | st.integers(0, 10)
    records = [make_record("first", head, right=5) for head in ("gaussian", "linear")]
    for k in range(sets):
        for seed in range(3):
            for head in ("gaussian", "linear"):
                right = draw(scores)
                if right is not None:
                    records.append(make_record(f"set{k}", head, seed=seed, right=right))
    return records


# ------------------------------------------------------------------------------------ differences


def test_seeds_are_averaged_within_a_data_set_first() -> None:
    records = [
        *(make_record("many", seed=s, right=9) for s in range(3)),
        *(make_record("many", "linear", seed=s, right=8) for s in range(3)),
        make_record("one", right=4),
        make_record("one", "linear", right=7),
        make_record("alone", right=10),
    ]
    found = paired_difference(records, GAUSSIAN, LINEAR)
    assert found.datasets == ("many", "one")
    assert found.differences == pytest.approx([0.1, -0.3])
    assert found.mean == pytest.approx(-0.1)  # over cells it would be 0
    assert (found.wins, found.ties, found.losses) == (1, 0, 1)
    assert (found.cells, found.unpaired, found.failed) == (4, 1, 0)
    assert found.best == ("many", pytest.approx(0.1))
    assert found.worst == ("one", pytest.approx(-0.3))
    assert found.note == "only 2 data sets: no test can reach 5 %, and intervals say little"


def test_only_cells_that_both_have_are_compared() -> None:
    records = [
        make_record("birds", seed=0, right=10),
        make_record("birds", seed=1, right=0),
        make_record("birds", "linear", seed=0, right=9),
        make_record("birds", "linear", seed=2, right=0),
        make_record("birds", "linear", seed=1, size=0.5, right=0),
    ]
    found = paired_difference(records, GAUSSIAN, LINEAR)
    assert (found.mean, found.cells, found.unpaired) == (pytest.approx(0.1), 1, 2)
    assert found.interval is None


@pytest.mark.parametrize("other", [{"n_test": 12}, {"data_sha256": "another"}])
def test_other_test_images_are_no_pair(other: dict[str, Any]) -> None:
    records = [make_record("a"), make_record("a", "linear", **other)]
    with pytest.raises(DataError, match=r"gaussian auto .* and linear auto .* no cell in common"):
        paired_difference(records, GAUSSIAN, LINEAR)
    records += [make_record("b"), make_record("b", "linear")]
    assert paired_difference(records, GAUSSIAN, LINEAR).datasets == ("b",)
    table = score_table(records, methods=[GAUSSIAN, LINEAR], common=True)
    assert table.complete().datasets == ("b",)


@given(records=two_heads())
@settings(deadline=None, max_examples=50)
def test_difference_is_antisymmetric(records: list[Record]) -> None:
    one = paired_difference(records, GAUSSIAN, LINEAR)
    other = paired_difference(records, LINEAR, GAUSSIAN)
    assert one.mean == pytest.approx(-other.mean, abs=1e-15)
    assert one.hodges_lehmann == pytest.approx(-other.hodges_lehmann, abs=1e-15)
    assert one.p_value == pytest.approx(other.p_value)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    if one.interval is not None and other.interval is not None:
        assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=1e-12)


@given(records=two_heads(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_order_and_repeated_seeds_change_nothing(records: list[Record], seed: int) -> None:
    expected = paired_difference(records, GAUSSIAN, LINEAR)
    shuffled = records + records[: len(records) // 2]  # some records twice
    random.Random(seed).shuffle(shuffled)
    found = paired_difference(shuffled, GAUSSIAN, LINEAR)
    assert repr(found) == repr(expected)
    # The same results under other seeds leave the means as they are.
    again = [row | {"id": row["id"] + "+", "seed": row["seed"] + 3} for row in records]
    doubled = paired_difference([*records, *again], GAUSSIAN, LINEAR)
    assert doubled.differences == pytest.approx(expected.differences, abs=1e-15)
    assert doubled.interval == pytest.approx(expected.interval, abs=1e-12)
    assert doubled.cells == 2 * expected.cells


def test_records_may_be_a_mapping() -> None:
    records = make_study()
    by_id = {row["id"]: row for row in records}
    assert repr(paired_difference(by_id, GAUSSIAN, LINEAR)) == repr(
        paired_difference(iter(records), GAUSSIAN, LINEAR)
    )


def test_less_log_loss_wins() -> None:
    records = [make_record(right=9), make_record(head="linear", right=5)]
    found = paired_difference(records, GAUSSIAN, LINEAR, metric="log_loss")
    assert found.mean == pytest.approx(-0.4)
    assert (found.wins, found.losses) == (1, 0)


def test_failed_records_are_left_out_and_counted() -> None:
    records = [
        make_record("a"),
        make_record("a", "linear"),
        make_record("b"),
        failed_record(dataset="b", head="linear"),
        failed_record(dataset="c", head="svc"),
    ]
    found = paired_difference(records, GAUSSIAN, LINEAR)
    assert (found.datasets, found.failed) == (("a",), 1)
    with pytest.raises(DataError, match="all 1 cells of svc auto efficientnet_lite0 at size 1 fa"):
        paired_difference(records, GAUSSIAN, Method(LITE0, "auto", "svc"))


def test_a_missing_method_is_named_with_those_there_are() -> None:
    with pytest.raises(
        DataError, match=r"no records of full efficientnet_lite0 at size 1; there are gaussian auto"
    ):
        paired_difference([make_record()], GAUSSIAN, FULL)
    with pytest.raises(DataError, match=r"no records of gaussian auto .* there are none"):
        paired_difference([], GAUSSIAN, FULL)
    with pytest.raises(DataError, match="no log_loss in common"):
        paired_difference(
            [make_record(log_loss=None), make_record(head="linear")],
            GAUSSIAN,
            LINEAR,
            metric="log_loss",
        )


# ----------------------------------------------------------------------------------------- images


def test_two_records_over_their_test_images() -> None:
    one, two = make_record(right=10), make_record(head="linear", right=7)
    found = paired_images(one, two)
    assert found.difference == pytest.approx(0.3)
    assert 0 <= found.low <= 0.3 <= found.high <= 0.6
    assert found.p_value == pytest.approx(2 / 2**3)  # three images differ
    assert image_differences([one, two], GAUSSIAN, LINEAR) == {"birds": found}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_record("fish", "linear"), "birds.*fish.* not tested on the same images"),
        (make_record(head="linear", n_test=12), "not tested on the same images"),
        (failed_record(head="linear"), "of birds failed: MemoryError"),
    ],
)
def test_records_that_cannot_be_compared(other: Record, message: str) -> None:
    with pytest.raises(DataError, match=message):
        paired_images(make_record(), other)


# --------------------------------------------------------------------------------- tables and ranks


def test_score_table() -> None:
    records = [
        make_record("a", seed=0, right=6),
        make_record("a", seed=1, right=8),
        make_record("a", "linear", right=5),
        make_record("b", right=10),
        make_record("b", size=0.5, right=1),
        failed_record(dataset="b", head="linear"),
    ]
    table = score_table(records)
    assert table.datasets == ("a", "b")
    assert table.methods == (GAUSSIAN, LINEAR)
    np.testing.assert_allclose(table.scores, [[0.7, 0.5], [1.0, np.nan]])
    assert table.seeds.tolist() == [[2, 1], [1, 0]]
    assert table.failed == 1
    common = score_table(records, methods=[GAUSSIAN, LINEAR], common=True)
    np.testing.assert_allclose(common.scores, [[0.6, 0.5], [1.0, np.nan]])
    assert common.seeds.tolist() == [[1, 1], [1, 0]]
    assert common.complete().datasets == ("a",)
    with pytest.raises(DataError, match="no records"):
        score_table([])


def test_ranking_of_three_heads() -> None:
    records = [
        make_record(f"set{k}", head, right=right)
        for k in range(8)
        for head, right in (("gaussian", 9), ("linear", 8 + (k == 0)), ("svc", 3))
    ]
    records.append(make_record("incomplete"))
    found = ranking(score_table(records, metric="accuracy"))
    assert [column.method.head for column in found.columns] == ["gaussian", "linear", "svc"]
    assert found.ranks == pytest.approx([8.5 / 8, 15.5 / 8, 3.0])
    assert len(found.datasets) == 8
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(12 / 48), rel=1e-3)
    assert found.groups == [(0, 1), (1, 2)]
    assert found.p_value < 0.001
    worse = ranking(score_table(records, metric="log_loss"))
    assert [column.method.head for column in worse.columns] == ["gaussian", "linear", "svc"]


def test_what_cannot_be_ranked() -> None:
    two = [make_record(), make_record(head="linear")]
    with pytest.raises(DataError, match="three methods, got 2"):
        ranking(score_table(two))
    with pytest.raises(DataError, match="no data set has a score of every method"):
        ranking(score_table([*two, make_record("fish", "svc")]))


def test_curves_are_over_the_same_data_sets_at_every_point() -> None:
    records = [
        make_record("a", size=0.5, right=4),
        make_record("a", size=1.0, right=8),
        make_record("b", size=1.0, right=0),  # without a part it is in no point
        make_record("a", backbone="efficientnet_lite1", right=9),
    ]
    sizes = [[Column(GAUSSIAN, 0.5), Column(GAUSSIAN, 1.0)]]
    found = curve(records, sizes)
    assert found.datasets == ("a",)
    assert found.means[0] == pytest.approx([0.4, 0.8])
    lite1 = Method("efficientnet_lite1", "auto", "gaussian")
    assert curve(records, [[Column(GAUSSIAN), Column(lite1)]]).means[0] == pytest.approx([0.8, 0.9])
    with pytest.raises(DataError, match="no records of linear"):
        curve(records, [[Column(LINEAR)]])
    with pytest.raises(DataError, match="no data set has all points"):
        curve(records[:1] + records[2:3], sizes)


def test_leave_one_out_against_test_accuracy() -> None:
    records = [
        make_record("a", seed=0, right=5, loo_accuracy=0.6),
        make_record("a", seed=1, right=5, loo_accuracy=0.4),
        make_record("b", right=5, loo_accuracy=0.8),
    ]
    found = leave_one_out(records, GAUSSIAN)
    assert found.differences == pytest.approx([0.0, 0.3])
    assert found.bias == pytest.approx(0.15)
    assert found.mean_absolute == pytest.approx(0.2)  # seeds do not cancel
    with pytest.raises(DataError, match="no leave-one-out"):
        leave_one_out([make_record(head="svc")], Method(LITE0, "auto", "svc"))


# ------------------------------------------------------------------------------------------- costs


def full(dataset: str, fit: Any, **other: Any) -> Record:
    return make_record(dataset, "full", layers=None, seconds={"decode": 1.0, "fit": fit}, **other)


def test_ratio_of_training_times() -> None:
    records = [
        make_record("a"),  # 4 seconds
        full("a", 7.0),
        make_record("b", seconds={"decode_extract": 1.0, "select": 0.5, "fit": 0.5}),
        full("b", 15.0),
        make_record("c", seconds={"fit": 1.0}),
        full("c", 9.0),
        make_record("d"),
        full("d", float("nan")),
        make_record("e"),
        full("e", 9.0, threads=2),
        make_record("f"),
        full("f", 9.0, processor="Another"),
    ]
    found = time_ratio(records, FULL, GAUSSIAN)
    assert found.datasets == ("a", "b")
    assert found.ratios == pytest.approx([2.0, 8.0])
    assert found.geometric_mean == pytest.approx(4.0)
    assert found.quartiles == pytest.approx((3.5, 5.0, 6.5))
    assert found.least == ("a", pytest.approx(2.0))
    assert found.largest == ("b", pytest.approx(8.0))
    assert (found.cells, found.left_out, found.other_machine) == (2, 2, 2)
    assert found.interval is not None
    assert 2.0 - 1e-9 <= found.interval[0] <= 4.0 <= found.interval[1] <= 8.0 + 1e-9
    assert found.slow_seconds == pytest.approx([8.0, 16.0])
    with pytest.raises(DataError, match="1 pairs without times, 0 on different"):
        time_ratio(records[4:6], FULL, GAUSSIAN)


@pytest.mark.parametrize(
    "seconds",
    [None, {}, {"fit": None, "decode_extract": 1.0}, {"fit": 1.0, "decode_extract": float("inf")}],
)
def test_unknown_times(seconds: Any) -> None:
    row = make_record() | {"seconds": seconds}
    assert training_seconds(row) is None
    assert mean_seconds([row], GAUSSIAN) == {}


def test_mean_seconds_are_geometric() -> None:
    records = [
        make_record(seed=s, seconds={"decode_extract": 0.5, "fit": fit})
        for s, fit in enumerate((0.5, 3.5))
    ]
    assert mean_seconds(records, GAUSSIAN) == {"birds": pytest.approx(2.0)}
    slower = make_record("cats", seconds={"decode_extract": 5.0, "fit": 5.0}, threads=2)
    assert mean_seconds([*records, slower], GAUSSIAN) == {"birds": pytest.approx(2.0)}


def test_energy_is_summed_and_what_is_unknown_counted() -> None:
    records = [
        make_record(energy_kwh=0.5),
        make_record(seed=1, energy_kwh=None),
        make_record(size=0.5, energy_kwh=0.25),
        make_record(head="linear"),
    ]
    found = energy_totals(records)
    assert (found[GAUSSIAN].kwh, found[GAUSSIAN].known, found[GAUSSIAN].cells) == (0.75, 2, 3)
    assert (found[LINEAR].kwh, found[LINEAR].known) == (0.0, 0)


# ------------------------------------------------------------------------------------------- other


def test_names_of_methods() -> None:
    tuned = Method.of(make_record(head="full", layers=None, settings={"epochs": 3, "ema": True}))
    assert tuned.name == "full efficientnet_lite0 ema=True epochs=3"
    assert (GAUSSIAN.short, tuned.short) == ("gaussian auto", "full")
    assert Cells([make_record(), make_record(size=0.5)]).sizes(GAUSSIAN) == [0.5, 1.0]


def test_analysis_needs_no_torch() -> None:
    code = "import sys, toptune_study.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
