"""The `toptune` command: its sub-commands, and what happens to errors.

Exit codes: 0 done, 2 something the user can mend (one line on standard error), 130 interrupted,
1 a defect of toptune. `--debug` anywhere on the line shows the traceback, under the same codes.

Heavy libraries are imported inside the commands, so that `toptune --help` answers at once.

Other packages add commands by an entry point of the group `toptune.commands`. It names a function
that takes the Typer application; its module must import heavy libraries only inside functions.
"""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated

import typer

from toptune import __version__
from toptune.cli import changes, doctor, model, reports
from toptune.errors import ToptuneError


def interruptible(
    command: Callable[..., None], *, kept: str = "what was extracted is kept in the cache"
) -> Callable[..., None]:
    """Wrap a command: Ctrl-C, which Typer would swallow, prints what is kept and exits with 130."""

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
    reports.explain,
    reports.report,
    reports.audit,
    model.features,
    doctor.backbones,
    doctor.demo,
    doctor.doctor,
):
    app.command()(interruptible(command))
app.command()(
    interruptible(
        reports.compare, kept="the same command goes on from the last epoch of fine-tuning"
    )
)


@cache
def application() -> typer.Typer:
    """Return the application with the commands that other packages add by entry points."""
    for point in entry_points(group="toptune.commands"):
        point.load()(app)
    return app


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
        application()()
    except ToptuneError as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
