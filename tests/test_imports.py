"""The direction of imports, what importing costs, and rules that hold for every source file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import toptune

SOURCE = Path(toptune.__file__).parent

# A part, which is a module or a package of toptune, imports only from those above it in the table.
CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
PARTS = re.findall(r"^\|.*\| `src/toptune/(\w+)(?:/|\.py)` \|$", CONTRIBUTING, flags=re.MULTILINE)
LEVEL = {part: level for level, part in enumerate(PARTS)}
# The head works on arrays of any origin, and decisions on any predictions.
FORBIDDEN = {name: {"images", "features"} for name in ("kernel", "decisions")}

# Typer itself looks for pydantic.
HEAVY = (
    *("torch", "sklearn", "numpy", "scipy", "openvino", "timm"),
    *("PIL", "pyarrow", "matplotlib", "jinja2", "yaml"),
)


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax tree of every module by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("toptune", *path.relative_to(SOURCE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    return found


def imported(name: str) -> set[str]:
    """Modules of toptune that the module `name` imports, at its top, in functions, for types."""
    wanted: set[str] = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively: write the full name"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                wanted.add(below if below in modules() else str(node.module))
    return {module for module in wanted if module in modules()}


def part_of(module: str) -> str:
    return module.split(".")[1]


BELOW_ROOT = [name for name in modules() if name != "toptune"]


def test_modules_all_are_in_the_table() -> None:
    parts = {part_of(name) for name in BELOW_ROOT}
    assert parts == LEVEL.keys(), "put a new part into the table of CONTRIBUTING"
    assert len(PARTS) == len(LEVEL)


@pytest.mark.parametrize("name", BELOW_ROOT)
def test_toptune_imports_nothing_of_the_study(name: str) -> None:
    tops = {
        module.split(".")[0]
        for node in ast.walk(modules()[name])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        )
        if module
    }
    assert "toptune_study" not in tops


@pytest.mark.parametrize("name", BELOW_ROOT)
def test_imports_go_upwards_in_the_table(name: str) -> None:
    part = part_of(name)
    for module in imported(name) - {"toptune"}:
        other = part_of(module)
        if other != part:
            assert LEVEL[other] < LEVEL[part], f"{name} must not import {module}"
            assert other not in FORBIDDEN.get(part, ()), f"{name} must not import {module}"


def test_imports_form_no_circle() -> None:
    graph = {name: imported(name) - {name, "toptune"} for name in BELOW_ROOT}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_imports_take_only_the_version_from_the_root() -> None:
    for name in BELOW_ROOT:
        for node in ast.walk(modules()[name]):
            if isinstance(node, ast.ImportFrom) and node.module == "toptune":
                taken = {a.name for a in node.names if f"toptune.{a.name}" not in modules()}
                assert taken <= {"__version__"}, f"{name} imports {taken} from toptune"


@pytest.mark.parametrize("name", BELOW_ROOT)
def test_modules_outside_cli_do_not_print(name: str) -> None:
    calls = [
        node.lineno
        for node in ast.walk(modules()[name])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls or part_of(name) == "cli", f"{name} prints in lines {calls}"


@pytest.mark.parametrize("name", list(modules()))
def test_modules_have_no_bare_except(name: str) -> None:
    bare = [
        node.lineno
        for node in ast.walk(modules()[name])
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not bare, f"{name} catches everything in lines {bare}"


def test_public_names_resolve() -> None:
    assert dir(toptune) == sorted(toptune.__all__)
    for name in toptune.__all__:
        assert getattr(toptune, name) is not None
    with pytest.raises(AttributeError, match="'toptune' has no attribute 'TopTunr'"):
        toptune.TopTunr  # noqa: B018


def loaded_after(code: str) -> set[str]:
    """Heavy libraries that a fresh interpreter has loaded after `code`."""
    report = f"import sys; print(*(set(sys.modules) & set({HEAVY})), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_import_of_toptune_loads_no_library() -> None:
    assert loaded_after("import toptune; toptune.__version__; dir(toptune)") == set()


def test_help_loads_no_heavy_library() -> None:
    code = """
import sys
from toptune.cli.app import main
for arguments in "--help", "--version", "fit --help", "predict -h", "study run -h", "datasets -h":
    sys.argv = ["toptune", *arguments.split()]
    try:
        main()
    except SystemExit as left:
        assert not left.code, left.code
"""
    assert loaded_after(code) == set()


def test_loaded_after_a_heavy_import_names_it() -> None:
    assert loaded_after("import numpy") == {"numpy"}
