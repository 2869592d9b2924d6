"""The `toptune` command: its sub-commands, and what happens to errors.

Exit codes: 0 done, 2 something the user can mend (one line on standard error), 130 interrupted,
1 a defect of toptune. `--debug` anywhere on the line shows the traceback, under the same codes.

Heavy libraries are imported inside the commands, so that `toptune --help` answers at once.
"""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from toptune import __version__
from toptune.cli import (
    audit,
    changes,
    compare,
    data,
    datasets,
    doctor,
    explain,
    model,
    report,
    study,
)
from toptune.errors import ToptuneError


def _interruptible(
    command: Callable[..., None], *, kept: str = "what was extracted is kept in the cache"
) -> Callable[..., None]:
    """`command` with an exit code and a line of its own for Ctrl-C, which Typer would swallow."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            print(f"interrupted; {kept}", file=sys.stderr)
            raise typer.Exit(130) from None

    return run


app = typer.Typer(
    name="toptune",
    help="Image classification with a frozen network and a fast kernel classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
)
for command in (
    model.fit,
    model.evaluate,
    model.predict,
    changes.update,
    changes.forget,
    changes.merge,
    explain.explain,
    report.report,
    audit.audit,
    data.features,
    data.backbones,
    doctor.demo,
    doctor.doctor,
):
    app.command()(_interruptible(command))
app.command()(
    _interruptible(
        compare.compare, kept="the same command goes on from the last epoch of fine-tuning"
    )
)

app.command()(_interruptible(datasets.datasets, kept="what was fetched as a whole is kept"))

studies = typer.Typer(
    help="Many training processes over many data sets, resumable, and what they say.",
    no_args_is_help=True,
)
for part in (study.run, study.status, study.report):
    kept = "what has ended is recorded, and the same command goes on from there"
    studies.command()(_interruptible(part, kept=kept))
app.add_typer(studies, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"toptune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Image classification with a frozen network and a fast kernel classifier."""


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line and leave with its exit code."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if not debug:
        warnings.showwarning = _show_warning
    try:
        app()
    except ToptuneError as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
