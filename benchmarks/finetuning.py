"""Fine-tuning all weights of the same network on the same splits that the kernel head is given.

    TOPTUNE_DATA=folder python benchmarks/finetuning.py --epochs 15 --learning-rate 0.001

One record per data set and split is written to results/finetuning.json as soon as it is done, small
data sets first; what is recorded with the same settings is not done again. Accuracy on the test
part is looked at once, at the end of training.
"""

from __future__ import annotations

import fcntl
import json
import time
import warnings
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

from toptune.finetune import FineTuner
from toptune.measuring import processor
from toptune.study.datasets import dataset_info

RESULTS = Path(__file__).parent / "results" / "finetuning.json"

#: What makes two records the same measurement.
KEY = ("dataset", "seed", "mode", "epochs", "learning_rate", "random_state")


def read_records() -> list[dict[str, Any]]:
    """Return what has been measured so far."""
    if not RESULTS.exists():
        return []
    records: list[dict[str, Any]] = json.loads(RESULTS.read_text())["records"]
    return records


def add_record(record: dict[str, Any]) -> None:
    """Write one more record; several processes may, and readers see the old file or the new one."""
    about = {"versions": common.library_versions(), "processor": processor()}
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = {"records": [*read_records(), record], "measured_on": about}
        part = RESULTS.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(RESULTS)


def measured(task: common.ImageTask, settings: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Train on one task, and look at the test part."""
    tuner = FineTuner(
        **settings, flip=dataset_info(task.dataset).flip, checkpoint=checkpoint, strict=True
    )
    tuner.fit(task.train)
    start = time.perf_counter()
    found = tuner.evaluate(task.test)
    return {
        "dataset": task.dataset,
        "seed": task.seed,
        **settings,
        "chosen_learning_rate": tuner.learning_rate_,
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "log_loss": found.log_loss,
        "n_train": len(task.train),
        "n_test": found.n,
        "classes": len(tuner.classes_),
        "threads": torch.get_num_threads(),
        "seconds": {**tuner.seconds_, "predict": time.perf_counter() - start},
        "loss": [row["loss"] for row in tuner.history_],
    }


def main() -> None:
    """Measure what is not recorded yet."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=FineTuner().epochs)
    parser.add_argument("--learning-rate", default="auto", help="a number, or auto")
    parser.add_argument("--mode", default="full")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2], help="of random splits")
    parser.add_argument("--random-state", type=int, default=0, help="of the training")
    parser.add_argument("--threads", type=int, help="of PyTorch; 1 on a busy machine")
    parser.add_argument("--datasets", nargs="*", help="only these")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore")
    auto = given.learning_rate == "auto"
    settings = {
        "mode": given.mode,
        "epochs": given.epochs,
        "learning_rate": "auto" if auto else float(given.learning_rate),
        "random_state": given.random_state,
    }
    tasks = list(common.image_tasks(seeds=given.seed))
    for task in sorted(tasks, key=lambda task: len(task.train)):
        name = {"dataset": task.dataset, "seed": task.seed, **settings}
        done = [[record[key] for key in KEY] for record in read_records()]
        if [name[key] for key in KEY] in done or task.dataset not in (
            given.datasets or [task.dataset]
        ):
            continue
        words = [str(name[key]) for key in KEY]
        checkpoint = RESULTS.parent / f"finetuning-{'-'.join(words)}.checkpoint"
        record = measured(task, settings, checkpoint)
        add_record(record)
        times = "  ".join(f"{stage} {s:.0f} s" for stage, s in record["seconds"].items())
        common.console.print(
            f"{task.dataset} {task.seed}: {record['accuracy']:.4f}  n={record['n_train']}  {times}"
        )
    print_summary(settings)


def print_summary(settings: dict[str, Any]) -> None:
    """Print the mean accuracy per data set with these settings."""
    wanted = [r for r in read_records() if all(r[k] == v for k, v in settings.items())]
    rows = []
    for dataset in sorted({r["dataset"] for r in wanted}):
        own = [r for r in wanted if r["dataset"] == dataset]
        seconds = float(np.mean([r["seconds"]["fit"] for r in own]))
        rows.append(
            [dataset, own[0]["n_train"], float(np.mean([r["accuracy"] for r in own])), seconds]
        )
    if rows:
        rows.append(["MEAN", "", *(float(np.mean([row[k] for row in rows])) for k in (2, 3))])
    common.print_table(
        f"fine-tuning {settings}", ["data set", "images", "accuracy", "seconds"], rows
    )


if __name__ == "__main__":
    main()
