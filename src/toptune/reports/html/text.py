"""Numbers in words, as pages and commands show them."""

from __future__ import annotations

from toptune.evaluation.learning_curve import Extrapolation


def duration(seconds: float) -> str:
    """Format a duration.

    Examples
    --------
    >>> [duration(value) for value in (0.42, 61.4, 1860, 9000)]
    ['0.4 seconds', '61 seconds', '31 minutes', '2.5 hours']
    """
    if seconds < 100:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    if seconds < 100 * 60:
        minutes = seconds / 60
        return f"{minutes:.1f} minutes" if minutes < 10 else f"{minutes:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def energy(kwh: float) -> str:
    """Format an energy in Wh or kWh.

    Examples
    --------
    >>> energy(0.000012), energy(0.0312), energy(1.2)
    ('0.012 Wh', '31.2 Wh', '1.2 kWh')
    """
    return f"{kwh:.1f} kWh" if kwh >= 1 else f"{1000 * kwh:.3g} Wh"


def signed(value: float) -> str:
    """Format a number with its sign, a real minus sign included.

    Examples
    --------
    >>> signed(-0.25), signed(1234.5)
    ('−0.250', '+1,234')
    """
    return (f"{value:+.3f}" if abs(value) < 100 else f"{value:+,.0f}").replace("-", "−")


def percent(share: float) -> str:
    """Format a share as a percentage.

    Examples
    --------
    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"


def percents(interval: tuple[float, float]) -> str:
    """Format an interval of a share as percentages.

    Examples
    --------
    >>> percents((0.5, 0.75))
    '50.0 to 75.0 %'
    """
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def times(ratio: float) -> str:
    """Format a ratio.

    Examples
    --------
    >>> times(1.52), times(93.4)
    ('1.5 times', '93 times')
    """
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def plural(n: int, noun: str) -> str:
    """Return a noun, given in the singular, as it stands after the number `n`.

    Examples
    --------
    >>> plural(1, "epoch"), plural(2, "epoch")
    ('epoch', 'epochs')
    """
    return noun if n == 1 else f"{noun}s"


def forecast(found: Extrapolation, accuracy: float) -> str:
    """Format what more training images would bring, from an accuracy of today."""
    if accuracy == 1:
        return "all test images are right already: more images could show no gain on them"
    if found.status == "too few sizes":
        return "too few images to say what more of them would bring"
    if found.status == "flat":
        return "no fall of the error beyond chance, so it does not show that more images would help"
    if found.status == "not identified":
        return "too uncertain to say what more images would bring"
    parts = []
    for row in found.forecasts:
        times = f"{row.multiple:g} times the images:"
        if row.gain is None or row.low is None or row.high is None:
            parts.append(f"{times} too uncertain to say")
        else:
            interval = f"{100 * row.low:.1f} to {100 * row.high:.1f}"
            parts.append(f"{times} {100 * row.gain:+.1f} points ({interval})")
    return "; ".join(parts)


def card(value: str, what: str, detail: str) -> dict[str, str]:
    """Return one of the first numbers of a page: the value, its name, and a line below it."""
    return {"value": value, "what": what, "detail": detail}
