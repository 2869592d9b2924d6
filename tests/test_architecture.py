"""Rules of CONTRIBUTING that hold for every source file, checked on its syntax tree.

`KNOWN` lists what does not hold yet. Each entry must still be true: one that was mended goes.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400
#: Begin with an underscore only so that they are no fields of a named tuple.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}

KNOWN: dict[str, set[str]] = {
    "long files": {
        "src/toptune/kernel/base.py",
        "src/toptune/kernel/estimators.py",
        "src/toptune/tuner.py",
    },
    "private doors": {
        "src/toptune/kernel/changing.py: _border",
        "src/toptune/kernel/changing.py: _center_rows",
        "src/toptune/kernel/changing.py: _changed",
        "src/toptune/kernel/changing.py: _class_weights",
        "src/toptune/kernel/changing.py: _coverage",
        "src/toptune/kernel/changing.py: _groups",
        "src/toptune/kernel/changing.py: _phi",
        "src/toptune/kernel/changing.py: _placed_rows",
        "src/toptune/kernel/changing.py: _rowless",
        "src/toptune/kernel/changing.py: _statistics",
        "src/toptune/kernel/changing.py: _whiten_of",
        "src/toptune/kernel/estimators.py: _check_parameters",
        "src/toptune/kernel/estimators.py: _check_sample_weight",
        "src/toptune/kernel/estimators.py: _checked_scores",
        "src/toptune/kernel/estimators.py: _group_codes",
        "src/toptune/kernel/estimators.py: _keep",
        "src/toptune/kernel/estimators.py: _knows_left_out",
        "src/toptune/kernel/estimators.py: _rows",
        "src/toptune/kernel/estimators.py: _scores",
        "src/toptune/kernel/estimators.py: _solve",
        "src/toptune/kernel/kept.py: _device",
        "src/toptune/kernel/kept.py: _group_codes",
        "src/toptune/kernel/kept.py: _rows",
        "src/toptune/kernel/sharing.py: _absent",
        "src/toptune/kernel/sharing.py: _balanced",
        "src/toptune/kernel/sharing.py: _center_rows",
        "src/toptune/kernel/sharing.py: _changed",
        "src/toptune/kernel/sharing.py: _class_weights",
        "src/toptune/kernel/sharing.py: _coverage",
        "src/toptune/kernel/sharing.py: _feature_scale_array",
        "src/toptune/kernel/sharing.py: _has_rows",
        "src/toptune/kernel/sharing.py: _kept",
        "src/toptune/kernel/sharing.py: _offset",
        "src/toptune/kernel/sharing.py: _parts",
        "src/toptune/kernel/sharing.py: _placed_rows",
        "src/toptune/kernel/sharing.py: _rowless",
        "src/toptune/kernel/sharing.py: _statistics",
        "src/toptune/kernel/stored.py: _feature_scale",
        "src/toptune/kernel/stored.py: _feature_scale_array",
        "src/toptune/kernel/stored.py: _offset",
    },
    "ladders": {
        "src/toptune/images/reading.py: UnreadableImage",
        "src/toptune/kernel/changing.py: ChangeableClassifier",
        "src/toptune/kernel/estimators.py: KernelClassifier",
        "src/toptune/kernel/sharing.py: SharingClassifier",
    },
    "names defined twice": {
        "Loss",
    },
    "modules at the root": set(),
}


@cache
def sources() -> dict[str, ast.Module]:
    """Syntax tree of every file of the two packages and the benchmarks, by its path."""
    folders = ("src/toptune", "src/toptune_study", "benchmarks")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in paths
    }


def check(rule: str, offenders: set[str]) -> None:
    """Compare offenders with the known ones, both ways."""
    assert offenders - KNOWN[rule] == set(), f"new: {rule}"
    assert KNOWN[rule] - offenders == set(), f"mended, take out of KNOWN: {rule}"


def test_sources_root_holds_three_modules() -> None:
    modules = {path.stem for path in (ROOT / "src/toptune").glob("*.py")}
    check("modules at the root", modules - {"__init__", "errors", "tuner"})


def test_sources_length_is_one_reading() -> None:
    lengths = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in sources()}
    check("long files", {name for name, length in lengths.items() if length > MAX_LINES})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in NAMED_TUPLE | {"_"}


def own_names(tree: ast.Module) -> set[str]:
    """Private names that a module defines: functions, classes, attributes of its own classes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                found |= {
                    name.id
                    for target in targets_of(statement)
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name)
                }
        for target in targets_of(node):
            found |= {
                part.attr
                for part in ast.walk(target)
                if isinstance(part, ast.Attribute) and is_self(part.value)
            }
    return found


def targets_of(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def private_uses(tree: ast.Module) -> Iterator[str]:
    """Private names that a module takes from elsewhere."""
    own = own_names(tree)
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_module = isinstance(node.value, ast.Name) and node.value.id in modules
            if of_module or node.attr not in own:
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if node.func.id in {"getattr", "setattr", "hasattr", "delattr"}:
                yield from (
                    n for n in names if isinstance(n, str) and is_private(n) and n not in own
                )


def test_sources_open_no_private_doors() -> None:
    check(
        "private doors",
        {f"{name}: {used}" for name, tree in sources().items() for used in private_uses(tree)},
    )


@pytest.mark.parametrize(
    "code",
    [
        "from toptune.tuner import _rows",
        "tuner._rows(test)",
        "part._loaded = 1",
        "import toptune.tuner as t\ndef _rows(): ...\nt._rows()",
        "getattr(tuner, '_rows')",
        "class A(B):\n    def f(self): return self._of_b",
    ],
)
def test_private_uses_of_another_module_are_found(code: str) -> None:
    assert list(private_uses(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    def __init__(self): self._x = 1\ndef f(a): return a._x",
        "class A:\n    _x: int = 1\n    def _f(self): return self._x\n\nA()._f()",
        "point._replace(x=1); point.__class__; _x = 1; _x",
    ],
)
def test_private_uses_of_its_own_are_allowed(code: str) -> None:
    assert not list(private_uses(ast.parse(code)))


def test_classes_inherit_through_one_level() -> None:
    bases_of: dict[str, set[str]] = defaultdict(set)
    home = {}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
                if "Protocol" not in bases:
                    home[node.name] = name
                    bases_of[node.name] |= bases - {node.name}

    def depth(name: str) -> int:
        return max((1 + depth(base) for base in bases_of[name] if base in home), default=0)

    check("ladders", {f"{file}: {name}" for name, file in home.items() if depth(name) > 1})


def defined(tree: ast.Module) -> Iterator[str]:
    """Public functions, classes and constants at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        for target in targets_of(node):
            if isinstance(target, ast.Name):
                yield target.id


def test_public_names_are_defined_once() -> None:
    homes = defaultdict(set)
    for name, tree in sources().items():
        # A command has the name that the user types.
        if name.startswith("src/toptune/") and not name.startswith("src/toptune/cli/"):
            for public in defined(tree):
                if not public.startswith("_"):
                    homes[public].add(name)
    check("names defined twice", {name for name, files in homes.items() if len(files) > 1})
