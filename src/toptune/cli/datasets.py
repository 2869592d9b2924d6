"""`toptune datasets`: the data sets of studies, and how to get them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from toptune.cli import options, output

#: Of what the registry says, in JSON.
_DESCRIPTION = {
    "name",
    "title",
    "classes",
    "images",
    "split",
    "flip",
    "licence",
    "source",
    "citation",
}


def datasets(
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            help="Download this public data set into the folder that TOPTUNE_DATA names, and list "
            "it alone; may be given several times.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the data sets of studies and where they are. Nothing is downloaded but what you name."""
    from toptune_study.datasets import dataset_info, registry, whereabouts
    from toptune_study.fetching import fetch_dataset

    names = list(fetch or registry())
    for name in names:
        dataset_info(name)  # a slip in the last name is told before the first is fetched
    for name in fetch or ():
        if whereabouts(name).state != "here":
            fetch_dataset(name)
    rows = [(dataset_info(name), whereabouts(name)) for name in names]
    if json:
        found = [info.model_dump(include=_DESCRIPTION) | vars(place) for info, place in rows]
        output.print_json({"datasets": found})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "classes", "images", "split", "licence", "state", "where"):
        right = column in ("classes", "images")
        table.add_column(
            column,
            justify="right" if right else "left",
            no_wrap=column in ("name", "state"),
            overflow="fold",
        )
    for info, place in rows:
        table.add_row(
            info.name,
            str(info.classes),
            str(info.images),
            info.split,
            escape(info.licence),
            place.state,
            escape(place.where),
        )
    output.console.print(table)
    output.console.print(
        "fetchable: toptune datasets --fetch NAME. missing: put your copy into the folder that "
        "TOPTUNE_DATA names, as NAME/CLASS/FILE or NAME/train/CLASS/FILE and NAME/test/CLASS/FILE.",
        markup=False,
    )
