"""Comparisons of methods: examples computed by hand, properties, and what is not there."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_records import failed_record, make_record, make_study

from toptune.errors import DataError
from toptune_study.analysis import (
    compare_methods,
    energy_totals,
    image_differences,
    leave_one_out_bias,
    mean_curves,
    mean_seconds,
    rank_methods,
    time_ratio,
)
from toptune_study.frames import (
    Method,
    has_cells,
    methods_of,
    records_frame,
    score_table,
    training_seconds,
)
from toptune_study.records import Record

LITE0 = "efficientnet_lite0"
GAUSSIAN = Method(LITE0, "auto", "gaussian")
LINEAR = Method(LITE0, "auto", "linear")
SVC = Method(LITE0, "auto", "svc")
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


def test_compare_methods_several_seeds_averages_within_a_data_set_first() -> None:
    records = [
        *(make_record("many", seed=s, right=9) for s in range(3)),
        *(make_record("many", "linear", seed=s, right=8) for s in range(3)),
        make_record("one", right=4),
        make_record("one", "linear", right=7),
        make_record("alone", right=10),
    ]
    found = compare_methods(records, GAUSSIAN, LINEAR)
    assert found.differences.to_dict() == pytest.approx({"many": 0.1, "one": -0.3})
    assert found.mean == pytest.approx(-0.1)  # over cells it would be 0
    assert (found.wins, found.ties, found.losses) == (1, 0, 1)
    assert (found.cells, found.unpaired, found.failed) == (4, 1, 0)
    assert found.best == ("many", pytest.approx(0.1))
    assert found.worst == ("one", pytest.approx(-0.3))
    assert "only 2 data sets" in found.note


def test_compare_methods_cells_of_one_method_alone_are_left_out() -> None:
    records = [
        make_record("birds", seed=0, right=10),
        make_record("birds", seed=1, right=0),
        make_record("birds", "linear", seed=0, right=9),
        make_record("birds", "linear", seed=2, right=0),
        make_record("birds", "linear", seed=1, size=0.5, right=0),
    ]
    found = compare_methods(records, GAUSSIAN, LINEAR)
    assert (found.mean, found.cells, found.unpaired) == (pytest.approx(0.1), 1, 2)
    assert found.interval is None


@pytest.mark.parametrize("other", [{"n_test": 12}, {"data_sha256": "another"}])
def test_compare_methods_other_test_images_are_no_pair(other: dict[str, Any]) -> None:
    records = [make_record("a"), make_record("a", "linear", **other)]
    with pytest.raises(DataError, match=r"gaussian auto .* and linear auto .* no cell in common"):
        compare_methods(records, GAUSSIAN, LINEAR)
    records += [make_record("b"), make_record("b", "linear")]
    assert list(compare_methods(records, GAUSSIAN, LINEAR).differences.index) == ["b"]
    assert list(score_table(records, [GAUSSIAN, LINEAR]).scores.dropna().index) == ["b"]


@given(records=two_heads())
@settings(deadline=None, max_examples=50)
def test_compare_methods_exchanged_is_antisymmetric(records: list[Record]) -> None:
    one = compare_methods(records, GAUSSIAN, LINEAR)
    other = compare_methods(records, LINEAR, GAUSSIAN)
    assert one.mean == pytest.approx(-other.mean, abs=1e-15)
    assert one.hodges_lehmann == pytest.approx(-other.hodges_lehmann, abs=1e-15)
    assert one.p_value == pytest.approx(other.p_value)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    if one.interval is not None and other.interval is not None:
        assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=1e-11)


@given(records=two_heads(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_compare_methods_other_order_and_repeated_records_change_nothing(
    records: list[Record], seed: int
) -> None:
    expected = compare_methods(records, GAUSSIAN, LINEAR)
    shuffled = records + records[: len(records) // 2]  # some records twice
    random.Random(seed).shuffle(shuffled)
    assert repr(compare_methods(shuffled, GAUSSIAN, LINEAR)) == repr(expected)
    # The same results under other seeds leave the means as they are.
    again = [row | {"id": row["id"] + "+", "seed": row["seed"] + 3} for row in records]
    doubled = compare_methods([*records, *again], GAUSSIAN, LINEAR)
    pd.testing.assert_series_equal(doubled.differences, expected.differences, atol=1e-15)
    assert doubled.interval == pytest.approx(expected.interval, abs=1e-11)
    assert doubled.cells == 2 * expected.cells


def test_records_frame_mapping_or_iterator_are_the_same() -> None:
    records = make_study()
    by_id = records_frame({row["id"]: row for row in records})
    pd.testing.assert_frame_equal(by_id, records_frame(iter(records)))


def test_compare_methods_log_loss_lower_wins() -> None:
    records = [make_record(right=9), make_record(head="linear", right=5)]
    found = compare_methods(records, GAUSSIAN, LINEAR, metric="log_loss")
    assert found.mean == pytest.approx(-0.4)
    assert (found.wins, found.losses) == (1, 0)


def test_compare_methods_failed_records_are_left_out_and_counted() -> None:
    records = [
        make_record("a"),
        make_record("a", "linear"),
        make_record("b"),
        failed_record(dataset="b", head="linear"),
        failed_record(dataset="c", head="svc"),
    ]
    found = compare_methods(records, GAUSSIAN, LINEAR)
    assert (list(found.differences.index), found.failed) == (["a"], 1)
    with pytest.raises(DataError, match="all 1 cells of svc auto efficientnet_lite0"):
        compare_methods(records, GAUSSIAN, SVC)


def test_compare_methods_missing_method_is_named_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"full efficientnet_lite0 at size 1; .* gaussian auto"):
        compare_methods([make_record()], GAUSSIAN, FULL)
    with pytest.raises(DataError, match=r"gaussian auto .* there are none"):
        compare_methods([], GAUSSIAN, FULL)
    without = [make_record(log_loss=None), make_record(head="linear")]
    with pytest.raises(DataError, match="no log_loss in common"):
        compare_methods(without, GAUSSIAN, LINEAR, metric="log_loss")


def test_image_differences_three_images_differ_is_the_exact_test() -> None:
    records = [make_record(right=10), make_record(head="linear", right=7)]
    (found,) = image_differences(records, GAUSSIAN, LINEAR).values()
    assert found.difference == pytest.approx(0.3)
    assert 0 <= found.low <= 0.3 <= found.high <= 0.6
    assert found.p_value == pytest.approx(2 / 2**3)


def test_image_differences_groups_are_resampled_as_wholes() -> None:
    grouped = {"groups": [0] * 5 + [1] * 5}
    records = [make_record(right=10, **grouped), make_record(head="linear", right=7, **grouped)]
    (found,) = image_differences(records, GAUSSIAN, LINEAR).values()
    assert found.p_value >= 2 / 2**2  # of two groups


# --------------------------------------------------------------------------------- tables and ranks


def test_score_table_shared_seeds_are_averaged() -> None:
    records = [
        make_record("a", seed=0, right=6),
        make_record("a", seed=1, right=8),
        make_record("a", "linear", right=5),
        make_record("b", right=10),
        make_record("b", size=0.5, right=1),
        failed_record(dataset="b", head="linear"),
    ]
    table = score_table(records)
    assert table.scores.index.tolist() == ["a", "b"]
    assert table.scores.columns.tolist() == [GAUSSIAN, LINEAR]
    np.testing.assert_allclose(table.scores, [[0.6, 0.5], [1.0, np.nan]])
    assert table.seeds.to_numpy().tolist() == [[1, 1], [1, 0]]
    np.testing.assert_allclose(score_table(records, [GAUSSIAN]).scores, [[0.7], [1.0]])
    with pytest.raises(DataError, match="no records"):
        score_table([])


def test_rank_methods_three_heads_are_ranked_by_hand() -> None:
    records = [
        make_record(f"set{k}", head, right=right)
        for k in range(8)
        for head, right in (("gaussian", 9), ("linear", 8 + (k == 0)), ("svc", 3))
    ]
    records.append(make_record("incomplete"))
    found = rank_methods(score_table(records).scores)
    assert found.ranks.index.tolist() == [GAUSSIAN, LINEAR, SVC]
    assert found.ranks.tolist() == pytest.approx([8.5 / 8, 15.5 / 8, 3.0])
    assert len(found.scores) == 8
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(12 / 48), rel=1e-3)
    assert found.p_value < 0.001


def test_rank_methods_too_few_are_refused() -> None:
    two = [make_record(), make_record(head="linear")]
    with pytest.raises(DataError, match="three methods, got 2"):
        rank_methods(score_table(two).scores)
    with pytest.raises(DataError, match="no data set has a score of every method"):
        rank_methods(score_table([*two, make_record("fish", "svc")]).scores)


def test_mean_curves_incomplete_data_sets_are_in_no_point() -> None:
    records = [
        make_record("a", size=0.5, right=4),
        make_record("a", size=1.0, right=8),
        make_record("b", size=1.0, right=0),  # without a part of the training images
    ]
    found = mean_curves(
        {size: score_table(records, [GAUSSIAN], size=size).scores for size in (0.5, 1)}
    )
    assert found.n_datasets == 1
    assert found.table.loc[GAUSSIAN].to_dict() == pytest.approx({0.5: 0.4, 1: 0.8})
    with pytest.raises(DataError, match="no data set has all points"):
        parts = (records[:1], records[2:])
        mean_curves({k: score_table(part, size=(0.5, 1)[k]).scores for k, part in enumerate(parts)})


def test_leave_one_out_bias_seeds_do_not_cancel() -> None:
    records = [
        make_record("a", seed=0, right=5, loo_accuracy=0.6),
        make_record("a", seed=1, right=5, loo_accuracy=0.4),
        make_record("b", right=5, loo_accuracy=0.8),
    ]
    found = leave_one_out_bias(records, GAUSSIAN)
    assert found.differences.to_dict() == pytest.approx({"a": 0.0, "b": 0.3})
    assert found.bias == pytest.approx(0.15)
    assert found.mean_absolute == pytest.approx(0.2)
    with pytest.raises(DataError, match=r"svc auto .* no leave-one-out"):
        leave_one_out_bias([make_record(head="svc")], SVC)


# ------------------------------------------------------------------------------------------- costs


def full(dataset: str, fit: Any, **other: Any) -> Record:
    return make_record(dataset, "full", layers=None, seconds={"decode": 1.0, "fit": fit}, **other)


def test_time_ratio_comparable_cells_are_divided() -> None:
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
    assert found.seconds["ratio"].to_dict() == pytest.approx({"a": 2.0, "b": 8.0})
    assert found.seconds["slow"].tolist() == pytest.approx([8.0, 16.0])
    assert found.geometric_mean == pytest.approx(4.0)
    assert found.quartiles == pytest.approx((3.5, 5.0, 6.5))
    assert (found.cells, found.left_out, found.other_machine) == (2, 2, 2)
    assert found.interval is not None
    assert 2.0 - 1e-9 <= found.interval[0] <= 4.0 <= found.interval[1] <= 8.0 + 1e-9
    with pytest.raises(DataError, match="1 pairs without times, 0 on different"):
        time_ratio(records[4:6], FULL, GAUSSIAN)


@pytest.mark.parametrize(
    "seconds",
    [None, {}, {"fit": None, "decode_extract": 1.0}, {"fit": 1.0, "decode_extract": float("inf")}],
)
def test_training_seconds_unknown_stage_is_none(seconds: Any) -> None:
    row = make_record() | {"seconds": seconds}
    assert training_seconds(row) is None
    assert mean_seconds([row], GAUSSIAN).empty


def test_mean_seconds_two_seeds_is_their_geometric_mean_on_one_machine() -> None:
    records = [
        make_record(seed=s, seconds={"decode_extract": 0.5, "fit": fit})
        for s, fit in enumerate((0.5, 3.5))
    ]
    records.append(make_record("cats", seconds={"decode_extract": 5.0, "fit": 5.0}, threads=2))
    assert mean_seconds(records, GAUSSIAN).to_dict() == {"birds": pytest.approx(2.0)}


def test_energy_totals_unknown_energy_is_counted() -> None:
    records = [
        make_record(energy_kwh=0.5),
        make_record(seed=1, energy_kwh=None),
        make_record(size=0.5, energy_kwh=0.25),
        make_record(head="linear"),
    ]
    found = energy_totals(records)
    assert found.loc[GAUSSIAN].tolist() == [0.75, 2, 3]
    assert found.loc[LINEAR].tolist() == [0.0, 0, 1]
    assert energy_totals(records[3:]).loc[LINEAR].tolist() == [0.0, 0, 1]


# ------------------------------------------------------------------------------------------- other


def test_method_names_tell_settings() -> None:
    record = make_record(head="full", layers=None, settings={"epochs": 3, "ema": True})
    tuned = Method.of(record)
    assert tuned.name == "full efficientnet_lite0 ema=True epochs=3"
    assert (GAUSSIAN.short, tuned.short) == ("gaussian auto", "full")
    frame = records_frame([record, make_record(), make_record(size=0.5)])
    assert methods_of(frame) == [tuned, GAUSSIAN]
    assert has_cells(frame, GAUSSIAN, 0.5)
    assert not has_cells(frame, tuned, 0.5)


def test_analysis_imported_loads_no_torch() -> None:
    code = "import sys, toptune_study.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
