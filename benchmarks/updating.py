"""Changing a trained head instead of training it again: time and agreement, ratios in one process.

    python benchmarks/updating.py

A Nystrom head of 10,000 samples and 2,000 centers, 10 classes; 100 samples are added, 100 are taken
away. The refit has the same centers and hyperparameters, given: nothing is chosen. Features are
synthetic, 1,280 of float32 and 15,304 of float16, the numbers that the last layer and all layers of
the default network give: speed does not depend on what they mean.

A refit gives leave-one-out scores and a temperature, as `fit` does. A change leaves them for when
they are asked for; what they take then is a column of its own, and so is the share of a refit
without them. How far changed heads are from refits is measured once more with features of float64.

One thread, processor time: the ratios then hold on a busy machine too. Floors, with n = 10,000,
m = 2,000, k = 100:

    change   2 k m d + k m^2 flops (rows), 2 k m^2 (sums) and m^3 / 3 = 2.7 Gflop (factor), the last
             two in float64; reads and writes m x m matrices of float64, 32 MB each, a few times,
             and to take away also the rows, 80 MB
    refit    2 n m d = 51 or 612 Gflop (kernel), n m^2 = 40 Gflop (rows), the same for sums, and
             again for leave-one-out

so the factor alone is 3 % (d = 1,280) or 0.7 % (d = 15,304) of a refit, where float64 runs at half
the speed of float32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from numpy.typing import NDArray

from toptune.kernel import FeatureNormalizer, KernelClassifier, Rows

N, M, C, K = 10_000, 2_000, 10, 100
#: Features of the last layer, and of all layers of the default network, and what they are kept in.
WIDTHS = ((1_280, np.float32), (15_304, np.float16))
REPEATS = 9
PENALTY = 1e-6


def main() -> None:
    """Measure both widths."""
    common.parser(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    rows = []
    for d, dtype in WIDTHS:
        times, differences = measure(d, dtype), measure(d, np.float64)
        rows.append(
            times
            | {f"float64_{name}": differences[name] for name in differences if "differ" in name}
        )
    columns = ["", *(str(row["features"]) for row in rows)]
    table = [[name, *(row[name] for row in rows)] for name in rows[0] if name != "features"]
    common.print_table("changes of a head, features:", columns, table)
    common.write_json("updating", {"n": N, "m": M, "changed": K, "widths": rows})


def features(n: int, d: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Overlapping classes, not negative as pooled activations are."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).random((C, d), dtype=np.float32)
    y = np.arange(n) % C
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += means[y]
    return np.abs(X, out=X), y


def measure(d: int, dtype: Any) -> dict[str, Any]:
    """Seconds, percent of a refit, and how far changes are from refits."""
    X, y = features(N + K, d, seed=1)
    X = X.astype(dtype)
    normalizer = FeatureNormalizer().fit(X[:1])
    rows = Rows(X, transform=normalizer.transform)
    old, new = np.arange(N), np.arange(N, N + K)
    gone = np.random.default_rng(2).choice(N, K, replace=False)
    kept = np.delete(old, gone)
    model = KernelClassifier(
        kernel="gaussian", bandwidth=1.0, penalty=PENALTY, n_centers=M, random_state=0
    ).fit(rows.take(old), y[old])

    def refit(some: NDArray[np.intp]) -> KernelClassifier:
        return model.fit_with_centers(rows.take(some), y[some], penalty=PENALTY)

    refit_seconds, refitted = seconds(lambda: refit(np.arange(N + K)), repeats=3)
    left_out_seconds, _ = seconds(lambda: refitted.loo_log_loss_)
    add_seconds, added = seconds(lambda: model.add_samples(rows.take(new), y[new]), repeats=REPEATS)
    forget_seconds, forgotten = seconds(lambda: model.remove_samples(gone), repeats=REPEATS)
    whole = refit_seconds + left_out_seconds
    probe = Rows(features(500, d, seed=3)[0].astype(dtype), transform=normalizer.transform)
    return {
        "features": d,
        "refit_seconds": whole,
        "leave_one_out_seconds": left_out_seconds,
        "add_seconds": add_seconds,
        "forget_seconds": forget_seconds,
        "add_percent": 100 * add_seconds / whole,
        "forget_percent": 100 * forget_seconds / whole,
        "leave_one_out_percent": 100 * left_out_seconds / whole,
        "add_percent_of_refit_without_it": 100 * add_seconds / refit_seconds,
        "forget_percent_of_refit_without_it": 100 * forget_seconds / refit_seconds,
        "add_difference": _difference(added, refitted, probe),
        "forget_difference": _difference(forgotten, refit(kept), probe),
    }


def seconds(function: Callable[[], Any], *, repeats: int = 1) -> tuple[float, Any]:
    """Return the median processor time of `function` in seconds, and its last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def _difference(one: KernelClassifier, other: KernelClassifier, probe: Rows) -> float:
    """Largest difference of the scores, which are of size 1."""
    difference = one.decision_function(probe) - other.decision_function(probe)
    return float(np.abs(difference).max())


if __name__ == "__main__":
    main()
