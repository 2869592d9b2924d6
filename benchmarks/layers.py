"""Features of many layers against the last layer alone, and what leave-one-out promises.

    TOPTUNE_DATA=folder python benchmarks/layers.py            everything; half an hour on two cores
    TOPTUNE_DATA=folder python benchmarks/layers.py rate       the speed of extraction alone

Every data set with its own train/test split, else three stratified 70/30 splits, embedded
EfficientNet-Lite 0. What is chosen (weights of layers, bandwidth, penalty) is chosen on the
training part by leave-one-out, of whole groups where file names tell of groups. The test part is
looked at once. The design itself (which layers, poolings, normalisation, prior) was chosen on
splits of the training parts: benchmarks/what-was-tried.md has the numbers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit

from toptune import TopTuner
from toptune.features import Features, extract, load_backbone, make_engine
from toptune.images import open_images

#: What is compared: name -> parameters of TopTuner.
ARMS: dict[str, dict[str, Any]] = {
    "last": {"layers": "last", "view": "center"},
    "auto": {},
}
SMALL = (50, 100, 200)
RESULTS = Path(__file__).parent / "results" / "layers.json"


def measured(features: Features, train: Any, test: Any, arm: dict[str, Any]) -> dict[str, Any]:
    """Fit on one part, look at the other."""
    tuner = TopTuner(**arm)
    tuner.fit_features(features.subset(train))
    found = tuner.evaluate_features(features.subset(test))
    return {
        "n": len(train),
        "accuracy": found.accuracy,
        "loo_accuracy": tuner.loo_.accuracy,
        "log_loss": found.log_loss,
        "seconds": tuner.seconds_["select"] + tuner.seconds_["fit"],
        "layer_weights": tuner.layer_weights_,
    }


def small_parts(labels: Any, n: int) -> Any:
    """Yield three stratified parts of n training images."""
    for seed in range(3):
        part, _ = next(
            StratifiedShuffleSplit(1, train_size=n, random_state=seed).split(labels, labels)
        )
        yield seed, np.sort(part)


def accuracies() -> list[dict[str, Any]]:
    """Measure every arm on every task, on all of the training part and on small parts of it."""
    records: list[dict[str, Any]] = []
    for arm, parameters in ARMS.items():
        backbone = load_backbone(
            layers=parameters.get("layers", TopTuner().layers),
            view=parameters.get("view", TopTuner().view),
        )
        for task in common.tasks(backbone=backbone):
            key = {"dataset": task.dataset, "seed": task.seed, "arm": arm}
            whole = measured(task.features, task.train, task.test, parameters)
            records.append({**key, "part": "all", **whole})
            line = f"{arm:6} {task.dataset:20} {task.seed!s:5} {whole['accuracy']:.4f}"
            common.console.print(f"{line} leave-one-out {whole['loo_accuracy']:.4f}")
            if task.seed:
                continue
            alone = replace(task.features, groups=None)
            labels = task.features.labels[task.train]
            if task.features.groups is not None:
                single = measured(alone, task.train, task.test, parameters)
                records.append({**key, "part": "all, images one by one", **single})
            for n in SMALL:
                if n >= len(task.train) or n < 2 * len(set(labels)):
                    continue
                for seed, part in small_parts(labels, n):
                    found = measured(alone, task.train[part], task.test, parameters)
                    records.append({**key, "seed": seed, "part": f"n = {n}", **found})
    return records


def rate() -> dict[str, Any]:
    """Images per second of the network alone with all taps against the last layer alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    engines = {
        "last": make_engine(load_backbone(layers="last")),
        "auto": make_engine(load_backbone(layers="auto")),
        "mirrored": make_engine(load_backbone(layers="auto", view="mirrored")),
    }
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        list(engine.run([pixels] * 8))
    for _ in range(15):  # in turns, so that a slow minute of the machine meets all of them
        for name, engine in engines.items():
            seconds, _ = common.timed(lambda e=engine: list(e.run([pixels] * 24)))
            rates[name].append(96 / seconds)
    ratio = {
        name: float(np.median(np.array(values) / rates["last"])) for name, values in rates.items()
    }
    out = {name: float(np.median(values)) for name, values in rates.items()}
    common.print_table(
        "extraction, network alone",
        ["features", "images/s", "against last layer (reach 0.85)"],
        [[name, out[name], ratio[name]] for name in engines],
    )
    columns = load_backbone(layers="auto").n_features
    return {"images_per_second": out, "ratio": ratio, "bytes_per_image": 2 * columns}


def times() -> list[dict[str, Any]]:
    """Measure selection and fit against extraction: images of all data sets, to be told apart."""
    X, y = [], []
    backbone = load_backbone(layers="auto", view="whole")
    for task in common.tasks(seeds=(0,), backbone=backbone):
        X.append(task.features.X)
        y += [task.dataset] * len(task.features)
        layers, provenance = task.features.layers, task.features.provenance
    order = np.random.default_rng(0).permutation(len(y))
    whole = Features(
        X=np.concatenate(X),
        ids=tuple(map(str, range(len(y)))),
        labels=np.array(y),
        layers=layers,
        provenance=provenance,
    )
    files = open_images(common.data_root() / "clothing", split="train")
    extract(files.subset(range(32)), backbone, cache=None)
    seconds, _ = common.timed(lambda: extract(files, backbone, cache=None))
    per_image = seconds / len(files)
    rows = []
    for n in (1_000, 3_000, 10_000):
        part = whole.subset(order[:n])
        extraction = n * per_image
        tuner = TopTuner().fit_features(part)
        fit = tuner.seconds_["select"] + tuner.seconds_["fit"]
        rows.append(
            {"n": n, "centers": tuner.head_.n_centers_, "fit": fit, "extraction": extraction}
        )
    common.print_table(
        "selection and fit against extraction, files to features",
        ["n", "centers", "selection and fit s", "extraction s", "ratio (reach 0.25)"],
        [[*row.values(), row["fit"] / row["extraction"]] for row in rows],
    )
    return rows


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the means over data sets."""

    def mean(key: str, **wanted: Any) -> dict[str, float]:
        rows = [r for r in records if all(r[k] == v for k, v in wanted.items())]
        names = dict.fromkeys(r["dataset"] for r in rows)
        return {d: float(np.mean([r[key] for r in rows if r["dataset"] == d])) for d in names}

    table = {arm: mean("accuracy", arm=arm, part="all") for arm in ARMS}
    loo = mean("loo_accuracy", arm="auto", part="all")
    rows = []
    for d in table["auto"]:
        gain = table["auto"][d] - table["last"][d]
        rows.append([d, table["last"][d], table["auto"][d], gain, loo[d]])
    last, auto = (np.array(list(table[arm].values())) for arm in ("last", "auto"))
    out: dict[str, Any] = {
        "last": float(last.mean()),
        "auto": float(auto.mean()),
        "gain": float((auto - last).mean()),
        "worst": float((auto - last).min()),
        "loo_error": float(np.mean([abs(loo[d] - table["auto"][d]) for d in loo])),
        "loo_bias": float(np.mean([loo[d] - table["auto"][d] for d in loo])),
    }
    rows.append(["MEAN", out["last"], out["auto"], out["gain"], float(np.mean([*loo.values()]))])
    columns = ["data set", "last", "auto", "gain", "leave-one-out (auto)"]
    common.print_table("test accuracy", columns, rows)
    for n in SMALL:
        few = {arm: mean("accuracy", arm=arm, part=f"n = {n}") for arm in ARMS}
        means = {arm: float(np.mean([*values.values()])) for arm, values in few.items()}
        out[f"n = {n}"] = {**means, "data sets": len(few["auto"])}
    common.console.print(json.dumps(out, indent=1))
    return out


def main() -> None:
    """Measure what was asked for, and keep the rest of the results."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="accuracy, rate, times; summary: nothing new")
    wanted = parser.parse_args().parts or ["accuracy", "rate", "times"]
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content.pop("measured_on", None)
    if "accuracy" in wanted:
        content["records"] = accuracies()
    if "rate" in wanted:
        content["rate"] = rate()
    if "times" in wanted:
        content["times"] = times()
    if "records" in content:
        content["summary"] = summary(content["records"])
    common.write_json("layers", content)


if __name__ == "__main__":
    main()
