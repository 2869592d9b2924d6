"""The command lines whose JSON is pinned, each run in a workspace on stored models."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from golden_material import FILES, NETWORK

_NET = ("--backbone", NETWORK)
_LAST = (*_NET, "--layers", "last")


def _model(name: str) -> str:
    return str(FILES / f"{name}.toptune")


#: Each writes to a new file or none, and needs none of the others to have run.
COMMANDS: dict[str, tuple[str, ...]] = {
    "fit": ("fit", "digits", *_LAST, "-o", "OUT"),
    "fit_layers": ("fit", "digits", *_NET, "--layers", "blocks.3,last", "-o", "OUT"),
    "fit_flawed": ("fit", "flawed", *_LAST, "--near-duplicates", "-o", "OUT"),
    "fit_sets": ("fit", "sets.csv", *_LAST, "-o", "OUT"),
    "fit_numbers": ("fit", "numbers.csv", *_LAST, "-o", "OUT"),
    "fit_centers": ("fit", "groups.csv", *_LAST, "--centers", _model("nystrom_sums"), "-o", "OUT"),
    "evaluate": ("evaluate", _model("exact"), "digits"),
    "evaluate_costs": ("evaluate", _model("exact"), "digits", "--costs", "costs.csv"),
    "evaluate_recall": ("evaluate", _model("exact"), "digits", "--recall", "one=0.9"),
    "evaluate_sets": ("evaluate", _model("exact_sets"), "sets.csv"),
    "evaluate_numbers": ("evaluate", _model("exact_numbers"), "numbers.csv"),
    "predict": ("predict", _model("nystrom_nothing"), "digits/test", "--top", "2"),
    "predict_flawed": ("predict", _model("exact"), "flawed"),
    "predict_costs": ("predict", _model("exact"), "digits/test/one", "--costs", "costs.csv"),
    "predict_maximize": ("predict", _model("exact"), "digits/test/one", "--maximize", "macro-f1"),
    "predict_cautious": (
        *("predict", _model("nystrom_groups"), "digits/test/one", "more"),
        *("--coverage", "0.8", "--reject", "0.1"),
    ),
    "predict_sets": ("predict", _model("nystrom_sets"), "digits/test", "--threshold", "dark=0.4"),
    "predict_numbers": (
        *("predict", _model("nystrom_numbers"), "digits/test", "--coverage", "0.8"),
    ),
    "features": ("features", "flawed", *_LAST, "-o", "OUT"),
    "features_layers": ("features", "digits", *_NET, "--layers", "blocks.3,last", "-o", "OUT"),
    "update": ("update", _model("nystrom_rows"), "more", "-o", "OUT"),
    "update_nothing_kept": (
        *("update", _model("exact"), "more", "--reselect", "--keep", "nothing", "-o", "OUT"),
    ),
    "forget": ("forget", _model("nystrom_rows"), "train/one/0.png", "train/two/1.png", "-o", "OUT"),
    "forget_list": ("forget", _model("nystrom_sums"), "--list"),
    "merge": (
        *("merge", _model("site_north"), _model("site_south")),
        *("--prefix", "a/", "--prefix", "b/", "--reselect", "-o", "OUT"),
    ),
    "audit": ("audit", "flawed", *_LAST, "--limit", "3"),
    "audit_splits": ("audit", "digits", *_LAST, "--limit", "3"),
    "report": ("report", _model("exact"), "--images", "digits"),
    "report_data": ("report", _model("nystrom_rows"), "--data", "digits", "--no-curve"),
    "report_groups": ("report", _model("nystrom_groups"), "--no-curve"),
    "explain": ("explain", _model("exact"), "digits/test/one/3.png", "--cells", "2"),
    "explain_label": (
        *("explain", _model("nystrom_rows"), "digits/test/one/3.png", "--cells", "2"),
        *("--label", "zero", "--n-images", "2"),
    ),
    "compare": ("compare", "digits", *_NET, "--no-fine-tuning"),
    "compare_fine_tuning": ("compare", "digits", *_NET, "--epochs", "1", "--no-flip"),
    "doctor": ("doctor", *_NET),
    "doctor_plan": ("doctor", "--plan", "5000,1280,10", "--memory", "2", "--centers", "500"),
    "backbones": ("backbones",),
    "datasets": ("datasets",),
    "study_status": ("study", "status", "study"),
}


#: Those that measure, or that start processes.
SLOW = {"compare", "compare_fine_tuning"}


def run_command(name: str, out: str) -> dict[str, Any]:
    """Run a command in this process and in the current folder; return the JSON that it printed.

    Parameters
    ----------
    name : str
        A key of `COMMANDS`.
    out : path
        File for what the command writes.
    """
    printed = run_line([out if part == "OUT" else part for part in COMMANDS[name]] + ["--json"])
    assert printed.count("\n") == 1, printed
    found: dict[str, Any] = json.loads(printed)
    return found


def run_line(arguments: list[str]) -> str:
    """Run a command line as the script `toptune` does, and return its standard output."""
    from toptune.cli import main

    given, shown, printed = sys.argv, warnings.showwarning, StringIO()
    sys.argv = ["toptune", *arguments]
    try:
        with redirect_stdout(printed):
            main()
    except SystemExit as left:
        assert not left.code, (left.code, printed.getvalue())
    finally:
        sys.argv, warnings.showwarning = given, shown
    return printed.getvalue()


def without_paths(content: Any) -> Any:
    """Return JSON with the current folder, and the folder of the golden files, named by words."""
    if isinstance(content, dict):
        return {key: without_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_paths(value) for value in content]
    if isinstance(content, str):
        return content.replace(str(Path.cwd()), "WORKSPACE").replace(str(FILES), "FILES")
    return content
