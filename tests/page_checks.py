"""What a page must be: whole, with nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Text and attributes of a page, and whether its elements are closed in order."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def check_alone(self) -> None:
        """Nothing is run, and all that is shown is in the page."""
        assert not {"script", "link", "iframe", "object", "embed", "base"} & set(self.tags)
        assert not [name for name, _ in self.attributes if name.startswith("on")]
        loaded = [v for name, v in self.attributes if name in ("src", "srcset", "xlink:href")]
        loaded += [v for name, v in self.attributes if name == "href"]
        assert [v for v in loaded if not v.startswith(("data:image/", "#"))] == []
        assert "@import" not in self.source
        assert re.findall(r"url\((?!#)", self.source) == []
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {v[1:] for v in loaded if v.startswith("#")} <= set(ids)
        assert "prefers-color-scheme: dark" in self.source
