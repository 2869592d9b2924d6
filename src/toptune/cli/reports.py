"""`toptune audit`, `report`, `explain` and `compare`: what there is about data and models."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.model.explanation import Explanation
    from toptune.reports.audit import Audit, AuditedImage
    from toptune.reports.comparison import Comparison
    from toptune.reports.model import Report

#: Findings printed of each kind; the page and the JSON have more.
_SHOWN = 10


def audit(
    data: options.Data,
    out: options.Page = None,
    labels: options.Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="Suspected labels to list.")] = 100,
    backbone: options.Backbone = "efficientnet_lite0",
    layers: options.Layers = "auto",
    view: options.View = "whole",
    resolution: options.Resolution = None,
    seed: options.Seed = 0,
    strict: options.Strict = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Look for wrong labels, copies with different labels, and copies in several splits."""
    output.check_output(out, overwrite=overwrite)
    from toptune.reports.audit import audit as look
    from toptune.reports.audit import audit_page
    from toptune.tuner import TopTuner

    network = options.network_choice(layers, view, resolution)
    tuner = TopTuner(backbone=backbone, strict=strict, random_state=seed, **network)
    found = look(data, labels, tuner=tuner, max_suspects=limit)
    output.deliver(
        found, _print_audit, json=json, out=out, page=lambda: audit_page(found, data=data)
    )


def _print_audit(found: Audit) -> None:
    """Print the numbers, and the first findings of each kind."""
    rows = [
        ("images", f"{found.n}, {len(found.classes)} classes"),
        ("leave-one-out agrees with", f"{found.loo_accuracy:.4f} of the labels"),
        ("suspected labels", str(found.n_suspects)),
        ("copies with different labels", f"{len(found.conflicts)} groups"),
    ]
    if found.weak_evidence:
        rows.insert(3, ("which mean little", found.weak_evidence))
    if len(found.splits) > 1:
        rows.append(("copies in several splits", f"{len(found.leaks)} groups"))
    output.print_rows(rows)
    if found.suspects:
        output.print_line("suspected labels, the most suspect first:")
    for suspect in found.suspects[:_SHOWN]:
        near = ", ".join(image.label for image in suspect.neighbours)
        output.print_line(
            f"  {suspect.image.id}: labelled {suspect.image.label} "
            f"({suspect.label_probability:.3f}), suggested {suspect.suggested} "
            f"({suspect.probability:.3f}), most alike: {near}"
        )
    for title, groups in (
        ("copies with different labels:", found.conflicts),
        ("copies in several splits:", found.leaks),
    ):
        if groups:
            output.print_line(title)
        for group in groups[:_SHOWN]:
            output.print_line(f"  {'; '.join(map(_name, group))}")
    output.print_quarantine(found.quarantined)


def _name(image: AuditedImage) -> str:
    split = "" if image.split is None else f"{image.split}, "
    return f"{image.id} ({split}{image.label})"


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
    from toptune.reports.model import build_report, report_page
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone)
    folders = options.image_folders(images, tuner.provenance_)
    found = build_report(
        tuner, data, labels, split=split, curve=not no_curve, image_folders=folders
    )
    name = model.name
    output.deliver(
        found, _print_report, json=json, out=out, page=lambda: report_page(found, model=name)
    )


def _print_report(found: Report) -> None:
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
        for row in rows[: _SHOWN // 2]:
            line = f"  {row.id}  {row.predicted} {row.probability:.3f}, labelled {row.label}"
            output.print_line(line)
    output.print_quarantine(found.quarantined)


def explain(
    model: options.Model,
    image: Annotated[Path, typer.Argument(help="Image file.")],
    out: options.Page = None,
    label: Annotated[
        str | None, typer.Option(help="Class to explain; by default the most probable one.")
    ] = None,
    n_images: Annotated[
        int, typer.Option(min=0, help="Training images to name for the class, and against it.")
    ] = 6,
    cells: Annotated[
        int,
        typer.Option(min=1, max=32, help="Cells along each side of the grid that is covered."),
    ] = 8,
    images: options.TrainingImages = None,
    backbone: options.OtherBackbone = None,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Explain the label of an image: training images for and against it, and a map of its parts."""
    output.check_output(out, overwrite=overwrite)
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone)
    found = tuner.explain(image, label=label, n_images=n_images, cells=cells)

    def page() -> str:
        from toptune.images import image_files
        from toptune.reports.explanation import explanation_page

        named = (row.id for row in (*found.support.supporting, *found.support.opposing))
        files = image_files(filter(None, named), options.image_folders(images, tuner.provenance_))
        return explanation_page(found, files, model=model.name)

    output.deliver(found, _print_explanation, json=json, out=out, page=page)


def _print_explanation(found: Explanation) -> None:
    """Print the score and the training images for and against it."""
    from toptune.model.explanation.attribution import UNNAMED

    support = found.support
    rows = [
        (str(found.label), f"probability {found.probability:.3f}, score {found.score:+.3f}"),
    ]
    if found.label != found.predicted:
        rows.append(("more probable", str(found.predicted)))
    output.print_rows(rows)
    for what, named, total, rest in (
        ("for it", support.supporting, support.n_supporting, support.supporting_rest),
        ("against it", support.opposing, support.n_opposing, support.opposing_rest),
    ):
        output.console.print(f"[bold]{what}[/bold]")
        for row in named:
            image = UNNAMED if row.id is None else f"{row.label}  {row.id}"
            line = f"  {row.contribution:+.3f}  {image}  similarity {row.similarity:.3f}"
            output.print_line(line)
        if total > len(named):
            output.console.print(f"  {rest:+.3f}  {total - len(named)} more images")
    if found.n_centers < found.n_images:
        output.console.print(
            f"[dim]only the {found.n_centers} of {found.n_images} training images that are centers "
            "of the head carry weight[/dim]"
        )


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
    page = functools.partial(comparison_page, found, data=data)
    output.deliver(found, _print_comparison, json=json, out=out, page=page)


def _print_comparison(found: Comparison) -> None:
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
