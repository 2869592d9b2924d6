"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toptune.images import ImageSource, Quarantined


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
        return {
            **self.image.to_dict(),
            "suggested": self.suggested,
            "probability": self.probability,
            "label_probability": self.label_probability,
            "suspicion": self.suspicion,
            "neighbours": [neighbour.to_dict() for neighbour in self.neighbours],
        }


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

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
    suspects : tuple of SuspectedImage
        Labels that are probably wrong, the most suspect first.
    n_suspects : int
        How many there are; not all need be listed.
    weak_evidence : str
        Why suspected labels mean little: leave-one-out is no better than always naming the largest
        class; else empty.
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
    suspects: tuple[SuspectedImage, ...]
    n_suspects: int
    weak_evidence: str
    conflicts: tuple[tuple[AuditedImage, ...], ...]
    leaks: tuple[tuple[AuditedImage, ...], ...]
    n_near_duplicates: int
    quarantined: tuple[Quarantined, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON."""
        return {
            "n": self.n,
            "classes": self.classes,
            "splits": self.splits,
            "loo_accuracy": self.loo_accuracy,
            "n_suspects": self.n_suspects,
            "weak_evidence": self.weak_evidence,
            "suspects": [suspect.to_dict() for suspect in self.suspects],
            "conflicts": [[image.to_dict() for image in group] for group in self.conflicts],
            "leaks": [[image.to_dict() for image in group] for group in self.leaks],
            "n_near_duplicates": self.n_near_duplicates,
            "quarantined": [{"id": item.id, "reason": item.reason} for item in self.quarantined],
        }
