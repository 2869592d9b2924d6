"""Result of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toptune.images import ImageSource, Quarantined
from toptune.runtime.plain import plain_fields


@dataclass(frozen=True, eq=False)
class AuditedImage:
    """An image with its label.

    Attributes
    ----------
    id : str
        Its name.
    split : str or None
        Split that it is in; None where the data has none.
    label : str
        Label that it was given.
    source : ImageSource
        Where its pixels are.
    """

    id: str
    split: str | None
    label: str
    source: ImageSource = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what names the image, ready for JSON."""
        return {"id": self.id, "split": self.split, "label": self.label}


@dataclass(frozen=True, eq=False)
class SuspectedImage:
    """An image whose label is probably wrong.

    Attributes
    ----------
    image : AuditedImage
        Which one.
    suggested : str
        The most probable class by the model fitted without the image.
    probability, label_probability : float
        Of `suggested`, and of the label that was given.
    suspicion : float
        At most 1; see `toptune.evaluation.label_errors.label_suspicion`.
    neighbours : tuple of AuditedImage
        Those that the model takes for most alike, the nearest first.
    """

    image: AuditedImage
    suggested: str
    probability: float
    label_probability: float
    suspicion: float
    neighbours: tuple[AuditedImage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        found = plain_fields(self)
        del found["image"]
        return self.image.to_dict() | found


@dataclass(frozen=True, eq=False)
class Audit:
    """Doubtful labels, contradictory copies and leaking copies of a data set.

    Attributes
    ----------
    n : int
        Number of images.
    classes : list of str
        Labels, sorted.
    splits : dict of str to int
        Splits of the data and the number of images of each; empty where there are none.
    loo_accuracy : float
        Share of the labels that leave-one-out agrees with.
    n_suspects : int
        Number of labels that are probably wrong.
    weak_evidence : str
        Why suspected labels mean little: leave-one-out is no better than always naming the largest
        class; else empty.
    suspects : tuple of SuspectedImage
        The most suspect of them first; not all need be listed.
    conflicts : tuple of tuple of AuditedImage
        Groups of near-duplicates with different labels.
    leaks : tuple of tuple of AuditedImage
        Groups of near-duplicates on both sides of a split.
    n_near_duplicates : int
        Images that have a near-duplicate.
    quarantined : tuple of Quarantined
        Images set aside, with the reason.
    """

    n: int
    classes: list[str]
    splits: dict[str, int]
    loo_accuracy: float
    n_suspects: int
    weak_evidence: str
    suspects: tuple[SuspectedImage, ...]
    conflicts: tuple[tuple[AuditedImage, ...], ...]
    leaks: tuple[tuple[AuditedImage, ...], ...]
    n_near_duplicates: int
    quarantined: tuple[Quarantined, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return plain_fields(self)
