"""Decisions by costs and thresholds, against brute force over all decisions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toptune.decisions import DecisionRule
from toptune.decisions.costs import cost_matrix, least_cost, read_costs
from toptune.decisions.thresholds import apply_thresholds, threshold_vector
from toptune.errors import DataError
from toptune.evaluation.classification import evaluate_probabilities

CLASSES = ["crack", "dent", "ok"]


def chances(draw: st.DrawFn, n: int, c: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.dirichlet(np.ones(c), size=n)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, c), and a reasonable cost matrix (c, c)."""
    c = draw(st.integers(2, 4))
    P = chances(draw, draw(st.integers(1, 20)), c)
    C = np.random.default_rng(draw(st.integers(0, 10**6))).uniform(1, 9, size=(c, c))
    np.fill_diagonal(C, draw(st.sampled_from([0.0, 0.5])))
    return P, C


@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_no_decision_costs_less(problem: tuple[np.ndarray, np.ndarray]) -> None:
    P, C = problem
    names = [str(k) for k in range(len(C))]
    for p, j in zip(P, DecisionRule(costs=C).codes(P, names), strict=True):
        expected = [sum(p[i] * C[i, k] for i in range(len(C))) for k in range(len(C))]
        assert expected[j] <= min(expected) + 1e-12


@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_equal_costs_decide_for_the_most_probable_class(
    problem: tuple[np.ndarray, np.ndarray],
) -> None:
    P, _ = problem
    c = P.shape[1]
    ordered = np.sort(P, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-9  # rounding may decide ties
    assert (least_cost(P, 1.0 - np.eye(c)) == P.argmax(axis=1))[clear].all()
    assert (DecisionRule().codes(P, list(range(c))) == P.argmax(axis=1)).all()


@given(p=st.floats(0.001, 0.999), false_alarm=st.floats(0.1, 10.0), missed=st.floats(0.1, 10.0))
def test_two_costs_are_a_threshold(p: float, false_alarm: float, missed: float) -> None:
    """Elkan's theorem: a defect is decided from p = a / (a + m) on."""
    edge = false_alarm / (false_alarm + missed)
    if abs(p - edge) < 1e-9:
        return
    P = np.array([[p, 1 - p]])
    costs = {"defect": {"ok": missed}, "ok": {"defect": false_alarm}}
    by_costs = DecisionRule(costs=costs).codes(P, ["defect", "ok"])
    by_threshold = DecisionRule(thresholds={"defect": edge}).codes(P, ["defect", "ok"])
    assert by_costs.tolist() == by_threshold.tolist() == [0 if p > edge else 1]


def test_mappings_and_arrays_are_the_same_costs() -> None:
    nested = {
        "ok": {"crack": 1, "dent": 2},
        "crack": {"dent": 3, "ok": 50, "crack": 0.5},
        "dent": {"ok": 9, "crack": 4},
    }
    C = np.array([[0.5, 3, 50], [4, 0, 9], [1, 2, 0]])
    assert np.array_equal(cost_matrix(nested, CLASSES), C)
    assert np.array_equal(cost_matrix(C.tolist(), CLASSES), C)
    numbered = {1: {2: 7}, 2: {1: 3}}  # labels that are no text
    assert cost_matrix(numbered, np.array([1, 2])).tolist() == [[0, 7], [3, 0]]
    assert cost_matrix({"1": {"2": 7}, "2": {"1": 3}}, np.array([1, 2])).tolist() == [
        [0, 7],
        [3, 0],
    ]


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"crack": {}, "dent": {}}, "costs have no row for the classes ok"),
        ({"scratch": {}}, r"costs name classes .* not know: scratch \(it knows crack, dent, ok\)"),
        (
            {c: {d: 1 for d in CLASSES if d not in (c, "ok")} for c in CLASSES},
            "costs of 'crack' have no value for deciding ok",
        ),
        (dict.fromkeys(CLASSES, 1), "costs of 'crack' must map decisions to numbers, got 1"),
        (
            {c: dict.fromkeys(CLASSES, "1") for c in CLASSES},
            "the cost of 'crack' for 'crack' is no number: '1'",
        ),
        (np.zeros((2, 3)), r"costs must have shape \(3, 3\).*got \(2, 3\)"),
        (np.zeros(3), r"got \(3,\)"),
        ([["a", "b"]], "costs must be numbers"),
        (np.eye(3) * -1, "deciding 'crack' when 'crack' is true must be a number >= 0, got -1"),
        (np.full((3, 3), np.nan), "must be a number >= 0, got nan"),
        (np.full((3, 3), np.inf), "must be a number >= 0, got inf"),
        (np.eye(3), "when 'crack' is true, the right decision costs 1 and deciding 'dent' only 0"),
    ],
)
def test_costs_that_cannot_be_used(costs: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cost_matrix(costs, CLASSES)


def brute_decision(p: np.ndarray, t: list[float | None]) -> int:
    """The rule of `apply_thresholds` in words."""
    reached = [k for k, value in enumerate(t) if value is not None and p[k] >= value]
    if reached:
        return max(reached, key=lambda k: p[k] / t[k])  # type: ignore[operator]
    free = [k for k, value in enumerate(t) if value is None]
    if free:
        return max(free, key=lambda k: p[k])
    return max(range(len(p)), key=lambda k: p[k] / t[k])  # type: ignore[operator]


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_thresholds_decide_as_described(data: st.DataObject) -> None:
    c = data.draw(st.integers(2, 4))
    P = chances(data.draw, 10, c)
    t = data.draw(st.lists(st.none() | st.floats(0.05, 1.0), min_size=c, max_size=c))
    if all(value is None for value in t):
        return
    names = [f"c{k}" for k in range(c)]
    given_ = {name: value for name, value in zip(names, t, strict=True) if value is not None}
    found = apply_thresholds(P, threshold_vector(given_, names))
    assert found.tolist() == [brute_decision(p, t) for p in P]


def test_a_threshold_is_reached_by_equality() -> None:
    P = np.array([[0.1 + 0.2, 0.7]])
    assert DecisionRule(thresholds={"a": 0.1 + 0.2}).codes(P, ["a", "b"]).tolist() == [0]
    assert DecisionRule(thresholds={"a": np.nextafter(0.1 + 0.2, 1)}).codes(
        P, ["a", "b"]
    ).tolist() == [1]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({}, "thresholds name no class"),
        ({"scratch": 0.5}, "thresholds name classes that the model does not know: scratch"),
        ({"ok": 0.0}, r"threshold of 'ok' must be in \(0, 1\], got 0.0"),
        ({"ok": 1.5}, r"got 1.5"),
        ({"ok": float("nan")}, r"got nan"),
        ({"ok": "0.5"}, "got '0.5'"),
        ([0.5], "thresholds must map classes to probabilities"),
    ],
)
def test_thresholds_that_cannot_be_used(thresholds: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        threshold_vector(thresholds, CLASSES)


def test_costs_and_thresholds_contradict_each_other() -> None:
    with pytest.raises(DataError, match="give costs or thresholds, not both"):
        DecisionRule(costs=1 - np.eye(2), thresholds={"a": 0.5}).check(np.array(["a", "b"]))


def test_evaluation_counts_decisions_and_their_costs() -> None:
    P = np.array([[0.2, 0.8], [0.3, 0.7], [0.05, 0.95]])
    C = np.array([[0.0, 10.0], [1.0, 0.0]])
    decided = least_cost(P, C)
    assert decided.tolist() == [0, 0, 1]
    found = evaluate_probabilities(["d", "o", "o"], P, ["d", "o"], decided=decided, costs=C)
    assert found.confusion_matrix.tolist() == [[1, 0], [1, 1]]
    assert found.mean_cost == pytest.approx(1 / 3)
    assert found.to_dict()["mean_cost"] == found.mean_cost
    plain = evaluate_probabilities(["d", "o", "o"], P, ["d", "o"])
    assert plain.accuracy == pytest.approx(2 / 3)
    assert plain.log_loss == found.log_loss  # of the probabilities, whatever is decided
    assert "mean_cost" not in plain.to_dict()


def test_no_other_decisions_would_have_been_cheaper_on_calibrated_samples() -> None:
    """Where labels occur as often as the probabilities say, no rule that sees them is better."""
    levels = np.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    counts = (levels * 100).astype(int)
    C = np.array([[0.0, 4.0], [1.0, 0.0]])
    chosen = least_cost(levels, C)

    def total(rule: tuple[int, ...]) -> float:
        return float(sum(counts[r] @ C[:, j] for r, j in enumerate(rule)))

    every = {rule: total(rule) for rule in itertools.product(range(2), repeat=3)}
    assert every[tuple(chosen.tolist())] == min(every.values())


# --------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "true,ok,no\nok,0,1\nno,10,\n"),
        ("c.csv", "\ufefftrue, ok ,no\n\nok,0,1\nno,10,\n"),
        ("c.yaml", "ok: {ok: 0, no: 1}\nno: {ok: 10}\n"),
        ("c.json", '{"ok": {"ok": 0, "no": 1}, "no": {"ok": 10}}'),
    ],
)
def test_costs_in_files(tmp_path: Path, name: str, text: str) -> None:
    """In YAML the class called no stays one: YAML takes the word for false."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_costs(tmp_path / name)
    assert found == {"ok": {"ok": 0.0, "no": 1.0}, "no": {"ok": 10.0}}
    assert cost_matrix(found, ["no", "ok"]).tolist() == [[0, 10], [1, 0]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "", r"costs must be a .csv, .yaml or .json file, got .*c\.txt"),
        ("c.csv", "", "the first row must name the decisions"),
        ("c.csv", "x,a,b\na,0\n", "the first row must name the decisions"),
        ("c.csv", "x,a,a\na,0,1\n", "the decision 'a' occurs 2 times"),
        ("c.csv", "x,a,b\na,0,1\na,0,1\n", "the true class 'a' occurs 2 times"),
        ("c.csv", "x,a,b\na,0,dear\n", "deciding 'b' when 'a' is true is 'dear', no number"),
        ("c.yaml", "a: [", "cannot read costs"),
        ("c.yaml", "- a\n", "costs must map each true class"),
        ("c.yaml", "a: 3\n", "costs must map each true class"),
        ("c.yaml", "a: {b: [1]}\n", "no number"),
    ],
)
def test_files_that_hold_no_costs(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_costs(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read costs .*gone\.csv"):
        read_costs(tmp_path / "gone.csv")
