"""Write docs/reference.md from docstrings and commands' help; --check exits 1 if it is stale."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, get_type_hints

TARGET = Path(__file__).with_name("reference.md")
PARTS = ("errors", "images", "features", "kernel", "metrics", "learning_curve", "predictions")
PARTS += ("decisions", "thresholds", "tasks", "classifier", "updates", "cautious", "explain")
PARTS += ("trust.labels", "trust.conformal", "trust.novelty", "trust.leakage", "audit", "report")
PARTS += ("intervals", "energy", "compare")
MODULES = ("toptune", *(f"toptune.{part}" for part in PARTS))
HEADER = "# Reference\n\n<!-- Made by docs/build_reference.py: edit the docstrings, not this. -->"
SECTION = re.compile(r"^([A-Z][a-z]+)\n-+\n", re.MULTILINE)
# Sections whose entries begin with a name, and those where they may begin with words.
NAMED, WORDS = ("Parameters", "Attributes", "Raises", "Warns"), ("Returns", "Yields")


def reference() -> str:
    """Return the whole document."""
    contents = "\n".join(f"- [{name}](#{_anchor(name)})" for name in (*MODULES, "Commands"))
    modules = [part for name in MODULES for part in _module(name)]
    return "\n\n".join([HEADER, contents, *modules, "## Commands", *_commands()]) + "\n"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    yield f"## {name}"
    yield from _docstring(module)
    for public in _public(name):
        thing = getattr(module, public)
        home = _home(thing, default=name)
        if home != name:
            yield f"`{public}`: see [{home}](#{_anchor(public)})."
            continue
        yield f"### {public}"
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            yield from _constant(public, thing)
            continue
        if not (inspect.isclass(thing) and issubclass(thing, Exception)):
            yield _signature(public, thing)
        yield from _docstring(thing)
        for base in getattr(thing, "__bases__", ()):
            if _home(base) and base.__name__ in _public(_home(base)):
                yield f"Base class: [{base.__name__}](#{_anchor(base.__name__)})."
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_"):
                yield from _method(f"{public}.{method}", function)


def _public(name: str) -> list[str]:
    """Names that a module of `MODULES` offers."""
    module = import_module(name)
    own = [public for public, thing in vars(module).items() if _home(thing) == name]
    return [n for n in getattr(module, "__all__", own) if not n.startswith("_")]


def _home(thing: Any, *, default: str = "") -> str:
    """Where a thing is documented: the module of `MODULES` nearest to its definition."""
    origin = f"{getattr(thing, '__module__', '')}."
    around = (name for name in MODULES if origin.startswith(f"{name}."))
    return max(around, key=len, default=default)


def _method(name: str, thing: Any) -> Iterator[str]:
    function = getattr(thing, "__func__", getattr(thing, "fget", thing))
    if isinstance(function, FunctionType):  # neither a field nor what scikit-learn adds
        yield f"#### {name}"
        if not isinstance(thing, property):
            yield _signature(name, function)
        yield from _docstring(function)


def _signature(name: str, thing: Any) -> str:
    """Names and defaults; the types are in the docstring."""
    whole = inspect.signature(thing).parameters.values()
    bare = [p.replace(annotation=p.empty) for p in whole if p.name not in ("self", "cls")]
    return f"```text\n{name}{inspect.Signature(bare)}\n```"


def _constant(name: str, value: Any) -> Iterator[str]:
    """Value of a tuple; source and docstring of an alias, which has no `__doc__` of its own."""
    if isinstance(value, tuple):
        yield f"```text\n{name} = {value!r}\n```"
    for path in sorted(Path(str(import_module("toptune").__file__)).parent.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if found := re.search(rf'^{name}: TypeAlias = (.+)\n"""(.+)"""', source, re.MULTILINE):
            yield from (f"```text\n{name} = {found[1]}\n```", found[2])


def _docstring(thing: Any) -> Iterator[str]:
    """Markdown of a docstring in numpydoc form."""
    lead, *rest = SECTION.split(inspect.cleandoc(thing.__doc__ or ""))
    yield lead.strip()
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        yield f"**{title}**"
        if title == "Examples":
            yield f"```pycon\n{body.strip()}\n```"
        elif title in NAMED + WORDS:
            yield "\n".join(_entry(title, text) for text in re.split(r"\n(?=\S)", body.strip()))
        else:
            yield body.strip()


def _entry(title: str, text: str) -> str:
    head, _, description = text.partition("\n")
    name, colon, kind = head.partition(" : ")
    start = f"`{name}`" if colon or title in NAMED else name
    told = " ".join(description.split())
    return f"- {start}" + (f" ({kind})" if colon else "") + (f": {told}" if told else "")


def _commands() -> Iterator[str]:
    """Help of every command, from the annotations that Typer reads as well."""
    app = import_module("toptune.cli.app").application()
    for command in app.registered_commands:
        function = inspect.unwrap(command.callback)
        hints = get_type_hints(function, include_extras=True)
        usage, rows = [f"toptune {function.__name__}"], []
        for name, parameter in inspect.signature(function).parameters.items():
            kind, info = hints[name].__origin__, hints[name].__metadata__[0]
            told = [str(d) for d in (info.default, *(info.param_decls or ()))]
            declared = [f"`{d}`" for d in told if d.startswith("-")]
            shown = ", ".join(declared) or f"`--{name.replace('_', '-')}`"
            silent = parameter.default is None or parameter.default is False
            note = "" if silent else f" Default: `{parameter.default}`."
            if parameter.default is parameter.empty:
                note = " Required."
            if type(info).__name__ == "ArgumentInfo":
                usage.append(name.upper() + ("..." if str(kind).startswith("list") else ""))
                shown, note = f"`{usage[-1]}`", ""
            rows.append(f"- {shown}: {info.help}{note}")
        yield f"### {usage[0]}"
        yield f"```sh\n{' '.join(usage)} [OPTIONS]\n```"
        yield inspect.cleandoc(function.__doc__ or "")
        yield "\n".join(rows)


def main(arguments: list[str]) -> None:
    """Write the reference, or compare it."""
    text = reference()
    if "--check" not in arguments:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name} is not up to date: run python docs/build_reference.py")


if __name__ == "__main__":
    main(sys.argv[1:])
