"""Style of all figures: colours, matplotlib's parameters without its global state, SVG.

Colours are those of Okabe and Ito, which the colour-blind can distinguish. `DARK` has those of dark
pages.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, MUTED, RULE = "#ffffff", "#1f2328", "#69707a", "#dfe3e8"
BLUE, ORANGE, GREEN, PURPLE, AMBER = "#0072b2", "#d55e00", "#009e73", "#b0508c", "#a87900"
#: Colours of classes or methods, in the order of their use.
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, INK)
#: Colours of light pages and what takes their place on dark ones, with the name of the variable.
DARK = {
    PAPER: ("paper", "#12161c"),
    INK: ("ink", "#e8eaed"),
    MUTED: ("muted", "#9aa3ae"),
    RULE: ("rule", "#2c343e"),
    BLUE: ("blue", "#56b0f0"),
    ORANGE: ("orange", "#ff9350"),
    GREEN: ("green", "#38cfa2"),
    PURPLE: ("purple", "#e08cc0"),
    AMBER: ("amber", "#e3b341"),
    "#3b9fc9": ("cyan", "#8fd3f4"),
}
# matplotlib's parameters: text stays text, and names are never formulas.
_PARAMETERS: Any = {
    "svg.hashsalt": "toptune",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of this size, inches, and its axes, under the parameters of all figures."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_PARAMETERS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def legend(axes: Axes, columns: int = 3) -> None:
    """Put the legend above the axes."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handletextpad=0.4
    )


def svg_text(figure: Figure) -> str:
    """Return a figure as a whole SVG document, the same for the same figure."""
    return _saved(figure, "svg").decode()


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as a PNG file of 160 dots an inch."""
    return _saved(figure, "png")


def _saved(figure: Figure, kind: str) -> bytes:
    import matplotlib

    nothing = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context(_PARAMETERS):
        figure.savefig(buffer, format=kind, dpi=160, metadata=dict.fromkeys(nothing))
    return buffer.getvalue()


def inline_svg(document: str, name: str, title: str) -> str:
    """Make a figure part of a page: colours become its variables, ids its own.

    Parameters
    ----------
    document : str
        What `svg_text` returned.
    name : str
        Put before all ids.
    title : str
        Label for screen readers; escaped already.
    """
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for color, (variable, _) in DARK.items():
        body = body.replace(color, f"var(--{variable})")
    attributes = f'<svg role="img" aria-label="{title}"'
    return body.replace("<svg", attributes, 1).strip()


def inline_figure(figure: Figure, name: str, title: str) -> Any:
    """Return a figure as Markup for a template; `name` and `title` as for `inline_svg`."""
    from markupsafe import Markup

    return Markup(inline_svg(svg_text(figure), name, html.escape(title)))
