"""`toptune explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.model.explanation import Explanation


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
    options.limit_pixels(max_pixels)
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone)
    found = tuner.explain(image, label=label, n_images=n_images, cells=cells)

    def page() -> str:
        from toptune.images import image_files
        from toptune.reports.explanation import explanation_page

        named = (row.id for row in (*found.support.supporting, *found.support.opposing))
        files = image_files(filter(None, named), options.image_folders(images, tuner.provenance_))
        return explanation_page(found, files, model=model.name)

    output.deliver(found, _print, json=json, out=out, page=page)


def _print(found: Explanation) -> None:
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
