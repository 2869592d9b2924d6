"""`toptune audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toptune.cli import options, output

if TYPE_CHECKING:
    from toptune.reports.audit import Audit, AuditedImage

#: Suspected labels and groups of copies printed; the page and the JSON have more.
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
    options.limit_pixels(max_pixels)
    from toptune.reports.audit import audit as look
    from toptune.reports.audit import audit_page
    from toptune.tuner import TopTuner

    network = options.network_choice(layers, view, resolution)
    tuner = TopTuner(backbone=backbone, strict=strict, random_state=seed, **network)
    found = look(data, labels, tuner=tuner, max_suspects=limit)
    output.deliver(found, _print, json=json, out=out, page=lambda: audit_page(found, data=data))


def _print(found: Audit) -> None:
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
