"""`toptune fit`, `evaluate`, `predict` and `features`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toptune.cli import options, output
from toptune.errors import DataError

if TYPE_CHECKING:
    from toptune.tuner import TopTuner

_TASKS = {
    "classification": "one class per image",
    "multilabel": "several labels per image",
    "regression": "a number per image",
}


def fit(
    data: options.Data,
    out: options.Out,
    backbone: options.Backbone = "efficientnet_lite0",
    layers: options.Layers = "auto",
    view: options.View = "whole",
    resolution: options.Resolution = None,
    labels: options.Labels = None,
    split: options.Split = None,
    task: Annotated[
        str,
        typer.Option(
            help="What labels are: classification, multilabel, regression, or auto, by their look."
        ),
    ] = "auto",
    near_duplicates: Annotated[
        bool,
        typer.Option(
            "--near-duplicates", help="Leave out near-duplicates together when estimating accuracy."
        ),
    ] = False,
    time_budget: Annotated[
        float | None,
        typer.Option(help="With --backbone auto: seconds that the extraction may take."),
    ] = None,
    centers: Annotated[
        Path | None,
        typer.Option(
            help="Model whose centers, kernel and weights of layers are used instead of chosen: "
            "models trained with the same one can be merged."
        ),
    ] = None,
    keep: options.Keep = "auto",
    seed: options.Seed = 0,
    strict: options.Strict = False,
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Train on labelled images and write a model.

    Accuracy and log-loss are leave-one-out estimates: no image is held out.
    """
    if task not in (known := ("auto", *_TASKS)):
        raise DataError(f"task must be one of {', '.join(known)}, got {task!r}")
    output.check_output(out, overwrite=overwrite)
    from toptune.evaluation.near_duplicates import NEAR_DUPLICATES
    from toptune.tuner import TopTuner

    choice = options.network_choice(layers, view, resolution)
    kept = options.kept(keep)
    tuner = TopTuner(
        backbone=backbone,
        **choice,
        random_state=seed,
        strict=strict,
        time_budget=time_budget,
        task=task,  # type: ignore[arg-type]
    )
    tuner.fit(
        data,
        labels,
        split=split,
        groups=NEAR_DUPLICATES if near_duplicates else None,
        centers=None if centers is None else TopTuner.load(centers),
    )
    tuner.save(out, keep=kept)
    if json:
        output.print_json(fit_summary(tuner))
        return
    print_fit(tuner)
    output.print_written("model", out)


def fit_summary(tuner: TopTuner) -> dict[str, Any]:
    """Return what `fit --json` prints."""
    head = tuner.head_
    return {
        "task": tuner.task_,
        **output.left_out_json(tuner),
        "n": tuner.loo_.n,
        "n_features": head.n_features_in_,
        "classes": tuner.classes_.tolist(),
        "kernel": head.kernel_,
        "bandwidth": head.bandwidth_,
        "penalty": head.penalty_,
        "backbone": tuner.backbone_,
        "layer_weights": tuner.layer_weights_,
        "n_centers": head.n_centers_,
        "refresh": tuner.refresh_,
        "seconds": tuner.seconds_,
        "quarantined": output.quarantine_json(tuner.quarantined_),
    }


def print_fit(tuner: TopTuner) -> None:
    """Print the summary of a fit for people."""
    head, stages, weights = tuner.head_, tuner.seconds_, tuner.layer_weights_
    how = "asked for" if tuner.task == tuner.task_ else "as the labels look; --task says otherwise"
    what = {"classification": "classes", "multilabel": "labels"}.get(tuner.task_)
    classes = f", {len(tuner.classes_)} {what}" if what else ""
    head_text = (
        f"{head.kernel_} kernel, bandwidth {head.bandwidth_:.3g}, penalty {head.penalty_:.1e}, "
        f"{head.n_centers_} centers, {head.n_features_in_} features"
    )
    rows = [
        ("task", f"{tuner.task_}: {_TASKS[tuner.task_]} ({how})"),
        ("images", f"{tuner.loo_.n}{classes}"),
        *output.left_out_rows(tuner),
        ("head", head_text),
    ]
    if len(weights) > 1:
        listed = ", ".join(f"{layer} {weight:.2f}" for layer, weight in weights.items())
        rows.append(("weights of layers", listed))
    rows += [
        ("decoding and extraction", output.seconds(stages["decode_extract"])),
        ("selection", output.seconds(stages["select"])),
        ("fit", output.seconds(stages["fit"])),
    ]
    output.print_quarantine(tuner.quarantined_)
    output.print_rows(rows)
    output.print_refresh(tuner.refresh_)


def evaluate(
    model: options.Model,
    data: options.Data,
    labels: options.Labels = None,
    split: options.Split = None,
    costs: options.Costs = None,
    threshold: options.Threshold = None,
    recall: options.Recall = None,
    precision: options.Precision = None,
    maximize: options.Maximize = None,
    backbone: options.OtherBackbone = None,
    strict: options.Strict = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Measure a model on labelled images; the test split where DATA has one."""
    from toptune.tuner import TopTuner

    tuner = TopTuner.load(model, backbone=backbone).set_params(strict=strict)
    decision = options.decision(tuner, costs, threshold, recall, precision, maximize)
    found = tuner.evaluate(data, labels, split=split, **decision)
    limits = decision["thresholds"]
    if json:
        by_text = None if limits is None else {str(label): t for label, t in limits.items()}
        output.print_json(found.to_dict() | ({"thresholds": by_text} if by_text else {}))
        return
    _print_thresholds(limits)
    output.print_evaluation(found)


def predict(
    model: options.Model,
    paths: Annotated[list[str], typer.Argument(help="Image files, or folders of images.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to list per image.")] = 1,
    costs: options.Costs = None,
    threshold: options.Threshold = None,
    recall: options.Recall = None,
    precision: options.Precision = None,
    maximize: options.Maximize = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Also list a set of classes that holds the true one at this rate; for numbers, "
            "the rate at which intervals hold them (default: 0.9)."
        ),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(
            help="Also mark images unlike the training images; of those like them, at most this "
            "share is marked by mistake."
        ),
    ] = None,
    backbone: options.OtherBackbone = None,
    strict: options.Strict = False,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Predict the class of images; or their labels, or a number, as the model was trained."""
    options.check_rates(coverage=coverage, reject=reject)
    from toptune.images import open_unlabelled
    from toptune.tuner import TopTuner

    images = open_unlabelled(paths)
    tuner = TopTuner.load(model, backbone=backbone)
    sets = None if tuner.task_ == "regression" else coverage
    decision = options.decision(tuner, costs, threshold, recall, precision, maximize)
    tuner.check_decision(**decision, coverage=sets, reject=reject)
    found = tuner.classify(images, strict=strict, coverage=sets, reject=reject)
    decided = found.decide(**decision)
    records = output.prediction_records(found, decided, top, coverage)
    if json:
        quarantined = output.quarantine_json(found.quarantined)
        output.print_json({"predictions": records, "quarantined": quarantined})
        return
    _print_thresholds(decision["thresholds"])
    output.print_records(records)
    output.print_quarantine(found.quarantined)


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


def _print_thresholds(thresholds: dict[Any, float] | None) -> None:
    if thresholds is not None:
        # All digits: rounded up, a threshold would miss the image that it was chosen for.
        listed = ", ".join(f"{label}={float(value)!r}" for label, value in thresholds.items())
        output.print_rows([("thresholds", listed)])
