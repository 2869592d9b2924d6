"""TopTuner on real images with several labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from task_helpers import DIGITS, MORE, PICTURES, N, names

from toptune import DataError, TopTuner
from toptune.decisions import DecisionRule
from toptune.errors import DataWarning
from toptune.images import from_arrays


def test_several_labels_are_predicted(multilabel: TopTuner) -> None:
    assert multilabel.task_ == "multilabel"
    assert multilabel.classes_.tolist() == ["even", "round", "small"]
    P = multilabel.predict_proba(MORE)
    assert P.shape == (N, 3)
    decided = multilabel.predict(MORE)
    assert np.array_equal(decided, (P >= 0.5).astype(int))
    truth = np.array(
        [[w in said for w in multilabel.classes_] for said in names(DIGITS.target[N : 2 * N])]
    )
    found = multilabel.evaluate(MORE, names(DIGITS.target[N : 2 * N]))
    assert found.mean_average_precision == pytest.approx(average_precision_score(truth, P))
    assert found.mean_average_precision > truth.mean() + 0.1  # better than guessing
    assert multilabel.score(MORE, names(DIGITS.target[N : 2 * N])) == found.subset_accuracy
    assert multilabel.loo_.n == N
    answers = multilabel.classify(MORE[:2])
    assert answers.labels == [multilabel.classes_[row > 0].tolist() for row in decided[:2]]
    assert [row["label"] for row in answers.top(3)[0]] == [
        multilabel.classes_[k] for k in np.argsort(-P[0])
    ]


def test_each_label_is_the_head_of_its_own(
    multilabel: TopTuner, tuner: Callable[..., TopTuner]
) -> None:
    """The columns share a factorisation, but one says nothing about the others."""
    head = multilabel.head_
    held = {"kernel": head.kernel_, "bandwidth": head.bandwidth_, "penalty": head.penalty_}
    even = np.where(DIGITS.target[:N] % 2 == 0, "even", "odd")
    alone = tuner(**held).fit(PICTURES, labels=even)
    rows = multilabel.model_.rows(multilabel.extract(from_arrays(MORE)).X)
    ours = head.decision_function(rows)[:, 0]
    assert np.allclose(ours, -alone.head_.decision_function(rows), atol=1e-5)


def test_thresholds_of_labels(multilabel: TopTuner) -> None:
    P = multilabel.predict_proba(MORE)
    decided = multilabel.predict(MORE, thresholds={"small": 0.2})
    assert np.array_equal(decided, (P >= [0.5, 0.5, 0.2]).astype(int))
    chosen = multilabel.choose_thresholds("macro-f1")
    assert chosen.keys() == {"even", "round", "small"}
    left_out, task = multilabel.loo_proba_, multilabel.model_.task
    at_half = multilabel.loo_.macro_f1
    assert (
        task.evaluate(multilabel.codes_, left_out, DecisionRule(thresholds=chosen)).macro_f1
        >= at_half
    )
    wanted = multilabel.choose_thresholds(recall={"small": 0.9}, precision={"even": 0.7})
    judged = task.evaluate(multilabel.codes_, left_out, DecisionRule(thresholds=wanted))
    assert judged.per_label["small"].recall >= 0.9
    assert judged.per_label["even"].precision >= 0.7
    with pytest.raises(DataError, match="costs are for classification: with several labels"):
        multilabel.predict(MORE[:1], costs=np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"], *[[]] * 79], "need two different ones, found only 'a'"),
        ([[] for _ in range(80)], "need two different ones, found none"),
    ],
)
def test_too_few_labels(
    tuner: Callable[..., TopTuner], labels: list[list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        tuner().fit(PICTURES, labels=labels)


def test_labels_that_teach_nothing_are_named(tuner: Callable[..., TopTuner]) -> None:
    said = [["digit", *words] for words in names(DIGITS.target[:N])]
    said[5].append("ragged")
    with pytest.warns(DataWarning, match="a single image has, or all of them: digit, ragged"):
        model = tuner().fit(PICTURES, labels=said)
    P = model.predict_proba(MORE)
    assert np.isfinite(P).all()
    assert (P[:, 0] > 0.9).all()  # all that were seen have it


def test_a_label_the_model_does_not_know(multilabel: TopTuner) -> None:
    with pytest.raises(DataError, match="classes that the model does not know: odd"):
        multilabel.evaluate(MORE[:1], ["even;odd"])
    with pytest.raises(DataError, match="classes that the model does not know: odd"):
        multilabel.predict(MORE[:1], thresholds={"odd": 0.5})
