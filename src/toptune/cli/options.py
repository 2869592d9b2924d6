"""Arguments and options that several commands share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

Data = Annotated[
    str,
    typer.Argument(
        help="Folder with one folder per class, the same under train, val and test, or a .csv or "
        ".parquet file with columns image_path and label."
    ),
]
Model = Annotated[Path, typer.Argument(help="Model file written by toptune fit.")]
Backbone = Annotated[
    str,
    typer.Option(help="Network: see toptune backbones; also ARCH=FILE and local-dir:FOLDER."),
]
Layers = Annotated[
    str,
    typer.Option(help="Layers of the features: last, auto, or names NAME,NAME; see the how-to."),
]
View = Annotated[
    str,
    typer.Option(
        help="What of an image the network sees: whole, center, mirrored (whole and its mirror "
        "image) or crops (five)."
    ),
]
Resolution = Annotated[
    int | None, typer.Option(help="Height and width of the network's input, pixels.")
]
OtherBackbone = Annotated[
    str | None,
    typer.Option(
        "--backbone", help="Where the model's network is on this machine, if not as in training."
    ),
]
TrainingImages = Annotated[
    Path | None,
    typer.Option(
        "--images", help="Folder that the training images are in now, if not as in training."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="CSV or Parquet file with the labels of the images in DATA."),
]
Split = Annotated[str | None, typer.Option(help="Split to use: train, val or test.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Keep = Annotated[
    str,
    typer.Option(
        help="What the file holds for changes, where not all images are centers: sums (images can "
        "be added, models merged), rows (also forgotten) or nothing."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unreadable image is an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Largest image decoded, in pixels (default: Pillow's guard, 179 million).",
    ),
]


def limit_pixels(max_pixels: int | None) -> None:
    """Set Pillow's guard against decompression bombs, which refuses twice its value.

    A setting of another library, which only the command line may change: the process is its own.
    """
    if max_pixels is not None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]
        # Pillow would warn of images that the user has just allowed.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def kept(keep: str) -> Any:
    """Return what a file is to hold for changes, as `TopTuner.save` takes it.

    Raises
    ------
    DataError
        If there is no such choice.
    """
    from toptune.errors import DataError
    from toptune.kernel.kept import Keep as Kept

    known = ("auto", *get_args(Kept))
    if keep not in known:
        raise DataError(f"keep must be one of {', '.join(known)}, got {keep!r}")
    return keep


def check_rates(*, coverage: float | None, reject: float | None) -> None:
    """Refuse rates that are none.

    Raises
    ------
    DataError
        If one is not between 0 and 1.
    """
    from toptune.decisions.prediction_sets import check_rate
    from toptune.errors import DataError

    for name, value in (("coverage", coverage), ("reject", reject)):
        try:
            if value is not None:
                check_rate(name, value)
        except ValueError as error:
            raise DataError(str(error)) from error


def network_choice(layers: str, view: str, resolution: int | None) -> dict[str, Any]:
    """Return the options that say what a network computes, as `load_backbone` takes them.

    Raises
    ------
    DataError
        If there is no such view, or the resolution is too low.
    """
    from toptune.errors import DataError
    from toptune.features.backbones import VIEWS

    if view not in VIEWS:
        raise DataError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    if resolution is not None and resolution < 32:
        raise DataError(f"resolution must be at least 32 pixels, got {resolution}")
    names: Any = (
        layers if layers in ("last", "auto") else [name.strip() for name in layers.split(",")]
    )
    return {"layers": names, "view": view, "resolution": resolution}


def image_folders(given: Path | None, provenance: Mapping[str, Any]) -> list[str]:
    """Return the folders that the training images of a model may be in, the likeliest last."""
    known: list[str] = provenance.get("image_folders", [])
    return known if given is None else [*known, str(given)]
