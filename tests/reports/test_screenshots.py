"""Pages in a real browser: drawn, light and dark, wide and narrow, without errors or requests."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from toptune import TopTuner
from toptune.images import image_files
from toptune.reports.explanation import explanation_page
from toptune.reports.html.drawing import DARK, PAPER
from toptune.reports.model import build_report, report_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium to draw pages with")

LIGHT_BLUE, LIGHT_ORANGE = (0, 114, 178), (213, 94, 0)


def rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@dataclass(frozen=True)
class Shot:
    """What the browser drew and said."""

    pixels: np.ndarray
    console: list[str]
    requests: list[str]

    def part(self, color: tuple[int, int, int], *, near: int = 12) -> float:
        """Part of the picture that has a colour, or nearly."""
        distance = np.abs(self.pixels.astype(int) - color).max(axis=2)
        return float((distance <= near).mean())


def shoot(page: Path, *, width: int, height: int, dark: bool = False) -> Shot:
    out, log = page.with_suffix(".png"), page.with_suffix(".log.json")
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            *("--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}"),
            *(f"--log-net-log={log}", f"--screenshot={out}", f"--window-size={width},{height}"),
            *(["--force-dark-mode"] if dark else []),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.is_file(), done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for on its own account has no origin.
    requests = [
        str(event["url"])
        for event in events
        if event.get("initiator", "not an origin") != "not an origin"
        and not str(event["url"]).startswith("data:")
    ]
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Shot(pixels, console, requests)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, tiny_name: str) -> dict[str, Path]:
    """Both pages, of a model of handwritten digits."""
    root = tmp_path_factory.mktemp("pages")
    digits = load_digits(n_class=3)
    for k in range(30):
        folder = root / "digits" / str(digits.target[k])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[k] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{k:02d}.png")
    tuner = TopTuner(backbone=tiny_name, layers="last", cache=None).fit(root / "digits")
    report, explained = root / "report.html", root / "explanation.html"
    report.write_text(report_page(build_report(tuner), model="digits"), encoding="utf-8")
    found = tuner.explain(root / "digits" / "0" / "00.png")
    files = image_files(tuner.ids_, [root / "digits"])
    explained.write_text(explanation_page(found, files), encoding="utf-8")
    return {"report": report, "explanation": explained}


def test_shoot_bad_page_shows_requests_and_errors(tmp_path: Path) -> None:
    """So that the next test does not pass because nothing is ever seen."""
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://example.invalid/a.png"><script>console.error("x")</script>')
    shot = shoot(page, width=600, height=400)
    assert shot.requests == ["http://example.invalid/a.png"]
    assert any('"x"' in line for line in shot.console)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["report", "explanation"])
def test_page_in_browser_is_drawn(pages: dict[str, Path], name: str, dark: bool) -> None:
    shot = shoot(pages[name], width=1000, height=3600, dark=dark)
    assert shot.pixels.shape == (3600, 1000, 3)
    assert shot.console == []
    assert shot.requests == []
    paper, blue, orange = PAPER, LIGHT_BLUE, LIGHT_ORANGE
    if dark:
        paper, blue, orange = (
            DARK[PAPER][1],
            rgb(DARK["#0072b2"][1]),
            rgb(DARK["#d55e00"][1]),
        )
    assert 0.4 < shot.part(rgb(paper)) < 0.98
    for color in (blue, orange):
        assert shot.part(color) > 0.00005  # points, bars and lines of the charts
    if dark:
        assert shot.part((255, 255, 255)) < 0.02  # nothing stays as on a light page


@pytest.mark.parametrize("name", ["report", "explanation"])
def test_page_on_a_telephone_is_not_cut_off(pages: dict[str, Path], name: str) -> None:
    """Text and charts end before the right edge of a narrow window, as they do before the left."""
    shot = shoot(pages[name], width=500, height=3000)
    edge = shot.pixels[:, -8:].reshape(-1, 3)
    assert (edge == rgb(PAPER)).all()
    assert shot.part(rgb(PAPER)) < 0.97
