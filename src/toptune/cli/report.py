"""`toptune report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.reports.model import Report

#: Errors and labels printed; the page and the JSON have more.
_SHOWN = 5


def report(
    model: options.Model,
    out: options.Page = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images to measure on, as for evaluate; by default the training images, "
            "each by the model fitted without it."
        ),
    ] = None,
    labels: options.Labels = None,
    split: options.Split = None,
    no_curve: Annotated[
        bool, typer.Option("--no-curve", help="Leave out the learning curve, which takes longest.")
    ] = False,
    images: options.TrainingImages = None,
    backbone: options.OtherBackbone = None,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Evaluate a model: accuracy, confusions, probabilities, errors, doubtful labels."""
    output.check_output(out, overwrite=overwrite)
    options.limit_pixels(max_pixels)
    from toptune.reports.model import build_report, report_page
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone)
    folders = options.image_folders(images, tuner.provenance_)
    found = build_report(
        tuner, data, labels, split=split, curve=not no_curve, image_folders=folders
    )
    name = model.name
    output.deliver(found, _print, json=json, out=out, page=lambda: report_page(found, model=name))


def _print(found: Report) -> None:
    """Print the headline, and what to look at first."""
    evaluation, (low, high) = found.evaluation, found.interval
    images = f"{evaluation.n}"
    if found.n_groups is not None:
        images += f" in {found.n_groups} groups"
    curve = found.no_curve if found.curve is None else found.curve.forecast
    suspected = f"{found.n_suspected} of {found.n_images} training images"
    numbers = [
        ("measured on", found.data or found.source),
        ("images", images),
        ("accuracy", f"{evaluation.accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}"),
        ("balanced accuracy", f"{evaluation.balanced_accuracy:.4f}"),
        ("calibration error", f"{evaluation.ece:.4f}"),
        ("learning curve", curve),
        ("suspected labels", found.no_leave_one_out or suspected),
    ]
    if found.weak_evidence:
        numbers.append(("which mean little", found.weak_evidence))
    output.print_rows(numbers)
    output.print_confusion(evaluation)
    for what, rows in (
        ("errors that the model is most sure of", found.errors),
        ("labels to look at", found.suspected),
    ):
        if rows:
            output.console.print(f"[bold]{what}[/bold]")
        for row in rows[:_SHOWN]:
            line = f"  {row.id}  {row.predicted} {row.probability:.3f}, labelled {row.label}"
            output.print_line(line)
    output.print_quarantine(found.quarantined)
