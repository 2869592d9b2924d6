"""The progress bar is on standard error, and only where it is wanted."""

from __future__ import annotations

import pytest

from toptune.progress import progress_bar


@pytest.mark.parametrize(("enabled", "shown"), [(None, False), (False, False), (True, True)])
def test_progress_bar(
    enabled: bool | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("working", 4, enabled=enabled) as advance:
        advance(1)
        advance(3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("working" in captured.err and "4/4" in captured.err) == shown
    assert shown or captured.err == ""
