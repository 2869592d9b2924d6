"""Write the golden files anew:  PYTHONPATH=src OMP_NUM_THREADS=1 python tests/golden/make_golden.py

Only when the format of a file changes its version, or a command gets another JSON on purpose: these
files are what later versions must read and reproduce. A changed order of sums is no reason; such a
result is named in `golden_comparison.REORDERED`. With names of commands as arguments only their
JSON is written anew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=tempfile.mkdtemp(prefix="toptune-hub-"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from golden_commands import COMMANDS, run_command, run_line, without_paths
from golden_comparison import fingerprint, stored_results, without_volatile
from golden_material import FILES, NETWORK, write_workspace
from golden_models import (
    CASES,
    FEATURE_FILES,
    RECIPES,
    fine_tuned_answers,
    fine_tuned_model,
    fitted_case,
    model_answers,
)
from numpy.typing import NDArray


def write_models() -> None:
    """Write feature files, models and what is expected of them."""
    from safetensors.numpy import save_file

    for name, arguments in FEATURE_FILES.items():
        path = str(FILES / f"{name}.safetensors")
        run_line(["features", *arguments, "--backbone", NETWORK, "--overwrite", "-o", path])
    arrays: dict[str, NDArray[Any]] = {}
    for name, recipe in RECIPES.items():
        model = recipe.make()
        model.save(FILES / f"{name}.toptune", keep=recipe.keep)
        for key, value in model_answers(model, recipe.probe).items():
            arrays[f"model/{name}/{key}"] = value
    fine_tuned_model().save(FILES / "trained.finetuned")
    arrays |= {f"fine-tuned/{key}": value for key, value in fine_tuned_answers().items()}
    for name, case in CASES.items():
        arrays |= {f"head/{name}/{key}": value for key, value in fitted_case(case).items()}
    # Writing takes an array for a block of memory, which a column of a matrix is not.
    contiguous = {key: np.asarray(value, order="C") for key, value in arrays.items()}
    save_file(contiguous, FILES / "expected.safetensors")


def command_results(names: list[str], folder: Path) -> dict[str, Any]:
    """Run commands, and return their JSON without what no two runs share."""
    return {
        name: without_volatile(without_paths(run_command(name, str(folder / f"{name}.out"))))
        for name in names
    }


def main(names: list[str]) -> None:
    """Write all golden files, or the JSON of the commands `names`."""
    FILES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "work").mkdir()
        write_workspace(folder / "work")
        os.environ["TOPTUNE_CACHE"] = str(folder / "work" / "cache")
        os.environ["TOPTUNE_DATA"] = str(folder / "work" / "none")
        os.chdir(folder / "work")
        if names:
            known = stored_results()["commands"] | command_results(names, folder)
        else:
            write_models()
            known = command_results(list(COMMANDS), folder)
    results = {"fingerprint": fingerprint(), "commands": {name: known[name] for name in COMMANDS}}
    (FILES / "expected.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
