"""Tables as Markdown, CSV, LaTeX and HTML from the same values."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "text", "count", "score", "points", "p", "seconds", "ratio", "number", "points range", "range"
]
#: What stands where there is no value.
NOTHING = "–"


@dataclass(frozen=True)
class Head:
    """Title of a column, and what kind of values it has."""

    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Values in rows; how they are written is left to the format.

    Attributes
    ----------
    name : str
        Of its files.
    title, note : str
        What it shows, and what to mind.
    heads : tuple of Head
        Columns.
    rows : list of tuple
        Values: text, numbers, ranges as pairs of numbers, or None.
    """

    name: str
    title: str
    heads: tuple[Head, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""

    def cells(self, escape: Callable[[str], str]) -> list[list[str]]:
        """All values as text, in which `escape` has treated what is not of our making."""
        return [
            [escape(shown(value, head.kind)) for value, head in zip(row, self.heads, strict=True)]
            for row in self.rows
        ]

    def markdown(self) -> str:
        """Return a table of GitHub's Markdown, without the title."""
        marks = ["---" if head.kind == "text" else "--:" for head in self.heads]
        titles = [markdown_text(head.title) for head in self.heads]
        lines = [titles, marks, *self.cells(markdown_text)]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)

    def csv(self) -> str:
        """Return comma-separated values in full precision; a range becomes two columns."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        titles: list[str] = []
        for head in self.heads:
            ends = (" low", " high") if head.kind.endswith("range") else ("",)
            titles += [head.title + end for end in ends]
        writer.writerow(titles)
        for row in self.rows:
            line: list[Any] = []
            for value, head in zip(row, self.heads, strict=True):
                line += (value or (None, None)) if head.kind.endswith("range") else (value,)
            writer.writerow(line)
        return buffer.getvalue()

    def latex(self) -> str:
        r"""Return a tabular environment for the package booktabs, to put into a table."""
        sides = "".join("l" if head.kind == "text" else "r" for head in self.heads)
        titles = " & ".join(latex_text(head.title) for head in self.heads)
        body = "".join(" & ".join(row) + " \\\\\n" for row in self.cells(latex_text))
        return (
            f"% {latex_text(self.title)}\n"
            f"\\begin{{tabular}}{{{sides}}}\n\\toprule\n{titles} \\\\\n\\midrule\n"
            f"{body}\\bottomrule\n\\end{{tabular}}\n"
        )

    def html_rows(self) -> list[list[str]]:
        """All values as text of HTML."""
        return self.cells(lambda text: html.escape(re.sub(r"(?<![\w.])-(?=\d)", "−", text)))


def shown(value: Any, kind: Kind) -> str:
    """Write a value for readers."""
    if value is None or value != value:
        return NOTHING
    if kind.endswith("range"):
        low, high = value
        inner: Kind = "points" if kind == "points range" else "ratio"
        return f"{shown(low, inner)} to {shown(high, inner)}"
    if kind == "score":
        return f"{value:.3f}"
    if kind == "points":
        # What rounds to zero has no sign.
        return f"{value:+.1f}" if round(value, 1) else "0.0"
    if kind == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if kind in ("seconds", "ratio"):
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.2f}" if kind == "number" else str(value)


def markdown_text(text: str) -> str:
    """Escape what Markdown, its HTML or GitHub's formulas would take for their own."""
    line = re.sub(r"\s+", " ", text)
    line = re.sub(r"([\\|*`\[\]$#~])", r"\\\1", line)
    # An underscore within a word is none of emphasis.
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """Escape what LaTeX would take for its own; minus signs become those of formulas."""
    line = "".join(_LATEX.get(mark, mark) for mark in re.sub(r"\s+", " ", text))
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", line)
