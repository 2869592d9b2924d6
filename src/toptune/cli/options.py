"""Arguments and options that several commands share, and the values that they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from toptune.errors import DataError

if TYPE_CHECKING:
    from toptune.tuner import TopTuner


def _limit_pixels(max_pixels: int | None) -> int | None:
    """Set Pillow's guard against decompression bombs, which refuses twice its value.

    A setting of another library, which only the command line may change: the process is its own.
    """
    if max_pixels is not None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]
        # Pillow would warn of images that the user has just allowed.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return max_pixels


Data = Annotated[
    str,
    typer.Argument(
        help="Folder with one folder per class, the same under train, val and test, or a .csv or "
        ".parquet file with columns image_path and label."
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Model file to write.")]
Page = Annotated[Path | None, typer.Option("-o", "--out", help="HTML page to write.")]
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
Costs = Annotated[
    Path | None,
    typer.Option(
        help="CSV or YAML file: cost of each decision (column) for each true class (row)."
    ),
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PROBABILITY", help="Decide for the class from this probability on."
    ),
]
Recall = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PART", help="Choose the threshold of the class that finds this part of it."
    ),
]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=PART", help="Choose the threshold at which this part of its finds is right."
    ),
]
Maximize = Annotated[
    str | None,
    typer.Option(help="Choose thresholds of all classes for macro-f1 or balanced-accuracy."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unreadable image is an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
# Its callback does all there is to do: a command only has it among its parameters.
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Largest image decoded, in pixels (default: Pillow's guard, 179 million).",
        callback=_limit_pixels,
    ),
]


def kept(keep: str) -> Any:
    """Return what a file is to hold for changes, as `TopTuner.save` takes it, or raise."""
    from toptune.kernel.kept import Keep as Kept

    known = ("auto", *get_args(Kept))
    if keep not in known:
        raise DataError(f"keep must be one of {', '.join(known)}, got {keep!r}")
    return keep


def check_rates(*, coverage: float | None, reject: float | None) -> None:
    """Raise if a rate is not between 0 and 1."""
    from toptune.decisions.prediction_sets import check_rate

    for name, value in (("coverage", coverage), ("reject", reject)):
        try:
            if value is not None:
                check_rate(name, value)
        except ValueError as error:
            raise DataError(str(error)) from error


def network_choice(layers: str, view: str, resolution: int | None) -> dict[str, Any]:
    """Return the options that say what a network computes, as `load_backbone` takes them."""
    from toptune.features.backbones import VIEWS

    if view not in VIEWS:
        raise DataError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    if resolution is not None and resolution < 32:
        raise DataError(f"resolution must be at least 32 pixels, got {resolution}")
    names: Any = layers
    if layers not in ("last", "auto"):
        names = [name.strip() for name in layers.split(",")]
    return {"layers": names, "view": view, "resolution": resolution}


def image_folders(given: Path | None, provenance: Mapping[str, Any]) -> list[str]:
    """Return the folders that the training images of a model may be in, the likeliest last."""
    known: list[str] = provenance.get("image_folders", [])
    return known if given is None else [*known, str(given)]


def decision(
    tuner: TopTuner,
    costs: Path | None,
    threshold: list[str] | None,
    recall: list[str] | None,
    precision: list[str] | None,
    maximize: str | None,
) -> dict[str, Any]:
    """Return `costs` and `thresholds` as `TopTuner.predict` takes them; None if not asked for.

    Thresholds for a recall, a precision or a maximum are chosen by leave-one-out of the training
    images.

    Raises
    ------
    DataError
        If an option cannot be read, or they contradict each other.
    """
    from toptune.decisions.costs import read_costs

    chosen = recall or precision or maximize
    if sum(map(bool, (costs, threshold, chosen))) > 1:
        raise DataError(
            "give --costs, or --threshold, or what thresholds are chosen for (--recall, "
            "--precision, --maximize): each says what to decide"
        )
    limits: dict[Any, float] | None = None
    if threshold:
        limits = _class_values(threshold, "--threshold")
    elif chosen:
        limits = tuner.choose_thresholds(
            maximize,  # type: ignore[arg-type]
            recall=_class_values(recall or [], "--recall"),
            precision=_class_values(precision or [], "--precision"),
        )
    return {"costs": None if costs is None else read_costs(costs), "thresholds": limits}


def _class_values(texts: list[str], option: str) -> dict[str, float]:
    """Parse what is given as CLASS=NUMBER."""
    found: dict[str, float] = {}
    for text in texts:
        label, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not label or number != number:
            raise DataError(f"{option} must be CLASS=NUMBER, got {text!r}")
        if label in found:
            raise DataError(f"{option} names {label!r} twice")
        found[label] = number
    return found
