"""Check what the build of the site does not: snippets, commands and links of the README.

`make docs` checks the links of the pages and runs the gallery; doctest runs the docstrings.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

from toptune.cli.app import application

ROOT = Path(__file__).parents[1]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/**/*.md"))
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(name)) if kind == language]


# -------------------------------------------------------------------------------------- snippets

# A page is read from top to bottom, so its snippets are one script.
SCRIPTS = {
    **{name: "\n".join(blocks(name, "python")) for name in DOCUMENTS if blocks(name, "python")},
    **{path.name: path.read_text(encoding="utf-8") for path in GALLERY},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_snippets_compile_and_import_existing_names(name: str) -> None:
    tree = ast.parse(SCRIPTS[name])
    compile(tree, name, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_snippets_pass_existing_parameters(name: str) -> None:
    assert unknown_keywords(SCRIPTS[name]) == []


@pytest.mark.parametrize(
    ("snippet", "unknown"),
    [
        ('Features.load("x", mapped=True)', []),
        ('tuner.load("x", mapped=True)', ["TopTuner.load(mapped=)"]),
        ("model = KernelClassifier()\nmodel.fit(X, y, sample_weight=w)", []),
        ("t = TopTuner().fit(images)\nt.fit(a, sample_weight=w)", ["TopTuner.fit(sample_weight=)"]),
        ('import numpy as np\nX = np.load("x", mmap_mode="r")', []),
    ],
)
def test_unknown_keywords_are_found_on_classes_and_instances(
    snippet: str, unknown: list[str]
) -> None:
    assert unknown_keywords(snippet) == unknown


def unknown_keywords(snippet: str) -> list[str]:
    """Return keyword arguments of calls of the public API that its signatures do not have."""
    tree = ast.parse(snippet)
    owners: dict[str, str | None] = {name: name for name in public()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            owners.update({(a.asname or a.name): None for a in node.names})
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            owners[node.targets[0].id] = owner(node.value, owners)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        given = {word.arg for word in node.keywords if word.arg}
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        thing = public().get(called)
        if thing is None and isinstance(node.func, ast.Attribute):
            name = owner(node.func.value, owners)
            thing = getattr(public().get(name or ""), called, None)
            called = f"{name}.{called}"
        if inspect.isroutine(thing) or hasattr(thing, "fit"):
            known = set(inspect.signature(thing).parameters)
            found += [f"{called}({word}=)" for word in sorted(given - known)]
    return found


def owner(node: ast.expr, owners: dict[str, str | None]) -> str | None:
    """Return the class that a method is called on; TopTuner if unknown, None for a module.

    What a method returns is taken to be of its class: methods of something else are not found
    there, and are not checked.
    """
    if isinstance(node, ast.Call):
        return owner(node.func, owners)
    if isinstance(node, ast.Attribute):
        return owner(node.value, owners)
    return owners.get(node.id, "TopTuner") if isinstance(node, ast.Name) else "TopTuner"


@cache
def public() -> dict[str, Any]:
    """Map public names to their objects."""
    names = ("toptune", "toptune.images", "toptune.features", "toptune.kernel")
    modules = map(importlib.import_module, names)
    return {name: getattr(module, name) for module in modules for name in module.__all__}


# -------------------------------------------------------------------------------------- commands


@cache
def options() -> dict[str, set[str]]:
    """Map every command to its options."""
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    return {
        name: {"--help", "--debug"}.union(*(p.opts for p in command.params))
        for name, command in commands.items()
    }


def command_lines(document: str) -> list[str]:
    """Return the lines of shell blocks and the code spans that call toptune."""
    lines = [line for body in blocks(document, "sh") for line in body.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(document)))
    return [s for s in (*lines, *spans) if re.match(r"toptune [a-z-]", s)]


def test_documents_call_commands() -> None:
    """Guard the next test against finding nothing to check."""
    assert sum(len(command_lines(name)) for name in DOCUMENTS) > 80


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_document_exist(document: str) -> None:
    for line in command_lines(document):
        words = shlex.split(line, comments=True)
        if words[1].startswith("-"):
            assert words[1] in ("--help", "--version"), line
            continue
        assert words[1] in options(), line
        given = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        assert given <= options()[words[1]], line


def test_overview_of_how_to_names_every_command() -> None:
    described = {line.split()[1] for line in command_lines("docs/how-to/index.md")}
    assert options().keys() <= described


# ------------------------------------------------------------------------------------ the README


def test_readme_names_its_two_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", text_of("README.md")))


def test_links_of_readme_exist() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of("README.md")))
    paths = [unquote(link).partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
