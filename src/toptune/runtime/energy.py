"""Energy that a piece of work took, as codecarbon estimates it: an optional package.

The processor's own counters are read where the system lets one, else the energy is the time of
this process on the processors times their nominal power. One tracker serves a process, each block
is one of its tasks: the first costs seconds, because the hardware is looked at, each further one
milliseconds. Nothing is sent anywhere and no file is written.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import warnings
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

_lock = threading.Lock()
_numbers = itertools.count(1)
_trackers: dict[int, Any] = {}  # by process: a forked one needs its own


def energy_available() -> bool:
    """Return whether codecarbon is installed (``pip install "toptune[energy]"``)."""
    return find_spec("codecarbon") is not None


class EnergyMeter:
    """Estimate the energy of a block of code.

    Within one process one block is measured at a time; a block inside another, or beside it in
    another thread, is not measured.

    Attributes
    ----------
    kwh : float or None
        Kilowatt-hours of the block, an estimate, once it has ended. None where codecarbon is not
        installed or does not work here.

    Examples
    --------
    >>> from toptune.runtime.energy import EnergyMeter
    >>> with EnergyMeter() as meter:
    ...     total = sum(range(1000))
    >>> meter.kwh is None or meter.kwh >= 0
    True
    """

    kwh: float | None = None

    def __enter__(self) -> EnergyMeter:
        self.kwh = None
        self._task: str | None = None
        if energy_available() and _lock.acquire(blocking=False):
            try:
                tracker = _tracker()
                name = f"block {next(_numbers)}"
                tracker.start_task(name)
                self._task = name
            except Exception:  # noqa: BLE001 - an estimate must not end what it measures
                _trackers.pop(os.getpid(), None)
                _lock.release()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is None:
            return
        try:
            self.kwh = float(_tracker().stop_task(self._task).energy_consumed)
        except Exception:  # noqa: BLE001 - as above
            _trackers.pop(os.getpid(), None)
        finally:
            self._task = None
            _lock.release()


def _tracker() -> Any:
    """Return this process's tracker, made on the first use."""
    found = _trackers.get(os.getpid())
    if found is None:
        found = _trackers[os.getpid()] = _new_tracker()
    return found


def _new_tracker() -> Any:
    """Make a tracker that asks nobody, writes nothing and says nothing, whatever the settings."""
    kind = import_module("codecarbon").OfflineEmissionsTracker
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(
            country_iso_code="USA",  # for emissions, which nobody asks for here
            tracking_mode="process",
            log_level="critical",
            allow_multiple_runs=True,
            # What the user's own settings of codecarbon could ask for.
            output_methods=[],
            emissions_endpoint=None,
            electricitymaps_api_token="",
        )
