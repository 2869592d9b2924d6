"""Numbers, several labels and costs on the solar cells, against linear models on the same features.

    python benchmarks/tasks.py

The 2,624 cells of elpv-dataset, 70 % to train on and 30 % held out, three seeds. Features are the
last layer of the default network, normalised as `TopTuner` does, for all methods.

Numbers: the probability of a defect as experts graded it (0, 1/3, 2/3, 1), against ridge
regression, its penalty chosen by scikit-learn's leave-one-out. Several labels: `mono` or `poly`,
and `defect` from 2/3 on, against one logistic regression a label, its penalty chosen by 3-fold
cross-validation. Costs: a defect that is missed costs ten times a false alarm. Deciding by costs is
compared with the most probable class, and with `class_weight` that says the same. Beside what
held-out images say stands what leave-one-out had promised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import train_test_split

from toptune import Features, TopTuner
from toptune.features import extract, load_backbone
from toptune.images.demo import solar_cells
from toptune.kernel import FeatureNormalizer
from toptune.tasks import evaluate_labels, evaluate_numbers
from toptune_study.datasets import load_dataset

SEEDS = (0, 1, 2)
COVERAGE = 0.9
COSTS = {"defect": {"ok": 10.0}, "ok": {"defect": 1.0}}


def main() -> None:
    """Measure everything on every split."""
    common.parser(__doc__.splitlines()[0]).parse_args()
    cells = solar_cells()
    features = extract(cells, load_backbone(layers="last", view="whole"), strict=True)
    kinds = load_dataset("elpv_types").images.labels  # of the same cells
    grades = np.round(3 * cells.labels.astype(np.float64)) / 3
    sets = np.where(grades > 0.5, np.char.add(kinds, ";defect"), kinds)
    classes = np.where(grades > 0.5, "defect", "ok")
    records = []
    for seed in SEEDS:
        train, test = train_test_split(
            np.arange(len(cells)), test_size=0.3, random_state=seed, stratify=cells.labels
        )
        parts = (features.subset(train), features.subset(test))
        Z = [FeatureNormalizer().fit_transform(part.X) for part in parts]
        for measure, labels, kind in (
            (_numbers, grades, "number"),
            (_label_sets, sets, "set"),
            (_costs, classes, "class"),
        ):
            labelled = [
                replace(part, labels=labels[rows].astype(np.str_), label_kind=kind)
                for part, rows in zip(parts, (train, test), strict=True)
            ]
            records += [{"seed": seed, **row} for row in measure(*labelled, *Z)]
    tables = _tables(records)
    for title, (columns, rows) in tables.items():
        common.print_table(title, columns, rows)
    means = {
        title: [dict(zip(columns, row, strict=True)) for row in rows]
        for title, (columns, rows) in tables.items()
    }
    common.write_json("tasks", {"records": records, "mean": means})


def _numbers(
    train: Features, test: Features, Z: NDArray[np.float64], Z_test: NDArray[np.float64]
) -> list[dict[str, Any]]:
    tuner = TopTuner(layers="last", random_state=0)
    seconds, _ = common.timed(lambda: tuner.fit_features(train))
    y, y_test = (part.labels.astype(np.float64) for part in (train, test))
    found = tuner.classify_features(test)
    low, high = found.intervals(COVERAGE).T
    more = {
        "coverage": float(np.mean((low <= y_test) & (y_test <= high))),
        "half_width": float((high - low)[0] / 2),
        **{f"loo_{key}": value for key, value in tuner.loo_.to_dict().items()},
    }
    ridge = RidgeCV(alphas=np.logspace(-4, 3, 15))
    ridge_seconds, _ = common.timed(lambda: ridge.fit(Z, y))
    ours = evaluate_numbers(y_test, found.values).to_dict() | more
    theirs = evaluate_numbers(y_test, ridge.predict(Z_test)).to_dict()
    return [
        {"part": "numbers", "method": "TopTuner", "seconds": seconds, **ours},
        {"part": "numbers", "method": "ridge", "seconds": ridge_seconds, **theirs},
    ]


def _label_sets(
    train: Features, test: Features, Z: NDArray[np.float64], Z_test: NDArray[np.float64]
) -> list[dict[str, Any]]:
    tuner = TopTuner(layers="last", random_state=0)
    seconds, _ = common.timed(lambda: tuner.fit_features(train))
    present = tuner.model_.task.codes_of(test.labels)

    def logistic() -> NDArray[np.float64]:
        columns = []
        for k in range(len(tuner.classes_)):
            model = LogisticRegressionCV(
                Cs=np.logspace(-1, 3, 5), cv=common.FOLDS, scoring="neg_log_loss", max_iter=300
            )
            columns.append(model.fit(Z, tuner.codes_[:, k]).predict_proba(Z_test)[:, 1])
        return np.stack(columns, axis=1)

    logistic_seconds, linear = common.timed(logistic)
    # As the head has them: one temperature for all labels, instead of a curve for each.
    shared = tuner.head_.predict_proba(tuner.model_.rows(test.X))
    rows = []
    for method, P, time in (
        ("TopTuner", tuner.predict_proba_features(test), seconds),
        ("one temperature", shared, seconds),
        ("logistic", linear, logistic_seconds),
    ):
        row = evaluate_labels(present, P, P >= 0.5, tuner.classes_).to_dict()
        row["defect_average_precision"] = row.pop("per_label")["defect"]["average_precision"]
        rows.append({"part": "labels", "method": method, "seconds": time, **row})
    left_out = tuner.loo_.to_dict()
    del left_out["per_label"]
    rows[0] |= {f"loo_{key}": value for key, value in left_out.items()}
    return rows


def _costs(train: Features, test: Features, *_: object) -> list[dict[str, Any]]:
    plain = TopTuner(layers="last", random_state=0).fit_features(train)
    weights = {"defect": COSTS["defect"]["ok"], "ok": COSTS["ok"]["defect"]}
    weighted = TopTuner(layers="last", random_state=0, class_weight=weights).fit_features(train)
    chosen = plain.choose_thresholds(recall={"defect": 0.95})
    best = plain.choose_thresholds("macro-f1")
    rows = []
    for method, tuner, decided in (
        ("most probable class", plain, {}),
        ("costs", plain, {"costs": COSTS}),
        ("class_weight", weighted, {}),
        ("threshold for recall 0.95", plain, {"thresholds": chosen}),
        ("thresholds for macro-F1", plain, {"thresholds": best}),
    ):
        found = tuner.evaluate_features(test, **decided)
        row = found.per_class["defect"]
        wrong = found.confusion_matrix
        cost = (10 * wrong[0, 1] + wrong[1, 0]) / found.n
        rows.append(
            {
                "part": "costs",
                "method": method,
                "mean_cost": float(cost),
                "accuracy": found.accuracy,
                "recall": row.recall,
                "precision": row.precision,
                "macro_f1": float(np.mean([c.f1 for c in found.per_class.values()])),
            }
        )
    return rows


def _tables(records: list[dict[str, Any]]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Means over the seeds."""
    shown = {
        "numbers": ("r2", "mae", "spearman", "coverage", "loo_r2", "loo_mae"),
        "labels": (
            *("mean_average_precision", "defect_average_precision", "macro_f1"),
            *("subset_accuracy", "log_loss", "loo_mean_average_precision"),
        ),
        "costs": ("mean_cost", "accuracy", "recall", "precision", "macro_f1"),
    }
    tables = {}
    for part, columns in shown.items():
        methods = list(dict.fromkeys(r["method"] for r in records if r["part"] == part))
        rows = []
        for method in methods:
            own = [r for r in records if (r["part"], r["method"]) == (part, method)]
            known = [[r[c] for r in own if c in r] for c in columns]
            rows.append([method, *(float(np.mean(v)) if v else "" for v in known)])
        tables[part] = (["method", *columns], rows)
    return tables


if __name__ == "__main__":
    main()
