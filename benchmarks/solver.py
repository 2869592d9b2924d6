"""The kernel solver: against its own primitives, against n, on a million samples, against peers.

    python benchmarks/solver.py                     everything, about an hour on two cores
    python benchmarks/solver.py direct exact        parts of it, the others kept from before

Features are synthetic: float32, 1,280 of them, 10 overlapping classes. Speed does not depend on
what they mean; accuracy on real images is in accuracy.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from toptune.kernel import KernelClassifier, Rows
from toptune.kernel.kernels import kernel_matrix
from toptune.kernel.linalg.triangular import COLUMN_BLOCKS
from toptune.kernel.operators import KernelOperator
from toptune.kernel.selection.planning import EXPECTED_PENALTIES, measure_rates, predicted_seconds
from toptune.kernel.solvers.falkon import preconditioned_solution
from toptune.kernel.solvers.preconditioner import Preconditioner
from toptune.kernel.systems.nystrom import PENALTY_ROWS, center_factor
from toptune.runtime.memory import peak_memory, reset_peak_memory

D, C = 1280, 10
#: Standard deviation of the noise around the classes' centers: about nine of ten can be told.
NOISE = 5.0


def features(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Draw n rows of unit length around 40 centers, four a class, with a decaying spectrum."""
    scale = 1.0 / np.sqrt(1.0 + np.arange(D) / 20.0)
    centers = np.random.default_rng(0).normal(size=(4 * C, D)) * scale
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 4 * C, n)
    X = (centers[which] + NOISE * scale * rng.normal(size=(n, D))).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, which % C


def best_time(function: Callable[[], Any], repeats: int = 3) -> float:
    """Return the least time of a function in seconds, after a warm-up."""
    function()
    return min(common.timed(function)[0] for _ in range(repeats))


def matmul_rate(size: int = 4096) -> float:
    """Flop/s of a large float32 matrix product."""
    A = torch.randn(size, size)
    return 2 * size**3 / best_time(lambda: A @ A)


# --------------------------------------------------------------------------- direct and exact


def direct() -> dict[str, Any]:
    """N = 20,000, m = 2,000 against the sum of its primitives, measured in turns."""
    n, m = 20_000, 2_000
    X, y = features(n, seed=1)
    T, Z = torch.from_numpy(X), torch.from_numpy(X[::10].copy())
    K = kernel_matrix(T, Z, "gaussian", 1.0)
    square = (K.T @ K).double()
    primitives = {
        "kernel block product with exp": lambda: kernel_matrix(T, Z, "gaussian", 1.0),
        "n x m by m x m": lambda: K @ K[:m],
        "m x n by n x m": lambda: K.T @ K,
        "m x m eigh, float64": lambda: torch.linalg.eigh(square),
    }
    fixed = {"n_centers": m, "bandwidth": 1.0, "random_state": 0}
    whole = {"n_centers": m, "random_state": 0}
    fits = {
        "fit, penalty chosen, exact leave-one-out": fixed,
        "the same, bandwidth chosen too": whole,
        "fit at fixed bandwidth and penalty": {**fixed, "penalty": 1e-4},
    }
    times: dict[str, list[float]] = {name: [] for name in [*primitives, *fits]}
    for _ in range(7):  # in turns, so that a slow minute of the machine meets all of them
        for name, function in primitives.items():
            times[name].append(common.timed(function)[0])
        for name, options in fits.items():
            times[name].append(common.timed(lambda o=options: KernelClassifier(**o).fit(X, y))[0])
    seconds = {name: float(np.median(values[1:])) for name, values in times.items()}
    sums = np.sum([times[name][1:] for name in primitives], axis=0)
    total, ratio = float(np.median(sums)), float(np.median(times[next(iter(fits))][1:] / sums))
    chosen, at_fixed = seconds["the same, bandwidth chosen too"], seconds[list(fits)[2]]
    rows = [[name, value] for name, value in seconds.items()]
    rows += [["sum of primitives", total], ["fit / sum, median over rounds (reach 1.5)", ratio]]
    rows += [["selection / fixed fit (reach 2)", (chosen - at_fixed) / at_fixed]]
    common.print_table(f"direct, n = {n}, m = {m}", ["", "seconds or ratio"], rows)
    return {
        "seconds": seconds,
        "sum_of_primitives": total,
        "ratio": ratio,
        "selection_over_fixed_fit": (chosen - at_fixed) / at_fixed,
    }


def exact() -> dict[str, Any]:
    """N = m = 2,000 with everything on "auto"."""
    X, y = features(2_000, seed=1)
    models = [KernelClassifier(random_state=0) for _ in range(8)]
    seconds = [common.timed(lambda m=model: m.fit(X, y))[0] for model in models][1:]
    fixed = {"bandwidth": models[0].bandwidth_, "penalty": models[0].penalty_}
    at_fixed = best_time(lambda: KernelClassifier(**fixed).fit(X, y))
    median = float(np.median(seconds))
    common.print_table(
        "exact, n = m = 2000, 5 bandwidths x 19 penalties",
        ["median s (reach 1.0)", "least s", "at fixed s", "selection / fixed fit (reach 2)"],
        [[median, min(seconds), at_fixed, (median - at_fixed) / at_fixed]],
    )
    return {
        "seconds": median,
        "least_seconds": min(seconds),
        "fixed_seconds": at_fixed,
        "selection_over_fixed_fit": (median - at_fixed) / at_fixed,
    }


def iteration() -> dict[str, Any]:
    """One iteration of conjugate gradient against its two products with K_nm."""
    rows, out = [], []
    for n, m, keep in ((20_000, 2_000, True), (20_000, 2_000, False), (40_000, 5_000, False)):
        X, y = features(n, seed=1)
        Y = torch.full((n, C), -1.0)
        Y[torch.arange(n), torch.from_numpy(y)] = 1.0
        centers = torch.from_numpy(X[:: n // m].copy())
        operator = KernelOperator(Rows(X), centers, "gaussian", 1.0)
        operator = operator.kept() if keep else operator
        w, share = torch.ones(n), torch.full((m,), n / m)
        V, U = torch.randn(m, C).double(), torch.randn(n, C).double()
        L = center_factor(operator)
        solver = Preconditioner.of(L, share.double(), 1e-6 * n)
        right = operator.t_matmul(Y.double())

        def solve() -> int:
            found = preconditioned_solution(
                operator,  # noqa: B023
                w,  # noqa: B023
                right,  # noqa: B023
                1e-6 * n,  # noqa: B023
                solver,  # noqa: B023
                rtol=1e-30,
                max_iter=8,
            )
            return found.iterations

        def products() -> None:
            operator.matmul(V)  # noqa: B023
            operator.t_matmul(U)  # noqa: B023

        products()
        single, pair = [], []
        for _ in range(3):
            seconds, products_done = common.timed(solve)
            single.append(seconds / products_done)
            pair.append(common.timed(products, repeats=3)[0])
        one, two = float(np.median(single)), float(np.median(pair))
        rows.append([n, m, "kept" if keep else "computed anew", one, two, one / two])
        out.append(
            {"n": n, "m": m, "kept": keep, "iteration": one, "products": two, "ratio": one / two}
        )
    columns = ["n", "m", "K_nm", "iteration s", "two products s", "ratio (reach 1.3)"]
    common.print_table("conjugate gradient, 10 outputs", columns, rows)
    return {"cases": out}


# -------------------------------------------------------------------------------------- scale


def growth() -> dict[str, Any]:
    """Time against n at m = 2,000, features in memory, everything on "auto"."""
    sizes = [10_000, 20_000, 40_000, 80_000, 160_000, 320_000]
    X, y = features(max(sizes), seed=1)
    KernelClassifier(n_centers=2_000, random_state=0).fit(X[:10_000], y[:10_000])
    seconds, predicted = [], []
    rates = measure_rates(torch.device("cpu"))
    for n in sizes:
        model = KernelClassifier(n_centers=2_000, random_state=0)
        seconds.append(common.timed(lambda m=model, k=n: m.fit(X[:k], y[:k]))[0])
        predicted.append(predicted_seconds(model.plan_, n, D, C, rates))
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    last = float(np.log2(seconds[-1] / seconds[-2]))
    rows = [[n, s, 1e6 * s / n, p] for n, s, p in zip(sizes, seconds, predicted, strict=True)]
    common.print_table(
        f"growth: fitted exponent {exponent:.3f} (reach 1.05), last doubling {last:.3f}",
        ["n", "seconds", "microseconds a sample", "predicted seconds"],
        rows,
    )
    return {
        "n": sizes,
        "seconds": seconds,
        "predicted_seconds": predicted,
        "exponent": exponent,
        "last_doubling": last,
    }


MILLION, MILLION_CENTERS, MILLION_BUDGET = 1_000_000, 4_000, 2.2e9


def million_fit(path: str) -> None:
    """Fit a memory-mapped file and print what it took; runs in a process of its own."""
    n = MILLION
    rate = matmul_rate()
    X = np.memmap(path, dtype=np.float16, mode="r", shape=(n, D))
    y = np.load(path + ".labels.npy")
    reset_peak_memory()
    before = peak_memory()
    model = KernelClassifier(n_centers=MILLION_CENTERS, memory=MILLION_BUDGET, random_state=0)
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    peak = peak_memory()
    m, half = MILLION_CENTERS, (1 + 1 / COLUMN_BLOCKS) / 2
    # K_nm twice; Phi, Phi^T Phi and the leverages, each with the zeros or the symmetry left out;
    # leave-one-out of some penalties on a part of the samples
    flops = 2 * (2 * n * m * D) + 3 * half * 2 * n * m * m
    flops += PENALTY_ROWS * (2 * m * D + EXPECTED_PENALTIES * half * 2 * m * m)
    X_test, y_test = features(5_000, seed=10**6)
    result = {
        "n": n,
        "m": m,
        "seconds": seconds,
        "flops": flops,
        "rate": flops / seconds,
        "matmul_rate_before": rate,
        "matmul_rate_after": matmul_rate(),
        "peak_bytes": peak,
        "bytes_before": before,
        "predicted_bytes": model.plan_.peak_bytes,
        "kept": model.plan_.keep,
        "loo_accuracy": model.loo_accuracy_,
        "test_accuracy": float(model.score(X_test, y_test)),
        "penalty": model.penalty_,
        "bandwidth": model.bandwidth_,
    }
    print(json.dumps(result))


def million() -> dict[str, Any]:
    """Fit a million samples from a file of 2.6 GB, with less memory than that file."""
    folder = Path(tempfile.mkdtemp(prefix="million"))
    path = folder / "features.float16"
    labels = []
    try:
        with path.open("wb") as file:
            for seed in range(MILLION // 20_000):
                X, y = features(20_000, seed=seed + 2)
                X.astype(np.float16).tofile(file)
                labels.append(y)
        np.save(f"{path}.labels.npy", np.concatenate(labels))
        command = [sys.executable, __file__, "--million-fit", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        for name in folder.iterdir():
            name.unlink()
        folder.rmdir()
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rate = (result["matmul_rate_before"] + result["matmul_rate_after"]) / 2
    result["share_of_matmul_rate"] = result["rate"] / rate
    common.print_table(
        "a million samples, 4,000 centers, float16 features in a file",
        ["minutes", "GFLOP/s", "share of matmul (reach 0.6)", "peak GB (reach 3)", "test accuracy"],
        [
            [
                result["seconds"] / 60,
                result["rate"] / 1e9,
                result["share_of_matmul_rate"],
                result["peak_bytes"] / 1e9,
                result["test_accuracy"],
            ]
        ],
    )
    return result


# -------------------------------------------------------------------------------------- peers


def peer_fits(X: NDArray[np.float32], y: NDArray[np.intp]) -> dict[str, Callable[[], Any]]:
    """Return the methods by name, each a function that tunes and fits; slow ones for small n."""
    n, m = len(y), min(len(y), 2_000)
    gammas = [0.125, 0.5, 2.0]  # around 1 / (2 median^2), as ours
    coded = 2.0 * (y[:, None] == np.arange(C)) - 1.0

    def nystroem(gamma: float) -> Any:
        steps = Nystroem(gamma=gamma, n_components=m, random_state=0)
        return make_pipeline(steps, RidgeClassifierCV(alphas=np.logspace(-4, 2, 7))).fit(X, y)

    def grid(model: Any, parameters: dict[str, Any], cv: Any = common.FOLDS) -> Any:
        return GridSearchCV(model, parameters, cv=cv, n_jobs=-1)

    fits: dict[str, Callable[[], Any]] = {
        "toptune": lambda: KernelClassifier(random_state=0).fit(X, y),
        "toptune, 2000 centers": lambda: KernelClassifier(n_centers=m, random_state=0).fit(X, y),
        "Nystroem + RidgeClassifierCV": lambda: max(
            (nystroem(gamma) for gamma in gammas), key=lambda model: model[-1].best_score_
        ),
        "LogisticRegression": lambda: grid(
            LogisticRegression(max_iter=1000), {"C": [1, 10, 100, 1000]}
        ).fit(X, y),
    }
    if n <= 5_000:  # beyond, an hour or more
        fits["SVC"] = lambda: grid(SVC(), {"C": [1, 10, 100], "gamma": gammas}).fit(X, y)
        fits["KernelRidge"] = lambda: grid(
            KernelRidge(kernel="rbf"), {"alpha": [1e-3, 1e-2, 1e-1, 1.0], "gamma": gammas}, cv=3
        ).fit(X, coded)
    return fits


def peers() -> dict[str, Any]:
    """Time and accuracy against n: each method tuned by cross-validation or leave-one-out."""
    X_test, y_test = features(5_000, seed=10**6)
    rows = []
    for n in (500, 2_000, 5_000, 20_000):
        X, y = features(n, seed=1)
        for name, fit in peer_fits(X, y).items():
            seconds, model = common.timed(fit)
            found = model.predict(X_test)
            found = found.argmax(1) if found.ndim == 2 else found
            accuracy = float(np.mean(found == y_test))
            rows.append({"n": n, "method": name, "seconds": seconds, "accuracy": accuracy})
            common.console.print(f"{n:>8} {name:32} {seconds:8.2f} s {accuracy:.4f}")
    common.print_table("peers", list(rows[0]), [list(row.values()) for row in rows])
    plot(rows)
    return {"rows": rows}


def plot(rows: list[dict[str, Any]]) -> None:
    """Draw time against n and accuracy against time."""
    import matplotlib.pyplot as plt

    names = sorted({row["method"].split(",")[0] for row in rows})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for name in names:
        mine = [row for row in rows if row["method"] == name]
        n, s, a = ([row[key] for row in mine] for key in ("n", "seconds", "accuracy"))
        width = 2.5 if name == "toptune" else 1.2
        left.plot(n, s, "o-", label=name, linewidth=width)
        right.plot(s, a, "o-", label=name, linewidth=width)
    left.set(xscale="log", yscale="log", xlabel="samples", ylabel="seconds, tuning included")
    right.set(xscale="log", xlabel="seconds, tuning included", ylabel="accuracy on 5,000 others")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parent / "results" / "solver.svg")
    plt.close(figure)


PARTS = {
    "direct": direct,
    "exact": exact,
    "iteration": iteration,
    "growth": growth,
    "million": million,
    "peers": peers,
}


def main() -> None:
    """Run the parts that are asked for and keep the others' results."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--million-fit", metavar="FILE", help="used by the part million")
    arguments = parser.parse_args()
    if arguments.million_fit:
        million_fit(arguments.million_fit)
        return
    path = Path(__file__).parent / "results" / "solver.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.parts or PARTS:
        results[name] = PARTS[name]()
        results.pop("measured_on", None)
        common.write_json("solver", results)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main()
