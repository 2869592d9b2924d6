"""`toptune compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.reports.comparison import Comparison, MethodOutcome

_STAGES = {
    "load": "loading and converting the network",
    "decode_extract": "decoding and extraction",
    "decode": "decoding",
    "select": "choosing hyperparameters",
    "fit": "training",
}


def compare(
    data: options.Data,
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
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Compare top-tuning with fine-tuning on the same images: accuracy and cost.

    Training is on the train split, the comparison on the test split (else val) where DATA has them;
    otherwise a random quarter of the images is held out.
    """
    options.limit_pixels(max_pixels)
    from toptune.reports.comparison import compare as run

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
    if json:
        output.print_json(found.to_dict())
        return
    output.print_quarantine(found.quarantined)
    _print_methods(found)
    _print_difference(found)
    output.console.print()
    _print_curve(found)
    output.console.print()
    output.console.print(found.verdict, markup=False)


def _print_methods(found: Comparison) -> None:
    """Print a table with one column per method."""
    from rich.table import Table

    from toptune.reports.html.text import energy
    from toptune.runtime.energy import energy_available

    both = [m for m in (found.top_tuning, found.fine_tuning) if m is not None]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("top-tuning", "fine-tuning")[: len(both)]:
        table.add_column(name, justify="right")
    table.add_row("accuracy", *(f"{method.accuracy:.4f}" for method in both))
    for stage, name in _STAGES.items():
        if any(stage in method.seconds for method in both):
            table.add_row(name, *(_stage(method, stage) for method in both))
    table.add_row("training, in all", *(output.seconds(m.total_seconds) for m in both))
    table.add_row("predicting the test images", *(output.seconds(m.predict_seconds) for m in both))
    table.add_row("memory at the peak", *(f"{m.peak_memory / 1e6:,.0f} MB" for m in both))
    if energy_available():
        used = ("not known" if m.energy_kwh is None else energy(m.energy_kwh) for m in both)
        table.add_row("energy, estimated", *used)
    output.console.print(table)
    if not energy_available():
        output.console.print("[dim]energy: not measured, codecarbon is not installed[/dim]")


def _print_difference(found: Comparison) -> None:
    """Print how sure the difference of the accuracies is."""
    if (difference := found.difference) is None:
        return
    units = f"{difference.n} images"
    if found.n_test_groups is not None:
        units += f" in {found.n_test_groups} groups"
    output.console.print(
        f"difference {100 * difference.difference:+.1f} points, 95 % interval "
        f"{100 * difference.low:.1f} to {100 * difference.high:.1f}, exact p "
        f"{difference.p_value:.2g}, over {units}"
    )


def _stage(method: MethodOutcome, stage: str) -> str:
    taken = method.seconds.get(stage, 0.0)
    return output.seconds(taken) if taken else ""


def _print_curve(found: Comparison) -> None:
    """Print what top-tuning does with fewer images, and would do with more."""
    from rich.table import Table

    grouped = found.n_test_groups is not None
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    left_out = "leave-one-group-out" if grouped else "leave-one-out"
    for column in ("top-tuning on", left_out, "test images"):
        table.add_column(column, justify="right")
    for point in found.curve.points:
        table.add_row(
            f"{point.n:.0f} images", f"{point.loo_accuracy:.4f}", f"{point.test_accuracy:.4f}"
        )
    output.console.print(table)
    output.console.print(f"learning curve: {found.curve.forecast}", markup=False)
