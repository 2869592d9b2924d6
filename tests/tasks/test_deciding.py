"""TopTuner on real images with costs and thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from task_helpers import DIGITS, MORE, N

from toptune import DataError, TopTuner
from toptune.decisions import DecisionRule
from toptune.decisions.thresholds import choose_thresholds
from toptune.tasks import Classification


def test_costs_decide(classes: TopTuner) -> None:
    dear = {"five": {"other": 50}, "other": {"five": 1}}
    P = classes.predict_proba(MORE)
    assert np.array_equal(classes.predict(MORE, costs=dear) == "five", P[:, 0] > 1 / 51)
    truth = np.where(DIGITS.target[N : 2 * N] % 5 == 0, "five", "other")
    careful = classes.evaluate(MORE, truth, costs=dear)
    most_probable = np.where(P[:, 0] > 0.5, "five", "other")
    paid = np.where(most_probable == truth, 0, np.where(truth == "five", 50, 1)).mean()
    assert careful.mean_cost <= paid
    assert (
        careful.per_class["five"].recall >= classes.evaluate(MORE, truth).per_class["five"].recall
    )


def test_what_cannot_be_decided_is_said_before_the_work(
    classes: TopTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("features were extracted")

    monkeypatch.setattr(classes.extractor_, "extract", never)
    with pytest.raises(DataError, match=r"costs must have shape \(2, 2\)"):
        classes.predict(MORE, costs=np.zeros((3, 3)))
    with pytest.raises(DataError, match="does not know: six"):
        classes.evaluate(MORE, ["five"] * N, thresholds={"six": 0.5})


def test_costs_and_unknown_images(classes: TopTuner) -> None:
    dear = {"five": {"other": 50}, "other": {"five": 1}}
    decided = classes.predict(MORE, costs=dear, reject=0.2)
    known = decided != "unknown"
    assert 0 < known.sum() < N
    assert np.array_equal(decided[known], classes.predict(MORE, costs=dear)[known])
    with pytest.raises(DataError, match="decide for one class, a coverage asks for a set"):
        classes.predict(MORE, costs=dear, coverage=0.9)


def test_thresholds_chosen_by_leave_one_out(classes: TopTuner) -> None:
    t = classes.choose_thresholds(recall={"five": 0.95})
    assert list(t) == ["five"]
    left_out, task = classes.loo_proba_, classes.model_.task
    judged = task.evaluate(classes.codes_, left_out, DecisionRule(thresholds=t))
    assert judged.per_class["five"].recall >= 0.95
    both = classes.choose_thresholds("balanced-accuracy")
    judged = task.evaluate(classes.codes_, left_out, DecisionRule(thresholds=both))
    assert judged.balanced_accuracy >= classes.loo_.balanced_accuracy
    P = classes.predict_proba(MORE)
    assert np.array_equal(classes.predict(MORE, thresholds=t) == "five", P[:, 0] >= t["five"])


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "say what thresholds are for"),
        ({"objective": "macro-f1", "recall": {"five": 0.9}}, "say what thresholds are for"),
        ({"recall": {"five": 0.9}, "precision": {"five": 0.9}}, "a wanted precision, not both"),
        ({"recall": {"six": 0.9}}, "does not know: six"),
        ({"recall": {"five": 1.9}}, r"five: the wanted recall must be in \(0, 1\], got 1.9"),
        ({"objective": "f2"}, "objective must be one of"),
    ],
)
def test_wishes_that_make_no_sense(classes: TopTuner, wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        classes.choose_thresholds(**wishes)


def test_wishes_that_exclude_each_other_are_refused() -> None:
    """Found in use: recalls of 0.17 to 0.83 where 0.9 of every class was wanted."""
    rng = np.random.default_rng(0)
    task, codes = Classification(np.array(["a", "b", "c"])), np.arange(60) % 3
    P = rng.dirichlet(np.ones(3), size=60) / 2 + np.eye(3)[codes] / 8
    P /= P.sum(axis=1, keepdims=True)
    wanted = dict.fromkeys("abc", 0.9)
    with pytest.raises(
        DataError, match=r"cannot be had together.* recall of [abc] is 0\.\d+ \(wan"
    ):
        choose_thresholds(codes, P, task.classes, recall=wanted)
    with pytest.raises(DataError, match=r"the precision of b is 0\.\d+ \(wanted 0\.95\)"):
        choose_thresholds(
            codes, P, task.classes, recall={"a": 0.9, "c": 0.9}, precision={"b": 0.95}
        )
    sure = P / 10 + 0.9 * np.eye(3)[codes]
    t = choose_thresholds(codes, sure, task.classes, recall=wanted)
    judged = task.evaluate(codes, sure, DecisionRule(thresholds=t))
    assert all(judged.per_class[label].recall >= 0.9 for label in "abc")
