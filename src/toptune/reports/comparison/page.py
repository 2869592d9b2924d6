"""Page of a comparison, and the rows of its tables, which the command prints too."""

from __future__ import annotations

from collections.abc import Callable

from toptune.reports.comparison.result import Comparison, MethodOutcome
from toptune.reports.html.drawing import inline_figure
from toptune.reports.html.rendering import render
from toptune.reports.html.text import card, duration, energy, percent, times
from toptune.reports.learning_curve import curve_figure
from toptune.runtime import energy as meter

_STAGES = {
    "load": "loading and converting the network",
    "decode_extract": "decoding and extraction",
    "decode": "decoding",
    "select": "choosing hyperparameters",
    "fit": "training",
}


def comparison_page(found: Comparison, *, data: str = "") -> str:
    """Return a comparison as one HTML page that needs no other file.

    Parameters
    ----------
    found : Comparison
        What `compare` returned.
    data : str, optional
        Name of the data set, to be shown.
    """
    content = {
        "comparison": found,
        "data": data,
        "cards": _cards(found),
        "methods": ["top-tuning", "fine-tuning"][: len(_outcomes(found))],
        "rows": method_rows(found),
        "difference": difference_text(found),
        "points": curve_rows(found),
        "curve": inline_figure(
            curve_figure(found.curve, tested="test images"), "curve", "Learning curve"
        ),
        "left_out": left_out_name(found),
    }
    return render("toptune.reports.comparison", "comparison.html.j2", content)


def method_rows(
    found: Comparison, *, seconds: Callable[[float], str] = duration
) -> list[tuple[str, ...]]:
    """Return what is shown of the methods: a name, then the value of each method.

    The energy is among it where it can be measured at all.
    """
    both = _outcomes(found)
    rows = [("accuracy", *(f"{method.accuracy:.4f}" for method in both))]
    for stage, name in _STAGES.items():
        taken = [method.seconds.get(stage, 0.0) for method in both]
        if any(stage in method.seconds for method in both):
            rows.append((name, *(seconds(value) if value else "" for value in taken)))
    rows += [
        ("training, in all", *(seconds(method.total_seconds) for method in both)),
        ("predicting the test images", *(seconds(method.predict_seconds) for method in both)),
        ("memory at the peak", *(f"{method.peak_memory / 1e6:,.0f} MB" for method in both)),
    ]
    if meter.energy_available():
        used = ("not known" if m.energy_kwh is None else energy(m.energy_kwh) for m in both)
        rows.append(("energy, estimated", *used))
    return rows


def curve_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the points of the learning curve: images, leave-one-out, accuracy on test images."""
    return [
        (f"{point.n:.0f} images", f"{point.loo_accuracy:.4f}", f"{point.test_accuracy:.4f}")
        for point in found.curve.points
    ]


def left_out_name(found: Comparison) -> str:
    """Return the name of leave-one-out, which is of groups where there are any."""
    return "leave-one-out" if found.n_test_groups is None else "leave-one-group-out"


def difference_text(found: Comparison) -> str:
    """Format the difference of the accuracies, with its interval; empty where there is none."""
    if (difference := found.difference) is None:
        return ""
    units = f"{difference.n} images"
    if found.n_test_groups is not None:
        units += f" in {found.n_test_groups} groups"
    return (
        f"difference {100 * difference.difference:+.1f} points, 95 % interval "
        f"{100 * difference.low:.1f} to {100 * difference.high:.1f}, exact p "
        f"{difference.p_value:.2g}, over {units}"
    )


def _outcomes(found: Comparison) -> list[MethodOutcome]:
    return [method for method in (found.top_tuning, found.fine_tuning) if method is not None]


def _cards(found: Comparison) -> list[dict[str, str]]:
    top, fine = found.top_tuning, found.fine_tuning
    cards = [
        card(
            percent(top.accuracy),
            "accuracy of top-tuning",
            f"{found.n_test:,} test images, after {duration(top.total_seconds)} of training",
        )
    ]
    if fine is not None and found.difference is not None and found.ratio is not None:
        low, high = (f"{100 * end:+.1f}" for end in (found.difference.low, found.difference.high))
        cards += [
            card(
                percent(fine.accuracy),
                "accuracy of fine-tuning",
                f"after {duration(fine.total_seconds)} of training",
            ),
            card(
                f"{100 * found.difference.difference:+.1f} points",
                "gained by fine-tuning",
                f"95 % interval {low} to {high}",
            ),
            card(times(found.ratio), "the training time", "of fine-tuning over top-tuning"),
        ]
    return cards
