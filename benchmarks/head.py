"""The kernel head on the solar cells, four grades, 75/25, five seeds, against a grid search of SVC.

    python benchmarks/head.py

Features are the last layer of the embedded network. Both fits include all tuning. The number of
threads is the machine's for both: the grid search spreads its fits over processes.
"""

from __future__ import annotations

import common
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from toptune.kernel import FeatureNormalizer, KernelClassifier


def main() -> None:
    """Fit both on every split."""
    common.parser(__doc__.splitlines()[0]).parse_args()
    rows = []
    for task in common.elpv_tasks(seeds=range(5)):
        X, y = task.features.X, task.features.labels
        train, test = task.train, task.test
        ours = make_pipeline(FeatureNormalizer(), KernelClassifier(random_state=0))
        seconds, _ = common.timed(lambda m=ours: m.fit(X[train], y[train]), repeats=3)  # noqa: B023
        svc = make_pipeline(StandardScaler(), SVC())
        gammas = [0.25 / X.shape[1], 1 / X.shape[1], 4 / X.shape[1]]
        grid = GridSearchCV(
            svc, {"svc__C": [1, 10, 100], "svc__gamma": gammas}, cv=common.FOLDS, n_jobs=-1
        )
        grid_seconds, _ = common.timed(lambda m=grid: m.fit(X[train], y[train]))  # noqa: B023
        rows.append(
            {
                "seed": task.seed,
                "accuracy": float(np.mean(ours.predict(X[test]) == y[test])),
                "loo_accuracy": ours[-1].loo_accuracy_,
                "seconds": seconds,
                "svc_accuracy": float(np.mean(grid.predict(X[test]) == y[test])),
                "svc_seconds": grid_seconds,
                "times_faster": grid_seconds / seconds,
            }
        )
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {"seed": "mean"}
    common.print_table("ELPV, 4 grades", list(mean), [list(r.values()) for r in [*rows, mean]])
    common.write_json("head", {"splits": rows, "mean": mean})


if __name__ == "__main__":
    main()
