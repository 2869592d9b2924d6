"""The progress bar is on standard error, and only where it is wanted."""

from __future__ import annotations

import sys

import pytest

from toptune.runtime.progress import progress_bar


@pytest.mark.parametrize(("enabled", "shown"), [(None, False), (False, False), (True, True)])
def test_progress_bar(
    enabled: bool | None,
    shown: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # rich would take it for a terminal
        monkeypatch.delenv(name, raising=False)
    with progress_bar("working", 4, enabled=enabled) as advance:
        advance(1)
        advance(3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("working" in captured.err and "4/4" in captured.err) == shown
    assert shown or captured.err == ""


def test_by_default_it_is_shown_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    with progress_bar("working", 4) as advance:
        advance(4)
    assert "working" in capsys.readouterr().err


def test_an_error_inside_passes_and_the_bar_stops_where_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        pytest.raises(KeyError, match="inside"),
        progress_bar("working", 4, enabled=True) as advance,
    ):
        advance(2)
        raise KeyError("inside")
    assert "2/4" in capsys.readouterr().err
    with progress_bar("again", 1, enabled=True):  # it was closed: only one may be live
        pass
