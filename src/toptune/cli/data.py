"""`toptune features` and `toptune backbones`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toptune.cli import options, output


def features(
    data: options.Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Feature file to write (safetensors).")],
    backbone: options.Backbone = "efficientnet_lite0",
    layers: options.Layers = "auto",
    view: options.View = "whole",
    resolution: options.Resolution = None,
    labels: options.Labels = None,
    split: options.Split = None,
    half: Annotated[bool, typer.Option("--half", help="Write float16, half the size.")] = False,
    strict: options.Strict = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Extract features only: a tensor `features` (n, d) with ids and labels, as safetensors."""
    output.check_output(out, overwrite=overwrite)
    options.limit_pixels(max_pixels)
    from toptune.features import extract, load_backbone
    from toptune.images import open_images

    images = open_images(data, split=split, labels=labels)
    network = load_backbone(backbone, **options.network_choice(layers, view, resolution))
    found = extract(images, network, strict=strict)
    found.save(out, half=half)
    n, d = found.X.shape
    if json:
        output.print_json(
            {
                "n": n,
                "n_features": d,
                "seconds": {"decode_extract": found.seconds},
                "provenance": found.provenance,
                "quarantined": output.quarantine_json(found.quarantined),
            }
        )
        return
    output.print_quarantine(found.quarantined)
    output.print_rows(
        [
            ("images", str(n)),
            ("features", f"{d} per image"),
            ("decoding and extraction", output.seconds(found.seconds)),
        ]
    )
    output.print_written("features", out)


def backbones(json: options.Json = False) -> None:
    """List networks, and which can be used on this machine without any download."""
    from rich.table import Table

    from toptune.features import list_backbones

    rows = list_backbones()
    if json:
        output.print_json({"backbones": [vars(row) for row in rows]})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "here", "features", "input", "weights"):
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(
            row.name,
            "yes" if row.available else "no",
            str(row.n_features or "?"),
            "x".join(map(str, row.input_size)) if row.input_size else "?",
            f"{row.where}, {row.note}" if row.note else row.where,
        )
    output.console.print(table)
    output.console.print(
        "Any other timm name works once its weights are on this machine (they are fetched on first "
        "use unless HF_HUB_OFFLINE=1); ARCH=FILE and local-dir:FOLDER use weights you have.",
        markup=False,
    )
