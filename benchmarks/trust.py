"""Can answers and labels be trusted? Calibration, prediction sets, unknown images, wrong labels.

    TOPTUNE_DATA=folder python benchmarks/trust.py            everything; fifteen minutes, one core
    TOPTUNE_DATA=folder python benchmarks/trust.py NAME...    some data sets; nothing is written

Every data set with its own train/test split, else three stratified 70/30 splits, and the solar
cells with four grades; `TopTuner` with its defaults, and logistic regression on the same features,
with C = 1, scikit-learn's default, and with C chosen by 3-fold cross-validation. Answers of several
splits of a set are pooled, for the calibration error of few answers is large by chance alone. The
test part is looked at once.

The rivals in finding wrong labels are two rankings of cleanlab (2.9.0 was measured; install it for
this script alone: its licence, AGPL, is not this project's) on the probabilities that 5-fold
cross-validation of the same logistic regression gives. Without cleanlab they are left out.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from toptune import TopTuner
from toptune.decisions.prediction_sets import set_threshold
from toptune.evaluation.classification import expected_calibration_error
from toptune.evaluation.label_errors import label_suspicion
from toptune.features import Features, load_backbone
from toptune.kernel import FeatureNormalizer
from toptune_study.heads import Span

COVERAGES = (0.9, 0.95)
REJECT = 0.05
#: Images of each other data set that are mixed in as unknown ones.
OUTSIDERS = 15
#: Share of the labels that are changed.
FLIPPED = 0.05


def fitted(features: Features) -> TopTuner:
    """Train a model with the default settings."""
    return TopTuner().fit_features(features)


def rotated(
    train: Features, *others: Features
) -> list[NDArray[np.float32]]:  # (n, r + 1), then (k, r + 1) each
    """Normalised features in the coordinates that the training samples span.

    It changes nothing for logistic regression with a squared penalty but its speed: the last
    column, the distance from the span, is zero in training.
    """
    normalizer = FeatureNormalizer(groups=list(train.layers.values())).fit(train.X[:1])
    span = Span(normalizer.transform(train.X.astype(np.float32)))
    parts = (normalizer.transform(part.X.astype(np.float32)) for part in others)
    return [span.coordinates, *map(span.coordinates_of, parts)]


def logistic_regression() -> LogisticRegressionCV:
    """Return the rival, tuned on the training part."""
    return LogisticRegressionCV(
        Cs=[0.1, 1.0, 10.0, 100.0, 1000.0],
        cv=common.FOLDS,
        scoring="neg_log_loss",
        max_iter=300,
        use_legacy_attributes=False,
        l1_ratios=(0.0,),
    )


def answers(task: common.Task) -> dict[str, Any]:
    """Ask the model and its rival about the test part."""
    train, test = task.features.subset(task.train), task.features.subset(task.test)
    tuner = fitted(train)
    codes = np.searchsorted(tuner.classes_, test.labels)
    scores = tuner.head_.decision_function(tuner.model_.rows(test.X))
    if len(tuner.classes_) == 2:
        scores = np.stack([-scores, scores], axis=1)
    P = tuner.predict_proba_features(test)
    Z, Z_test = rotated(train, test)
    rival = logistic_regression().fit(Z, train.labels)
    untuned = LogisticRegression(max_iter=300).fit(Z, train.labels)
    loo = tuner.loo_proba_
    sets = {}
    for coverage in COVERAGES:
        lowest = set_threshold(loo, tuner.codes_, coverage, groups=tuner.groups_)
        sets[coverage] = lowest <= P
    return {
        "tuner": tuner,
        "test": test,
        "n_train": len(train),
        "codes": codes,
        "proba": P,
        "raw": softmax(scores, axis=1),
        "rival": rival.predict_proba(Z_test),
        "untuned": untuned.predict_proba(Z_test),
        "sets": sets,
    }


def calibration(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return calibration errors and coverages of the pooled answers of one data set."""
    codes = np.concatenate([one["codes"] for one in found])

    def pooled(name: str) -> NDArray[np.float64]:
        return np.concatenate([one[name] for one in found])

    P = pooled("proba")
    out = {
        "n_train": found[0]["n_train"],
        "n_answers": len(codes),
        "accuracy": float((P.argmax(1) == codes).mean()),
        "ece": expected_calibration_error(codes, P),
        "ece_uncalibrated": expected_calibration_error(codes, pooled("raw")),
        "ece_logistic": expected_calibration_error(codes, pooled("rival")),
        "ece_logistic_untuned": expected_calibration_error(codes, pooled("untuned")),
        "accuracy_logistic": float((pooled("rival").argmax(1) == codes).mean()),
    }
    for coverage in COVERAGES:
        sets = np.concatenate([one["sets"][coverage] for one in found])
        name = f"{coverage:.0%}"
        out[f"coverage {name}"] = float(sets[np.arange(len(codes)), codes].mean())
        out[f"set size {name}"] = float(sets.sum(1).mean())
    return out


def unknown_images(found: dict[str, Any], outsiders: Features) -> dict[str, Any]:
    """Tell test images from those of other data sets."""
    tuner: TopTuner = found["tuner"]
    inside, outside = (tuner.unknown_score_features(part) for part in (found["test"], outsiders))
    is_outside = np.repeat([0, 1], [len(inside), len(outside)])
    scorer = tuner.model_.unknown_scorer
    bound = scorer.threshold(REJECT)
    return {
        "auroc": float(roc_auc_score(is_outside, np.concatenate([inside, outside]))),
        "false_rejects": float((inside > bound).mean()),
        "detected": float((outside > bound).mean()),
    }


def wrong_labels(train: Features) -> dict[str, Any]:
    """Change labels at random; share of the changed ones among as many most suspect ones."""
    classes, y = np.unique(train.labels, return_inverse=True)
    rng = np.random.default_rng(0)
    m = max(1, round(FLIPPED * len(y)))
    flipped = rng.choice(len(y), m, replace=False)
    y[flipped] = (y[flipped] + rng.integers(1, len(classes), m)) % len(classes)
    noisy = replace(train, labels=classes[y], groups=None)

    def share(suspicion: NDArray[np.float64]) -> float:
        return float(np.isin(np.argsort(-suspicion, kind="stable")[:m], flipped).mean())

    tuner = fitted(noisy)
    P = tuner.loo_proba_
    out = {"n_flipped": m, "found": share(label_suspicion(P, tuner.codes_))}
    if importlib.util.find_spec("cleanlab") is not None:
        from cleanlab.rank import get_label_quality_scores

        (Z,) = rotated(noisy)
        held_out = cross_val_predict(
            logistic_regression(), Z, tuner.codes_, cv=5, method="predict_proba"
        )
        for method in ("self_confidence", "normalized_margin"):
            quality = get_label_quality_scores(tuner.codes_, held_out, method=method)
            out[f"found_cleanlab_{method}"] = share(-quality)
    return out


def outsiders_of(tasks: Sequence[common.Task]) -> dict[str, Features]:
    """Draw some test images of every data set."""
    rng = np.random.default_rng(0)
    out = {}
    for task in tasks:
        if task.dataset not in out:
            rows = rng.choice(task.test, min(OUTSIDERS, len(task.test)), replace=False)
            out[task.dataset] = task.features.subset(np.sort(rows))
    return out


def joined(parts: Sequence[Features]) -> Features:
    """Features of several data sets, without labels."""
    X = np.concatenate([part.X for part in parts])
    ids = tuple(f"{k}" for k in range(len(X)))
    return Features(X=X, ids=ids, labels=None, layers=parts[0].layers)


def means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of every number that the rows have."""
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def main() -> None:
    """Measure every data set; print and write the table."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="data sets")
    wanted = parser.parse_args().names
    backbone = load_backbone(layers=TopTuner().layers, view=TopTuner().view)
    tasks = [*common.tasks(backbone=backbone), *common.elpv_tasks([0], backbone=backbone)]
    outsiders = outsiders_of(tasks)
    rows = []
    for name in outsiders:
        if wanted and name not in wanted:
            continue
        start = time.process_time()
        own = [task for task in tasks if task.dataset == name]
        found = [answers(task) for task in own]
        # Both are solar cells of one collection.
        related = {"elpv_solar", "ELPV 4-grade"} if "elpv" in name.lower() else {name}
        others = joined([part for other, part in outsiders.items() if other not in related])
        row = {
            "dataset": name,
            "exchangeable": own[0].features.groups is None,
            "splits": len(own),
            **calibration(found),
            **unknown_images(found[0], others),
            **wrong_labels(own[0].features.subset(own[0].train)),
        }
        rows.append(row)
        seconds = time.process_time() - start
        common.console.print(f"{name:20} {row['ece']:.3f} {row['auroc']:.3f} {seconds:.0f} s")
    summary = {"all": means(rows)}
    for kind, exchangeable in (("exchangeable", True), ("grouped", False)):
        some = [row for row in rows if row["exchangeable"] == exchangeable]
        if some:
            summary[kind] = means(some)
    report(rows, summary)
    if not wanted:
        common.write_json("trust", {"datasets": rows, "means": summary})


def report(rows: Sequence[dict[str, Any]], summary: dict[str, dict[str, float]]) -> None:
    """Print what was measured."""
    columns = {
        "accuracy": "accuracy",
        "ece": "ECE",
        "ece_uncalibrated": "uncal.",
        "ece_logistic_untuned": "C = 1",
        "ece_logistic": "tuned",
        "coverage 90%": "cov. 90",
        "set size 90%": "size",
        "coverage 95%": "cov. 95",
        "set size 95%": "size",
        "auroc": "AUROC",
        "false_rejects": "rejected",
        "detected": "detected",
        "found": "labels",
        "found_cleanlab_self_confidence": "cleanlab",
        "found_cleanlab_normalized_margin": "margin",
    }
    table = [
        [name, *(row.get(column, "") for column in columns)]
        for name, row in [
            *((row["dataset"] + ("" if row["exchangeable"] else " *"), row) for row in rows),
            *((f"mean, {kind}", row) for kind, row in summary.items()),
        ]
    ]
    common.print_table("Trust (* grouped: test groups are new)", ["", *columns.values()], table)


if __name__ == "__main__":
    main()
