"""One training process: a cell and its data set -> a record.

Features are extracted once per data set and network, of all layers that "auto" stands for, and
kept in a file; cells of "last" take its columns of them. The time of the extraction counts in every
record that uses it, for as many images as the cell trained on; that of another processor or number
of threads does not, these extract for themselves.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from toptune.errors import ModelFileError
from toptune.features import Features, cache_dir, extract, load_backbone, make_engine
from toptune.finetuning.estimator import FineTuner
from toptune.images import ImageSet
from toptune.kernel import FeatureNormalizer, Rows
from toptune.runtime.energy import EnergyMeter
from toptune.runtime.memory import processor
from toptune_study.datasets import Dataset
from toptune_study.heads import KERNEL, Span, kernel_head, rival
from toptune_study.plan import TEST_SIZE, Cell
from toptune_study.records import Record

#: Images of a class that a part of the training images has at least, if there are as many.
LEAST = 2


def part_of(labels: NDArray[Any], size: float, *, seed: int) -> NDArray[np.intp]:
    """Positions of a stratified part of the training images; smaller parts lie in larger ones.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Of the training images.
    size : float
        Part of each class, rounded, but `LEAST` images at least.
    seed : int
        Of the order in which images of a class are taken.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(own[: max(round(size * len(own)), min(LEAST, len(own)))])
    return np.sort(np.concatenate(chosen))


def study_features(dataset: Dataset, backbone: str, content: str) -> Features:
    """Features of all images of a data set, from the file that keeps them, else extracted.

    Parameters
    ----------
    dataset : Dataset
        Images.
    backbone : str
        Network.
    content : str
        Hash of the images; features of others are not taken.
    """
    folder = cache_dir() / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in backbone)
    network = load_backbone(backbone, layers="auto", view="whole")
    machine = {"processor": processor(), "threads": threads()}  # whose seconds they are
    spec = {**network.spec(), **machine, "content": content}
    digest = hashlib.sha256(repr(sorted(spec.items())).encode()).hexdigest()[:16]
    path = folder / f"{dataset.info.name}-{name}-{digest}.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            # The network is converted once per machine; what is timed is the extraction.
            engine = make_engine(network, cache=cache_dir())
            engine.prepare()
            with EnergyMeter() as meter:
                found = extract(dataset.images, network, engine=engine, cache=None, strict=True)
            about = found.provenance | {"energy_kwh": meter.kwh}
            replace(found, provenance=about).save(path, half=True)
    return Features.load(path, mapped=True)


@dataclass(frozen=True)
class Outcome:
    """What training and testing gave, before it is scored."""

    classes: NDArray[Any]
    predicted: NDArray[Any]  # (t,) labels
    proba: NDArray[np.float64] | None  # (t, c)
    seconds: dict[str, float]
    loo_accuracy: float | None = None
    chosen: str = ""
    resumed: bool = False


def run_cell(
    cell: Cell, dataset: Dataset, features: Features | None, *, checkpoint: Path | None = None
) -> Record:
    """Train and test.

    Parameters
    ----------
    cell : Cell
        What to do.
    dataset : Dataset
        That of the cell.
    features : Features or None
        Of all images of the data set by the cell's network; None for heads that train it.
    checkpoint : Path, optional
        File that keeps the state of such a training, from which a killed one goes on.

    Returns
    -------
    Record
        Scores and times; who calls adds what it knows of the process. `extraction_kwh` is the share
        of the energy of the extraction, None where it is not known; `resumed` tells of a training
        that went on from a checkpoint.
    """
    train, test = dataset.split(seed=cell.seed, test_size=TEST_SIZE)
    labels = dataset.images.labels
    assert labels is not None
    train = train[part_of(labels[train], cell.size, seed=cell.seed)]
    extraction_kwh: float | None = 0.0
    if features is None:
        outcome = _fine_tuned(cell, dataset, dataset.images.subset(train), test, checkpoint)
    else:
        outcome = _head(cell, features, train, test)
        extraction_kwh = features.provenance.get("energy_kwh")
        if extraction_kwh is not None:
            extraction_kwh *= len(train) / len(features)
    true = labels[test]
    position = {label: k for k, label in enumerate(np.unique(labels).tolist())}
    recalls = {
        label: float(np.mean(outcome.predicted[true == label] == label))
        for label in np.unique(true).tolist()
    }
    return {
        "n_train": len(train),
        "n_test": len(test),
        "n_classes": len(outcome.classes),
        "accuracy": float(np.mean(outcome.predicted == true)),
        "balanced_accuracy": float(np.mean(list(recalls.values()))),
        "log_loss": _log_loss(outcome, true),
        "loo_accuracy": outcome.loo_accuracy,
        "recalls": recalls,
        "predicted": [position[label] for label in outcome.predicted.tolist()],
        "true": [position[label] for label in true.tolist()],
        "groups": _codes(dataset, test),
        "chosen": outcome.chosen,
        "seconds": outcome.seconds,
        "extraction_kwh": extraction_kwh,
        "resumed": outcome.resumed,
    }


def _codes(dataset: Dataset, test: NDArray[np.intp]) -> list[int] | None:
    """Numbers of the groups of the test images, None where there are none."""
    groups = dataset.images.groups
    if groups is None:
        return None
    codes: list[int] = np.unique(groups[test], return_inverse=True)[1].tolist()
    return codes


def _log_loss(outcome: Outcome, true: NDArray[Any]) -> float | None:
    """Mean negative log-probability; None without probabilities, or with classes not trained on."""
    if outcome.proba is None or not np.isin(true, outcome.classes).all():
        return None
    p = outcome.proba[np.arange(len(true)), np.searchsorted(outcome.classes, true)]
    return float(-np.log(np.clip(p, np.finfo(np.float64).tiny, 1.0)).mean())


def _head(
    cell: Cell, features: Features, train: NDArray[np.intp], test: NDArray[np.intp]
) -> Outcome:
    """Train a head on features of the layers of the cell."""
    assert features.labels is not None
    columns, widths = _columns(cell, features)
    extraction = features.seconds * len(train) / len(features)
    y = features.labels[train]
    groups = None if features.groups is None else features.groups[train]
    if groups is not None and len(set(groups.tolist())) < 2:
        groups = None
    scale = FeatureNormalizer(groups=widths)
    start = time.perf_counter()
    X = np.asarray(features.X[train, columns])
    scale.fit(X[:1])
    T = np.asarray(features.X[test, columns])
    proba: NDArray[np.float64] | None = None
    loo: float | None = None
    if cell.head in KERNEL:
        head = kernel_head(cell.head, widths, seed=cell.seed)
        head.fit(Rows(X, transform=scale.transform), y, groups=groups)
        fitted = time.perf_counter()
        proba = head.predict_proba(Rows(T, transform=scale.transform))
        predicted = head.classes_[proba.argmax(axis=1)]
        seconds = {"select": head.selection_seconds_}
        seconds["fit"] = fitted - start - seconds["select"]
        loo, chosen = head.loo_accuracy_, f"{head.kernel_}, bandwidth {head.bandwidth_:.4g}"
        chosen += f", penalty {head.penalty_:.4g}"
    else:
        span = Span(scale.transform(X))
        head = rival(cell.head, y, groups, seed=cell.seed)
        head.fit(span.coordinates, y)
        fitted = time.perf_counter()
        B = span.coordinates_of(scale.transform(T))
        predicted = head.predict(B)
        if cell.head == "logistic":
            proba = head.predict_proba(B)
        seconds = {"fit": fitted - start}
        chosen = str(getattr(head, "best_params_", "")) + unconverged(head)
    return Outcome(
        classes=head.classes_,
        predicted=predicted,
        proba=proba,
        loo_accuracy=loo,
        chosen=chosen,
        seconds={
            "decode_extract": extraction,
            **seconds,
            "predict": time.perf_counter() - fitted,
        },
    )


def unconverged(head: Any) -> str:
    """Say that the chosen model was stopped by its number of iterations, where it was."""
    model = getattr(head, "best_estimator_", head)
    limit, made = getattr(model, "max_iter", None), getattr(model, "n_iter_", None)
    if limit is None or made is None or limit < 0:
        return ""
    return ", not converged" if np.max(made) >= limit else ""


def _columns(cell: Cell, features: Features) -> tuple[slice, list[int]]:
    """Which columns hold the layers of the cell, and the widths of their groups."""
    if cell.layers == "auto":
        return slice(None), list(features.layers.values())
    first = 0
    for name, width in features.layers.items():
        if name == cell.layers:
            return slice(first, first + width), [width]
        first += width
    raise ValueError(f"the network {cell.backbone} has no layer {cell.layers!r}")


def tuner_settings(settings: dict[str, Any], n: int) -> dict[str, Any]:
    """Return the parameters of FineTuner for n images: `steps` becomes a number of epochs."""
    given = dict(settings)
    steps = given.pop("steps", None)
    if steps is not None:
        defaults = FineTuner()
        per_epoch = n / given.get("batch_size", defaults.batch_size)
        most = max(1, round(steps / per_epoch))
        given["epochs"] = min(given.get("epochs", defaults.epochs), most)
    return given


def _fine_tuned(
    cell: Cell,
    dataset: Dataset,
    train: ImageSet,
    test: NDArray[np.intp],
    checkpoint: Path | None,
) -> Outcome:
    """Train the network; a killed training goes on where it stopped."""
    tuner = FineTuner(
        backbone=cell.backbone,
        mode=cell.head,  # type: ignore[arg-type]
        flip=dataset.info.flip,
        checkpoint=checkpoint,
        strict=True,
        random_state=cell.seed,
        **tuner_settings(dict(cell.settings), len(train)),
    )
    resumed = checkpoint is not None and checkpoint.exists()
    try:
        tuner.fit(train)
    except ModelFileError:  # the checkpoint is damaged, or of another machine or version
        if checkpoint is None or not checkpoint.exists():
            raise
        checkpoint.unlink()
        resumed = False
        tuner.fit(train)
    fitted = time.perf_counter()
    proba = tuner.predict_proba(dataset.images.subset(test))
    return Outcome(
        classes=tuner.classes_,
        predicted=tuner.classes_[proba.argmax(axis=1)],
        proba=proba,
        chosen=f"learning rate {tuner.learning_rate_:g}",
        resumed=resumed,
        seconds={**tuner.seconds_, "predict": time.perf_counter() - fitted},
    )


def threads() -> int:
    """Threads of the linear algebra of this process."""
    return torch.get_num_threads()
