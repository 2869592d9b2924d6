"""How results are compared with stored ones: to the last bit, or to a tolerance, and which.

Sums of many terms depend on the order in which a processor adds them: another kind of processor,
another number of threads or another version of a library gives other last digits. So bits are
compared only where `fingerprint` is the one stored with the golden files. Elsewhere numbers must
agree to a part of the largest number beside them, types and shapes must be the same, and numbers
that rounding may change altogether (see `ILL_CONDITIONED`) are not compared.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from golden_material import FILES
from numpy.typing import NDArray

#: Names of models, heads and commands whose sums are added in another order than when the golden
#: files were made, with the reason. They are compared to `CLOSE` also where bits could be.
REORDERED: dict[str, str] = {}

#: Largest difference on the machine of the golden files, as a part of the largest number.
CLOSE = 1e-6
#: The same on another machine: for answers of stored models, for fits to stored features, and for
#: commands, whose features another network engine computes, too.
ANSWERS, FITS, COMMANDS = 1e-3, 1e-2, 5e-2

#: Tensors that differ freely between machines: coefficients of nearly dependent centers, and
#: factors of nearly singular matrices, whose products with others are compared instead.
ILL_CONDITIONED = {"dual_coef", "whiten", "rows", "grams", "class_sums"}

#: Settings that choose the instructions of a library.
_SETTINGS = (
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE"),
    *("ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES", "OMP_NUM_THREADS"),
)
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "openvino", "pillow")

#: Values of commands that no two runs share: durations and what follows from them, memory, places
#: and versions.
_VOLATILE = {
    *("seconds", "predict_seconds", "total_seconds", "train_seconds", "seconds_to_start"),
    *("seconds_per_image", "images_per_second", "estimated_seconds", "ratio", "verdict"),
    *("energy_kwh", "peak_memory"),
    *("versions", "threads", "cache", "cache_megabytes", "engine", "device", "precision"),
}


def fingerprint() -> dict[str, Any]:
    """What decides the last bits of a result on this machine."""
    import torch

    processor = _processor()
    return {
        "machine": platform.machine(),
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "settings": {name: os.environ.get(name) for name in _SETTINGS},
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _processor() -> list[str]:
    """Lines of the first processor that tell its kind, where the system has them."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return [platform.processor()]
    told = ("vendor_id", "cpu family", "model", "stepping", "flags")
    first = path.read_text().split("\n\n")[0].splitlines()
    return [" ".join(line.split()) for line in first if line.split(":")[0].strip() in told]


def stored_results() -> dict[str, Any]:
    """Return the fingerprint and the JSON of the commands that `make_golden.py` wrote."""
    found: dict[str, Any] = json.loads((FILES / "expected.json").read_text())
    return found


def bits_count(name: str) -> bool:
    """Whether results of `name` must be the stored ones to the last bit."""
    return name not in REORDERED and same_machine()


def same_machine() -> bool:
    """Whether this machine computes as that of the golden files."""
    return bool(fingerprint() == stored_results()["fingerprint"])


def has_bfloat16() -> bool:
    """Whether commands compute features in bfloat16 here, which changes their third digit."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


# --------------------------------------------------------------------------------------- arrays


def assert_same_arrays(
    found: dict[str, NDArray[Any]],
    expected: dict[str, NDArray[Any]],
    *,
    name: str,
    elsewhere: float,
) -> None:
    """Compare arrays by name.

    Parameters
    ----------
    found, expected : dict of ndarray
        Of the same names, types and shapes.
    name : str
        What they belong to: a key of `REORDERED` is compared to `CLOSE`.
    elsewhere : float
        Tolerance on another machine, as a part of the largest number of an array.
    """
    assert found.keys() == expected.keys()
    exact = bits_count(name)
    tolerance = CLOSE if same_machine() else elsewhere
    for key, array in expected.items():
        other = found[key]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), key
        if exact or array.dtype.kind != "f":
            assert other.tobytes() == array.tobytes(), f"{name}: {key} has other bits"
        elif array.size and key not in ILL_CONDITIONED:
            part = np.abs(other - array).max() / max(float(np.abs(array).max()), 1e-30)
            assert part <= tolerance, f"{name}: {key} differs by {part:.2g} of its largest"


# ----------------------------------------------------------------------------------------- JSON


def assert_same_json(found: Any, expected: Any, *, tolerance: float, where: str = "") -> None:
    """Compare JSON: keys, their order, lengths and types exactly, floats to a tolerance.

    Parameters
    ----------
    found, expected
        What JSON holds; see `without_volatile`.
    tolerance : float
        Of floats, relative to the larger of 1 and the number; 0 compares bits, infinity compares
        only the structure.
    where : str
        Place in the document, for the message.
    """
    assert type(found) is type(expected), f"{where}: {found!r} instead of {expected!r}"
    if isinstance(expected, dict):
        assert list(found) == list(expected), f"{where}: other keys"
        for key, value in expected.items():
            assert_same_json(found[key], value, tolerance=tolerance, where=f"{where}/{key}")
    elif isinstance(expected, list):
        if tolerance < np.inf:
            assert len(found) == len(expected), f"{where}: {len(found)}, not {len(expected)}"
        for k, (one, other) in enumerate(zip(found, expected, strict=False)):
            assert_same_json(one, other, tolerance=tolerance, where=f"{where}/{k}")
    elif isinstance(expected, float) and tolerance > 0:
        limit = tolerance * max(1.0, abs(expected))
        assert abs(found - expected) <= limit, f"{where}: {found!r} instead of {expected!r}"
    elif tolerance < np.inf:
        assert found == expected, f"{where}: {found!r} instead of {expected!r}"


def without_volatile(content: Any, key: str = "") -> Any:
    """Return JSON in which values that no two runs share are the names of their types."""
    if isinstance(content, dict):
        inside = key if key in _VOLATILE else ""
        return {name: without_volatile(value, inside or name) for name, value in content.items()}
    if isinstance(content, list):
        return [without_volatile(value, key) for value in content]
    if key == "energy_kwh" and content is None:  # what measures it is not always installed
        return "<float>"
    return f"<{type(content).__name__}>" if key in _VOLATILE else content
