"""`toptune demo`, `doctor` and `backbones`: does it work here, how fast, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toptune.cli import model, options, output


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Model file to write.")] = Path(
        "solar-cells.toptune"
    ),
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Grade defects of 2,624 solar cells: the whole job on real images, in a minute or two."""
    output.check_output(out, overwrite=overwrite)
    from toptune.images import stratified_split
    from toptune.images.demo import solar_cells
    from toptune.tuner import TopTuner

    images = solar_cells()
    train, test = stratified_split(images.labels, test_size=0.25, random_state=seed)
    if not json:
        output.console.print(
            f"{len(images)} electroluminescence pictures of solar cells, graded by probability of "
            f"a defect (CC BY-NC-SA 4.0); {len(train)} to train on, {len(test)} held out"
        )
    tuner = TopTuner(random_state=seed).fit(images.subset(train))
    found: Any = tuner.evaluate(images.subset(test))
    tuner.save(out)
    if json:
        summary = model.fit_summary(tuner) | {"model": str(out)}
        output.print_json({"fit": summary, "evaluate": found.to_dict()})
        return
    model.print_fit(tuner)
    output.print_rows([("held-out accuracy", f"{found.accuracy:.4f} on {found.n} images")])
    output.print_confusion(found)
    output.console.print(
        f"model written to {out}; try: toptune predict {out} IMAGE", markup=False, soft_wrap=True
    )


def doctor(
    backbone: options.Backbone = "efficientnet_lite0",
    plan: Annotated[
        str | None,
        typer.Option(
            metavar="N,D,C",
            help="Instead: how the kernel head would be fitted to N samples with D features and C "
            "classes, with the memory and the time that it would take.",
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="With --plan: memory budget in gigabytes; half of what is free if not given."
        ),
    ] = None,
    centers: Annotated[
        int | None, typer.Option(help="With --plan: number of centers; chosen if not given.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show versions, engine, precision, threads, cache, and measured images per second."""
    if plan is not None:
        from toptune.reports.diagnosis import plan_head

        head = plan_head(plan, memory_gigabytes=memory, n_centers=centers)
        if json:
            output.print_json(head)
        else:
            output.print_rows(
                [(name.replace("_", " "), str(value)) for name, value in head.items()]
            )
        return
    from toptune.reports.diagnosis import diagnose

    report = diagnose(backbone)
    if json:
        output.print_json(report)
        return
    rows = {**report["versions"], **{k: v for k, v in report.items() if k != "versions"}}
    output.print_rows([(name.replace("_", " "), str(value)) for name, value in rows.items()])


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
