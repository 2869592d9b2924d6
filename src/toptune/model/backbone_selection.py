"""Which network: candidates compared by leave-one-out on some of the images, within a budget."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from toptune.errors import BackboneError, DataError, DataWarning
from toptune.features import Backbone, Engine, extract, list_backbones
from toptune.images import ImageSet, from_arrays, stratified_split
from toptune.images.labels import as_text
from toptune.kernel import FeatureNormalizer, KernelClassifier, Rows
from toptune.tasks import TaskChoice, chosen_task, training_labels

#: Images that candidates are compared on.
COMPARED_IMAGES = 400


@dataclass(frozen=True)
class BackboneScore:
    """How a network did.

    Attributes
    ----------
    name : str
        Network.
    loo_log_loss, loo_accuracy : float
        Leave-one-out on the compared images.
    seconds : float
        What the extraction of all images would take.
    """

    name: str
    loo_log_loss: float
    loo_accuracy: float
    seconds: float


def compare_backbones(
    images: ImageSet,
    network: Callable[[str], tuple[Backbone, Engine]],
    *,
    names: Sequence[str] | None = None,
    task: TaskChoice = "auto",
    random_state: int = 0,
) -> list[BackboneScore]:
    """Compare networks on some of the images, the best first.

    Parameters
    ----------
    images : ImageSet
        With labels; their groups, if any, are left out whole.
    network : callable
        Gives a network and what runs it by name.
    names : sequence of str, optional
        Candidates; by default all that are on this machine.
    task : str, default="auto"
        Task that is asked for; only classification is possible.
    random_state : int
        Which images.

    Raises
    ------
    DataError
        If there are no labels, or fewer than two classes.
    BackboneError
        If no candidate can be used.
    """
    if names is None:
        names = [row.name for row in list_backbones() if row.available]
    asked = chosen_task(task, images.label_kind).name
    if asked != "classification":
        raise DataError(f'backbone="auto" is for classification, not {asked}: name the network')
    images = replace(images, label_kind="class")
    training_labels(images)
    part = _some(images, random_state)
    blank = np.zeros((64, 64, 3), dtype=np.uint8)
    found = []
    for name in names:
        try:
            backbone, engine = network(name)
            # What comes only once, such as its conversion, is done before the time is taken.
            extract(from_arrays([blank]), backbone, engine=engine, cache=None, progress=False)
            start = time.perf_counter()
            features = extract(part, backbone, engine=engine, cache=None, progress=False)
        except BackboneError as error:
            warnings.warn(f"{name} is left out: {error}", DataWarning, stacklevel=2)
            continue
        seconds = (time.perf_counter() - start) / len(part) * len(images)
        widths = list(features.layers.values())
        normalizer = FeatureNormalizer(groups=widths).fit(features.X[:1])
        head = KernelClassifier(feature_groups=widths, random_state=random_state)
        head.fit(
            Rows(features.X, transform=normalizer.transform),
            training_labels(features),
            groups=features.groups,
        )
        found.append(BackboneScore(name, head.loo_log_loss_, head.loo_accuracy_, seconds))
    if not found:
        raise BackboneError("no network can be used on this machine: see toptune backbones")
    return sorted(found, key=lambda candidate: candidate.loo_log_loss)


def choose_backbone(found: Sequence[BackboneScore], time_budget: float | None) -> str:
    """Name the best candidate that the time allows; if it allows none, the quickest.

    Parameters
    ----------
    found : sequence of BackboneScore
        The best first.
    time_budget : float or None
        Seconds for the extraction of all images.
    """
    affordable = [c for c in found if time_budget is None or c.seconds <= time_budget]
    if affordable:
        return affordable[0].name
    quickest = min(found, key=lambda candidate: candidate.seconds)
    warnings.warn(
        f"no network extracts the features within {time_budget:g} s; the quickest, "
        f"{quickest.name}, takes about {quickest.seconds:.0f} s",
        DataWarning,
        stacklevel=3,
    )
    return quickest.name


def _some(images: ImageSet, random_state: int) -> ImageSet:
    """Draw some of the images, class by class."""
    n = len(images)
    if images.labels is None or n <= COMPARED_IMAGES:
        return images
    try:
        _, part = stratified_split(
            as_text(images.labels), test_size=COMPARED_IMAGES / n, random_state=random_state
        )
    except DataError:  # more classes than images to compare on
        part = np.random.RandomState(random_state).permutation(n)[:COMPARED_IMAGES]
    return images.subset(np.sort(part))
