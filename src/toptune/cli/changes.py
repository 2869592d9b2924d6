"""`toptune update`, `forget` and `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toptune.cli import options, output
from toptune.errors import DataError

if TYPE_CHECKING:
    from toptune.images import Quarantined
    from toptune.tuner import TopTuner

Reselect = Annotated[
    bool, typer.Option("--reselect", help="Choose the penalty again, by leave-one-out.")
]


def update(
    model: options.Model,
    data: options.Data,
    out: options.Out,
    labels: options.Labels = None,
    split: options.Split = None,
    reselect: Reselect = False,
    keep: options.Keep = "auto",
    backbone: options.OtherBackbone = None,
    strict: options.Strict = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Add labelled images to a model, of its classes or of new ones, and write the new model.

    It is the one trained on all of them with the same centers and hyperparameters. The old images
    are not needed.
    """
    output.check_output(out, overwrite=overwrite)
    kept = options.kept(keep)
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone).set_params(strict=strict)
    before, aside = len(tuner.ids_), len(tuner.quarantined_)
    tuner.partial_fit(data, labels, split=split, reselect=reselect)
    _save(tuner, before, out, kept, json=json, quarantined=tuner.quarantined_[aside:])


def forget(
    model: options.Model,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of training images, as --list has them; with --drop-centers there may be "
            "none."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Model file to write; needed to forget.")
    ] = None,
    list_: Annotated[
        bool,
        typer.Option("--list", help="Only print the names of the training images, one a line."),
    ] = False,
    drop_centers: Annotated[
        bool,
        typer.Option(
            "--drop-centers",
            help="Take forgotten images out of the centers too, also earlier ones.",
        ),
    ] = False,
    reselect: Reselect = False,
    keep: options.Keep = "auto",
    backbone: options.OtherBackbone = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Take training images out of a model, exactly, and write the new model; or list them."""
    if list_:
        if ids or out:
            raise DataError("--list only prints names: leave out the names and -o")
        _list_images(model, json=json)
        return
    if not (ids or drop_centers) or out is None:
        raise DataError(
            "name training images to forget, and with -o the file to write; --list prints the names"
        )
    output.check_output(out, overwrite=overwrite)
    kept = options.kept(keep)
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone)
    before = len(tuner.ids_)
    tuner.forget(ids or (), drop_centers=drop_centers, reselect=reselect)
    _save(tuner, before, out, kept, json=json)


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(help="Model files, all trained with --centers of the same model."),
    ],
    out: options.Out,
    prefix: Annotated[
        list[str] | None,
        typer.Option(help="Put before the names of the images of a model; one for each model."),
    ] = None,
    reselect: Reselect = False,
    keep: options.Keep = "auto",
    backbone: options.OtherBackbone = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Merge models with the same centers into the one trained on the images of all.

    Sites that cannot share images share what toptune fit --centers writes: sums over images.
    """
    output.check_output(out, overwrite=overwrite)
    kept = options.kept(keep)
    if len(models) < 2:
        raise DataError(f"merging takes at least two models, got {models[0]} alone")
    from toptune.tuner import TopTuner

    first, *others = (TopTuner.load(path, backbone=backbone) for path in models)
    before = len(first.ids_)
    first.merge(others, prefixes=prefix, reselect=reselect)
    _save(first, before, out, kept, json=json)


def _list_images(model: Path, *, json: bool) -> None:
    """Print the names of the training images, for which the network is not needed."""
    from toptune.model.file import read_model

    ids = read_model(model).ids
    if json:
        output.print_json({"n": len(ids), "ids": ids})
        return
    for name in ids:  # as they are, for other programs
        print(name)


def _save(
    tuner: TopTuner,
    before: int,
    out: Path,
    keep: Any,
    *,
    json: bool,
    quarantined: tuple[Quarantined, ...] = (),
) -> None:
    """Write the changed model, and print what there is now; `quarantined` are of this change."""
    tuner.save(out, keep=keep)
    # A file that kept no rows gives no leave-one-out.
    loo: Any = tuner.loo_ if hasattr(tuner.head_, "loo_decision_function_") else None
    n, head, seconds = len(tuner.ids_), tuner.head_, tuner.seconds_
    if json:
        output.print_json(
            {
                "n": n,
                "n_before": before,
                "classes": tuner.classes_.tolist(),
                "loo_accuracy": None if loo is None else loo.accuracy,
                "loo_log_loss": None if loo is None else loo.log_loss,
                "penalty": head.penalty_,
                "n_centers": head.n_centers_,
                "refresh": tuner.refresh_,
                "seconds": seconds,
                "quarantined": output.quarantine_json(quarantined),
            }
        )
        return
    output.print_quarantine(quarantined)
    output.print_rows(
        [
            ("images", f"{n}, before {before}; {len(tuner.classes_)} classes"),
            ("leave-one-out accuracy", "not known" if loo is None else f"{loo.accuracy:.4f}"),
            ("penalty", f"{head.penalty_:.1e}"),
            ("decoding and extraction", output.seconds(seconds["decode_extract"])),
            ("change", output.seconds(seconds["fit"])),
        ]
    )
    output.print_refresh(tuner.refresh_)
    output.print_written("model", out)
