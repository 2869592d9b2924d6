"""The JSON of the commands: keys, order and types always, values as far as a machine allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_commands import COMMANDS, SLOW, run_command, without_paths
from golden_comparison import (
    CLOSE,
    assert_same_json,
    bits_count,
    has_bfloat16,
    same_machine,
    stored_results,
    without_volatile,
)
from golden_comparison import COMMANDS as ELSEWHERE


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in COMMANDS],
)
def test_command_with_json_prints_the_stored_document(name: str, tmp_path: Path) -> None:
    found = without_volatile(without_paths(run_command(name, str(tmp_path / "out"))))
    tolerance = 0.0 if bits_count(name) else CLOSE if same_machine() else ELSEWHERE
    if has_bfloat16() and not same_machine():
        tolerance = float("inf")
    assert_same_json(found, stored_results()["commands"][name], tolerance=tolerance)
