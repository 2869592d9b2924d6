"""Page of an audit: galleries of suspected labels and of copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toptune.reports.audit.result import Audit, AuditedImage
from toptune.reports.html.pictures import thumbnail
from toptune.reports.html.rendering import render
from toptune.reports.html.text import card, plural

#: Groups of near-duplicates that the page shows of each kind, and images of each group.
GROUPS, MEMBERS = 50, 12


def audit_page(found: Audit, *, data: str = "") -> str:
    """Return an audit as one HTML page that needs no other file.

    Parameters
    ----------
    found : Audit
        What `audit` returned.
    data : str, optional
        Name of the data set, to be shown.
    """
    pictures = _Pictures()
    suspects = [
        {
            "image": pictures.shown(suspect.image),
            "suggested": suspect.suggested,
            "probability": f"{suspect.probability:.3f}",
            "label_probability": f"{suspect.label_probability:.3f}",
            "neighbours": [
                {**pictures.shown(near), "agrees": near.label == suspect.suggested}
                for near in suspect.neighbours
            ],
        }
        for suspect in found.suspects
    ]
    content = {
        "audit": found,
        "data": data,
        "cards": _cards(found),
        "suspects": suspects,
        "conflicts": _groups(found.conflicts, pictures),
        "leaks": _groups(found.leaks, pictures),
        "members": MEMBERS,
        "missing": pictures.missing,
    }
    return render("toptune.reports.audit", "audit.html.j2", content)


class _Pictures:
    """Thumbnails, each made once; `missing` counts files that could not be read again."""

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, str], str | None] = {}

    def shown(self, image: AuditedImage) -> dict[str, Any]:
        key = (image.split, image.id)
        if key not in self._made:
            self._made[key] = thumbnail(image.source)
        return {**image.to_dict(), "picture": self._made[key]}

    @property
    def missing(self) -> int:
        return sum(picture is None for picture in self._made.values())


def _groups(
    groups: Sequence[tuple[AuditedImage, ...]], pictures: _Pictures
) -> list[dict[str, Any]]:
    return [
        {"size": len(group), "images": [pictures.shown(image) for image in group[:MEMBERS]]}
        for group in groups[:GROUPS]
    ]


def _cards(found: Audit) -> list[dict[str, str]]:
    splits = ", ".join(f"{count} {split}" for split, count in found.splits.items())
    conflicts, leaks = len(found.conflicts), len(found.leaks)
    cards = [
        card(f"{found.n:,}", "images", splits or f"{len(found.classes)} classes"),
        card(
            f"{found.n_suspects:,}",
            f"suspected {plural(found.n_suspects, 'label')}",
            f"leave-one-out agrees with {found.loo_accuracy:.1%} of all labels",
        ),
        card(
            f"{conflicts:,}",
            f"{plural(conflicts, 'group')} of contradictory copies",
            f"{found.n_near_duplicates:,} images have a near-duplicate",
        ),
    ]
    if len(found.splits) > 1:
        copies = f"{plural(leaks, 'group')} of copies in several splits"
        cards.append(card(f"{leaks:,}", copies, f"{sum(map(len, found.leaks)):,} images"))
    return cards
