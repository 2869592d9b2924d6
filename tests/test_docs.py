"""The documents say what the code does: links, snippets, commands and the generated reference."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import typer

from toptune.cli.app import application

ROOT = Path(__file__).parents[1]
WRITTEN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/concepts.md", "docs/how-to.md")
DOCUMENTS = (*WRITTEN, "docs/reference.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(name)) if kind == language]


def prose(name: str) -> str:
    return FENCE.sub("", text_of(name))


# --------------------------------------------------------------------------------- the reference


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/build_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_is_up_to_date(generator: ModuleType) -> None:
    hint = "the reference is stale: run python docs/build_reference.py"
    assert generator.reference() == text_of("docs/reference.md"), hint


@pytest.mark.parametrize("module", ["toptune", "toptune.images", "toptune.features"])
def test_reference_has_every_public_name(module: str) -> None:
    public = [n for n in importlib.import_module(module).__all__ if not n.startswith("_")]
    missing = [n for n in public if f"\n### {n}\n" not in text_of("docs/reference.md")]
    assert missing == []


def test_entries_become_lists_and_examples_become_code(generator: ModuleType) -> None:
    def documented() -> None:
        """Do a thing.

        Parameters
        ----------
        x : array-like of shape (n, d)
            Rows,
            finite.

        Returns
        -------
        float
            Their sum.

        Examples
        --------
        >>> 1 + 1
        2
        """

    assert list(generator._docstring(documented)) == [
        "Do a thing.",
        "**Parameters**",
        "- `x` (array-like of shape (n, d)): Rows, finite.",
        "**Returns**",
        "- float: Their sum.",
        "**Examples**",
        "```pycon\n>>> 1 + 1\n2\n```",
    ]


def test_every_entry_of_the_reference_is_a_whole_line() -> None:
    """An entry that goes on in the next line of a docstring would become two."""
    broken = re.findall(r"^- `[^`\n]*,`.*$", text_of("docs/reference.md"), re.MULTILINE)
    assert broken == []


def test_check_tells_a_stale_reference(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "TARGET", tmp_path / "reference.md")
    monkeypatch.setattr(generator, "reference", lambda: "old\n")
    with pytest.raises(SystemExit, match=r"reference\.md is not up to date"):
        generator.main(["--check"])  # it is not there yet
    generator.main([])
    generator.main(["--check"])
    monkeypatch.setattr(generator, "reference", lambda: "new\n")
    with pytest.raises(SystemExit, match=r"reference\.md is not up to date"):
        generator.main(["--check"])
    assert (tmp_path / "reference.md").read_text(encoding="utf-8") == "old\n"


# ----------------------------------------------------------------------------------------- links


def anchors(document: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        found = target.exists()
        if found and anchor:
            found = anchor in anchors(target.resolve().relative_to(ROOT).as_posix())
        if not found:
            broken.append(link)
    assert broken == []


def test_a_contents_list_names_every_section() -> None:
    for document in ("docs/how-to.md", "docs/concepts.md"):
        sections = re.findall(r"^## (.+)$", prose(document), re.MULTILINE)
        assert re.findall(r"^- \[(.+)\]\(#", prose(document), re.MULTILINE) == sections


# -------------------------------------------------------------------------------------- snippets

SNIPPETS = [
    (d, k) for d in ("README.md", "docs/how-to.md") for k in range(len(blocks(d, "python")))
]


@pytest.mark.parametrize(("document", "k"), SNIPPETS)
def test_snippets_compile_and_import_what_there_is(document: str, k: int) -> None:
    tree = ast.parse(blocks(document, "python")[k])
    compile(tree, document, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []


@pytest.mark.parametrize(("document", "k"), SNIPPETS)
def test_snippets_call_toptune_with_parameters_it_has(document: str, k: int) -> None:
    assert unknown_keywords(blocks(document, "python")[k]) == []


@pytest.mark.parametrize(
    ("snippet", "unknown"),
    [
        ('Features.load("x", mapped=True)', []),
        ('TopTuner.load("x", mapped=True)', ["TopTuner.load(mapped=)"]),
        ('tuner.load("x", mapped=True)', ["TopTuner.load(mapped=)"]),
        ("KernelClassifier(n_centers=9).fit(X, y, sample_weight=w)", []),
        ("model = KernelClassifier()\nmodel.fit(X, y, sample_weight=w)", []),
        ("model = KernelClassifier().fit(X, y)\nmodel.fit(X, y, images=w)", None),
        ("TopTuner().fit(images, sample_weight=w)", ["TopTuner.fit(sample_weight=)"]),
        ("t = TopTuner().fit(images)\nt.fit(a, sample_weight=w)", ["TopTuner.fit(sample_weight=)"]),
        ("tuner.fit(images, sample_weight=w)", ["TopTuner.fit(sample_weight=)"]),
        ("for model in several:\n    model.fit(a, sample_weight=w)", None),
        ("TopTuner(kernels=1)\nextract(images, backbones=1)", None),
        ('import numpy as np\nX = np.load("x", mmap_mode="r")', []),
    ],
)
def test_unknown_parameters_are_found_whatever_they_are_called_on(
    snippet: str, unknown: list[str] | None
) -> None:
    found = unknown_keywords(snippet)
    assert found == unknown if unknown is not None else found


def unknown_keywords(snippet: str) -> list[str]:
    """Keyword arguments, in calls of public names and methods, that the signatures do not have."""
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
    """Class that a method is called on; TopTuner where the snippet does not tell, None: a module.

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
    """Public things by their names."""
    names = ("toptune", "toptune.images", "toptune.features", "toptune.kernel")
    modules = map(importlib.import_module, names)
    return {name: getattr(module, name) for module in modules for name in module.__all__}


# -------------------------------------------------------------------------------------- commands


@cache
def options() -> dict[str, set[str]]:
    """Options of every command."""
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    return {
        name: {"--help", "--debug"}.union(*(p.opts for p in command.params))
        for name, command in commands.items()
    }


def command_lines(document: str) -> list[str]:
    """Lines of shell blocks and pieces of code in the text that call toptune."""
    lines = [line for body in blocks(document, "sh") for line in body.splitlines()]
    pieces = re.findall(r"`([^`\n]+)`", prose(document))
    return [s for s in (*lines, *pieces) if re.match(r"toptune [a-z-]", s)]


def test_the_documents_call_commands() -> None:
    """So that the next test does not pass because nothing was found."""
    assert len(command_lines("README.md")) > 5
    assert len(command_lines("docs/how-to.md")) > 20


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_exist(document: str) -> None:
    for line in command_lines(document):
        words = shlex.split(line, comments=True)
        if words[1].startswith("-"):
            assert words[1] in ("--help", "--version"), line
            continue
        assert words[1] in options(), line
        given = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        assert given <= options()[words[1]], line


def test_every_command_is_in_the_readme() -> None:
    described = {line.split()[1] for line in command_lines("README.md")}
    assert options().keys() <= described
