"""The energy meter: with codecarbon where it is installed, without it, and with a false one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

import toptune
from toptune.runtime import energy
from toptune.runtime.energy import EnergyMeter, energy_available


class FalseTracker:
    """Counts a kilowatt-hour per task, and notes how it was made and called."""

    made: ClassVar[list[dict[str, Any]]] = []
    calls: ClassVar[list[str]] = []
    fails_at = ""

    def __init__(
        self,
        *,
        country_iso_code: str,
        tracking_mode: str,
        log_level: str,
        allow_multiple_runs: bool,
        output_methods: list[str],
        emissions_endpoint: str | None,
        electricitymaps_api_token: str,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self.made.append(given)

    def start_task(self, name: str) -> None:
        self._note("start", name)

    def stop_task(self, name: str) -> SimpleNamespace:
        self._note("stop", name)
        return SimpleNamespace(energy_consumed=1.0)

    def _note(self, what: str, name: str) -> None:
        self.calls.append(f"{what} {name}")
        if what == self.fails_at:
            raise RuntimeError("no such hardware")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FalseTracker]]:
    """A codecarbon that is not one."""
    module = ModuleType("codecarbon")
    kind = type("OfflineEmissionsTracker", (FalseTracker,), {"made": [], "calls": []})
    module.OfflineEmissionsTracker = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr(energy, "find_spec", lambda name: module)
    monkeypatch.setattr(energy, "_trackers", {})
    yield kind
    assert not energy._lock.locked()


def test_one_tracker_measures_every_block(tracker: type[FalseTracker]) -> None:
    for _ in range(3):
        with EnergyMeter() as meter:
            assert meter.kwh is None
        assert meter.kwh == 1.0
    assert len(tracker.made) == 1
    starts, stops = tracker.calls[::2], tracker.calls[1::2]
    assert [call.split()[0] for call in tracker.calls] == ["start", "stop"] * 3
    assert [s.removeprefix("start ") for s in starts] == [s.removeprefix("stop ") for s in stops]
    assert len(set(starts)) == 3  # codecarbon would rename a second task of one name


def test_nothing_is_written_sent_or_locked(tracker: type[FalseTracker]) -> None:
    with EnergyMeter():
        pass
    (given,) = tracker.made
    assert given["output_methods"] == []
    assert given["emissions_endpoint"] is None
    assert given["electricitymaps_api_token"] == ""  # not that of the user's settings
    assert given["allow_multiple_runs"] is True
    assert given["country_iso_code"]


def test_a_block_within_another_is_not_measured(tracker: type[FalseTracker]) -> None:
    with EnergyMeter() as outer:
        with EnergyMeter() as inner:
            pass
        assert inner.kwh is None
    assert outer.kwh == 1.0
    assert len(tracker.calls) == 2


def test_an_error_in_the_block_is_not_kept(tracker: type[FalseTracker]) -> None:
    with pytest.raises(KeyError), EnergyMeter():
        raise KeyError("x")
    with EnergyMeter() as meter:
        pass
    assert meter.kwh == 1.0


@pytest.mark.parametrize("where", ["start", "stop"])
def test_a_meter_that_fails_ends_nothing(
    tracker: type[FalseTracker], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(tracker, "fails_at", where)
    with EnergyMeter() as meter:
        ran = True
    assert ran
    assert meter.kwh is None
    monkeypatch.setattr(tracker, "fails_at", "")
    with EnergyMeter() as meter:
        pass
    assert meter.kwh == 1.0
    assert len(tracker.made) == 2


def test_without_codecarbon_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert not energy_available()
    with EnergyMeter() as meter:
        pass
    assert meter.kwh is None


REAL = """
import json, os, threading, time
from toptune.runtime.energy import EnergyMeter
def deny(*arguments): raise OSError("no network in this test")
import socket
socket.socket.connect = deny
socket.getaddrinfo = deny
def burn(seconds):
    with EnergyMeter() as meter:
        start = time.perf_counter()
        while time.perf_counter() < start + seconds: pass
    return meter.kwh
burn(0)  # looks at the hardware
energies = [burn(0.2), burn(2.0)]
start = time.perf_counter()
for _ in range(10): burn(0)
each = (time.perf_counter() - start) / 10
for thread in threading.enumerate():  # a timer that was cancelled needs a moment to end
    if thread is not threading.main_thread(): thread.join(10)
print(json.dumps([energies, each, threading.active_count(), os.listdir(".")]))
"""


@pytest.mark.skipif(not energy_available(), reason="codecarbon is not installed")
def test_the_real_one_is_silent_cheap_and_plausible(tmp_path: Path) -> None:
    source = str(Path(toptune.__file__).parents[1])
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    hostile = {"CODECARBON_SAVE_TO_API": "true", "CODECARBON_OUTPUT_METHODS": "csv,api"}
    hostile |= {"CODECARBON_CO2_SIGNAL_API_TOKEN": "x", "CODECARBON_LOG_LEVEL": "debug"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(REAL)],
            cwd=tmp_path,
            env={**os.environ, **hostile, "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)  # two at a time, none of which locks the other out
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        (short, long), each, n_threads, files = json.loads(out)
        # Between a tenth of a watt and a kilowatt: 2 s are 5.6e-8 to 5.6e-4 kWh.
        assert 2 / 3.6e6 * 0.1 < long < 2 / 3.6e6 * 1000
        assert 0 < short < long
        assert each < 0.5  # milliseconds on a machine at rest
        assert n_threads == 1
        assert files == []
