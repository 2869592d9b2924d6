"""What a piece of work needed: memory at its peak, and on what machine."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from pathlib import Path


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory, since `reset_peak_memory`.

    What getrusage says, the fallback, is never less than the peak of the process that started this
    one, and cannot be reset. 0 where the system does not say, as on Windows.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
