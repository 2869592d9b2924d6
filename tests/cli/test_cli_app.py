"""The command itself: help, version, exit codes, warnings, what goes to which stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from toptune import __version__

Toptune = Callable[..., Any]

COMMANDS = ("fit", "evaluate", "predict", "features", "backbones", "demo", "doctor", "datasets")
ENTRY = "from toptune.cli import main; main()"


def in_own_process(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_installed_command_is_main() -> None:
    (script,) = entry_points(group="console_scripts", name="toptune")
    assert script.value == "toptune.cli:main"


def test_version(toptune: Toptune) -> None:
    done = toptune("--version")
    assert (done.code, done.out, done.err) == (0, f"toptune {__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(toptune: Toptune, flag: str) -> None:
    done = toptune(flag)
    assert done.code == 0
    assert done.err == ""
    for command in COMMANDS:
        assert command in done.out
    assert "--debug" in done.out


def test_alone_it_shows_its_help(toptune: Toptune) -> None:
    done = toptune()
    assert done.code in (0, 2)  # Typer has changed its mind about this code
    assert "Traceback" not in done.err
    for command in COMMANDS:
        assert command in done.out + done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(toptune: Toptune, command: str) -> None:
    done = toptune(command, "--help")
    assert done.code == 0
    assert "--json" in done.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--colour"], "--colour"),
        (["fit", "data", "-o", "m", "--colour"], "--colour"),
        (["train"], "train"),
        (["fit", "data"], "out"),
        (["fit", "-o", "m"], "data"),
        (["predict", "m"], "paths"),
        (["predict", "m", "a.png", "--top", "0"], "--top"),
        (["fit", "data", "-o", "m", "--seed", "one"], "--seed"),
        (["fit", "data", "-o", "m", "--max-pixels", "0"], "--max-pixels"),
    ],
)
def test_a_mistyped_line_is_a_user_error(
    toptune: Toptune, arguments: list[str], named: str
) -> None:
    done = toptune(*arguments)
    assert done.code == 2
    assert named in done.err.lower()
    assert done.out == ""
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "fit", "no/data", "-o", "m.toptune"],
        ["fit", "--debug", "no/data", "-o", "m.toptune"],
        ["fit", "no/data", "-o", "m.toptune", "--debug"],
    ],
)
def test_debug_anywhere_shows_the_traceback(
    toptune: Toptune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = toptune(*arguments)
    assert done.code == 2
    assert done.err.startswith("Traceback")
    assert "toptune.errors.DataError: 'no/data': no such file or folder" in done.err
    assert done.out == ""


def test_a_defect_keeps_its_traceback(
    toptune: Toptune, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("toptune.tuner.TopTuner.load", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        toptune("evaluate", model_file, ".")


def test_ctrl_c_in_a_command(
    toptune: Toptune, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toptune.tuner.TopTuner.load", interrupted)
    done = toptune("evaluate", model_file, ".")
    assert (done.code, done.out) == (130, "")
    assert done.err == "interrupted; what was extracted is kept in the cache\n"


def test_streams_of_a_real_process(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One JSON object on standard output, one line per warning on standard error, no bar."""
    monkeypatch.chdir(tmp_path)
    (tree / "dark" / "broken.png").write_bytes(b"no image")
    done = in_own_process("fit", tree, "-o", "kinds.toptune", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["n"] == 24
    assert done.stderr.splitlines() == [
        "warning: 1 image could not be read and is left out; the first, dark/broken.png: "
        "not an image, or its header is damaged"
    ]
    wrong = in_own_process("fit", tree, "-o", "kinds.toptune", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines() == [
        "error: kinds.toptune exists already: choose another name, or give --overwrite"
    ]


def test_a_reader_that_stops_early_is_no_defect() -> None:
    """`toptune --help | head -1` and the like."""
    with subprocess.Popen(
        [sys.executable, "-c", ENTRY, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
