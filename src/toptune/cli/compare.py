"""`toptune compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.reports.comparison import Comparison


def compare(
    data: options.Data,
    out: options.Page = None,
    backbone: options.Backbone = "efficientnet_lite0",
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Minutes that fine-tuning may take. First it loses the choice of its learning "
            "rate, then epochs; below three it is skipped. By default it takes what it needs, and "
            "says beforehand how long that is.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning.")] = 15,
    no_flip: Annotated[
        bool,
        typer.Option(
            "--no-flip",
            help="Do not fine-tune on mirror images: for letters, digits, and whatever else means "
            "something different in a mirror.",
        ),
    ] = False,
    no_fine_tuning: Annotated[
        bool, typer.Option("--no-fine-tuning", help="Top-tuning and its learning curve only.")
    ] = False,
    labels: options.Labels = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Compare top-tuning with fine-tuning on the same images: accuracy and cost.

    Training is on the train split, the comparison on the test split (else val) where DATA has them;
    otherwise a random quarter of the images is held out.
    """
    output.check_output(out, overwrite=overwrite)
    options.limit_pixels(max_pixels)
    from toptune.reports.comparison import compare as run
    from toptune.reports.comparison import comparison_page

    found = run(
        data,
        labels,
        backbone=backbone,
        budget=budget,
        epochs=epochs,
        flip=not no_flip,
        fine_tuning=not no_fine_tuning,
        random_state=seed,
        report=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    output.deliver(
        found, _print, json=json, out=out, page=lambda: comparison_page(found, data=data)
    )


def _print(found: Comparison) -> None:
    """Print both methods, their difference, the learning curve and the verdict."""
    from toptune.reports.comparison import page
    from toptune.runtime.energy import energy_available

    output.print_quarantine(found.quarantined)
    names = ("", "top-tuning", "fine-tuning")
    _print_table(names, page.method_rows(found, seconds=output.seconds), first="left")
    if not energy_available():
        output.console.print("[dim]energy: not measured, codecarbon is not installed[/dim]")
    if difference := page.difference_text(found):
        output.console.print(difference)
    output.console.print()
    heads = ("top-tuning on", page.left_out_name(found), "test images")
    _print_table(heads, page.curve_rows(found), first="right")
    output.console.print(f"learning curve: {found.curve.forecast}", markup=False)
    output.console.print()
    output.console.print(found.verdict, markup=False)


def _print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, first: Literal["left", "right"]
) -> None:
    """Print a table without lines, as many columns of it as the rows have."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads[: len(rows[0])]):
        table.add_column(head, justify="right" if i else first)
    for row in rows:
        table.add_row(*row)
    output.console.print(table)
