"""How many cells of a study run in a minute: heads on features that were extracted before.

    python benchmarks/cells.py

Every head that does not train the network, on the last layer and on many, with 1,005 training
images of scikit-learn's digits and three seeds: the mix of heads that `studies/main` has. Processes
are one for each processor, as `toptune study run` starts them; their start counts.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import common
import numpy as np
import yaml

from toptune_study.heads import FINE_TUNING, HEADS
from toptune_study.records import Record, read_records
from toptune_study.runner import run_study

DATASET, SIZE, SEEDS = "digits", 0.8, [0, 1, 2]


def plan(heads: list[str]) -> dict[str, Any]:
    """Return a plan with some heads."""
    part = {
        "datasets": [DATASET],
        "heads": heads,
        "layers": ["last", "auto"],
        "sizes": [SIZE],
        "seeds": SEEDS,
    }
    return {"name": "cells", "parts": [part]}


def timed_run(folder: Path, heads: list[str]) -> tuple[float, list[Record]]:
    """Run what has no record yet; return the seconds, and the records that it gave."""
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan(heads)), encoding="utf-8")
    before = read_records(folder).keys()
    seconds, status = common.timed(lambda: run_study(folder))
    assert not status.failed, status.failed
    return seconds, [row for i, row in read_records(folder).items() if i not in before]


def main() -> None:
    """Extract the features, then time all heads."""
    common.parser(__doc__.splitlines()[0]).parse_args()
    heads = [head for head in HEADS if head not in FINE_TUNING]
    with tempfile.TemporaryDirectory() as name:
        timed_run(Path(name), ["centroid"])  # which extracts
        seconds, records = timed_run(Path(name), heads)
    found = defaultdict(list)
    for row in records:
        found[row["head"], row["layers"]].append(row["wall_seconds"])
    rows = [[head, layers, float(np.mean(found[head, layers]))] for head, layers in sorted(found)]
    rate = 60 * len(records) / seconds
    rows += [["cells per minute", "", rate]]
    n = records[0]["n_train"]
    common.print_table(f"{len(records)} cells, n = {n}", ["head", "layers", "seconds"], rows)
    common.write_json(
        "cells",
        {
            "n": n,
            "cells": len(records),
            "seconds": seconds,
            "cells_per_minute": rate,
            "seconds_by_head": {f"{head} {layers}": value for head, layers, value in rows[:-1]},
        },
    )


if __name__ == "__main__":
    main()
