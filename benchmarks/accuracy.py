"""Kernel head against scikit-learn's classifiers on the same last-layer features, over many sets.

    TOPTUNE_DATA=folder python benchmarks/accuracy.py

Every data set under TOPTUNE_DATA with its own train/test split, else three stratified 70/30 splits,
the solar cells, and the pixels of scikit-learn's digits. The classifiers of scikit-learn are tuned
by 3-fold cross-validation on the training part, and that includes their preprocessing:
standardised, unit-length, or the square root and unit length that the kernel head uses. The test
part is looked at once, by the tuned model.
"""

from __future__ import annotations

import time
from typing import Any

import common
import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from toptune.kernel import FeatureNormalizer, KernelClassifier

#: Preprocessings a classifier may choose from. "plain" is what people do; "all" adds ours.
PLAIN = [StandardScaler(), Normalizer()]


def _grid(model: Any, values: dict[str, list[Any]], steps: list[Any]) -> GridSearchCV:
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
    grid = {"scale": steps, **{f"model__{name}": v for name, v in values.items()}}
    return GridSearchCV(pipeline, grid, cv=common.FOLDS, n_jobs=-1)


def methods(d: int) -> dict[str, Any]:
    """Return the classifiers for d features, unfitted."""
    # gamma is in units of 1 / (d var): "scale" for each preprocessing, then a factor of 4 each way.
    svc = Pipeline([("scale", Normalizer()), ("model", SVC())])
    svc_grid = [
        {
            "scale": [StandardScaler()],
            "model__C": [1, 10, 100],
            "model__gamma": [0.25 / d, 1 / d, 4 / d],
        },
        {"scale": [Normalizer()], "model__C": [1, 10, 100], "model__gamma": [0.5, 2.0, 8.0]},
    ]
    logistic = LogisticRegression(max_iter=300)
    alphas = [10.0**k for k in range(-3, 5)]
    ours = [FeatureNormalizer()]
    return {
        "kernel head": Pipeline(
            [("scale", FeatureNormalizer()), ("head", KernelClassifier(random_state=0))]
        ),
        "kernel head, plain L2": Pipeline(
            [("scale", Normalizer()), ("head", KernelClassifier(random_state=0))]
        ),
        "RidgeClassifier": _grid(RidgeClassifier(), {"alpha": alphas}, PLAIN),
        "LogisticRegression": _grid(logistic, {"C": [0.1, 1.0, 10.0, 100.0]}, PLAIN),
        "SVC": GridSearchCV(svc, svc_grid, cv=common.FOLDS, n_jobs=-1),
        "SVC, our normalisation": _grid(SVC(), {"C": [1, 10, 100], "gamma": [0.5, 2.0, 8.0]}, ours),
        "LogisticRegression, our normalisation": _grid(
            logistic, {"C": [0.1, 1.0, 10.0, 100.0]}, ours
        ),
    }


def evaluated(task: common.Task, name: str, model: Any) -> dict[str, Any]:
    """Fit one method on one task and look at the test part."""
    X, y = task.features.X, task.features.labels
    start = time.perf_counter()
    model.fit(X[task.train], y[task.train])
    seconds = time.perf_counter() - start
    accuracy = float(np.mean(model.predict(X[task.test]) == y[task.test]))
    return {
        "dataset": task.dataset,
        "seed": task.seed,
        "method": name,
        "accuracy": accuracy,
        "seconds": seconds,
        "n": len(task.train),
    }


def main() -> None:
    """Run every method on every task, or some methods again."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--methods", nargs="*", help="run these again, and keep the results of the others"
    )
    names = list(methods(1))
    wanted = parser.parse_args().methods or names
    kept = common.read_json("accuracy")["records"] if len(wanted) < len(names) else []
    records: list[dict[str, Any]] = [r for r in kept if r["method"] not in wanted]
    seeds = (0, 1, 2)
    arrays = [*common.elpv_tasks(seeds), *common.digits_tasks(seeds)]
    for task in [*common.tasks(), *arrays]:
        found = methods(task.features.X.shape[1])
        new = [evaluated(task, name, model) for name, model in found.items() if name in wanted]
        records += new
        common.console.print(task.dataset, task.seed, *(f"{r['accuracy']:.3f}" for r in new))
    datasets = list(dict.fromkeys(r["dataset"] for r in records))

    def mean(dataset: str, method: str, key: str = "accuracy") -> float:
        picked = [r[key] for r in records if (r["dataset"], r["method"]) == (dataset, method)]
        return float(np.mean(picked))

    rows = [[d, *(mean(d, m) for m in names)] for d in datasets]
    means = ["MEAN", *(float(np.mean([mean(d, m) for d in datasets])) for m in names)]
    times = [
        "seconds, mean",
        *(float(np.mean([mean(d, m, "seconds") for d in datasets])) for m in names),
    ]
    common.print_table(
        "test accuracy, last-layer features", ["data set", *names], [*rows, means, times]
    )
    common.write_json(
        "accuracy", {"records": records, "mean": dict(zip(names, means[1:], strict=True))}
    )


if __name__ == "__main__":
    main()
