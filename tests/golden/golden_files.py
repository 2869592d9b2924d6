"""Reading stored files without any code of toptune, so that it may change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from golden_material import FILES
from numpy.typing import NDArray
from safetensors import safe_open


def read_file(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the tensors of a file, and its JSON document; empty where it has none."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return tensors, json.loads((file.metadata() or {}).get("toptune", "{}"))


def read_arrays(prefix: str) -> dict[str, NDArray[Any]]:
    """Read the expected arrays whose names begin with `prefix`, by the rest of their names."""
    tensors, _ = read_file(FILES / "expected.safetensors")
    found = {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
    assert found, f"nothing is stored for {prefix}: run make_golden.py"
    return found
