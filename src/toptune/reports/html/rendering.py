"""Templates -> pages that work offline, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from toptune.reports.html.drawing import DARK


def render(
    package: str,
    template: str,
    content: Mapping[str, Any],
) -> str:
    """Fill a template.

    Parameters
    ----------
    package : str
        Where the template is, beside the modules, such as ``toptune_study``.
    template : str
        Its file name. It extends ``base.html.j2`` and fills its blocks title, style, header and
        main.
    content : mapping
        What it names. Every value is escaped unless it is Markup, and a name that is not there is
        an error.

    Returns
    -------
    str
        The page.
    """
    import jinja2

    def source(name: str) -> str | None:
        for place in (package, __package__):
            file = resources.files(place).joinpath(name)
            if file.is_file():
                return file.read_text(encoding="utf-8")
        return None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "light": {name: color for color, (name, _) in DARK.items()},
        "dark": dict(DARK.values()),
    }
    return environment.get_template(template).render(content)
