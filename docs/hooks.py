"""Generate the parts of the site that follow from the code: reference, gallery, project pages.

mkdocs calls the functions `on_...`; mkdocs.yml names this file under `hooks`.
"""

from __future__ import annotations

import ast
import hashlib
import html
import inspect
import json
import os
import pkgutil
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
BUILT = ROOT / ".cache" / "gallery"
PROJECT = {  # files outside docs/ that are pages of the site
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/results.md": "benchmarks/results.md",
    "benchmarks/what-was-tried.md": "benchmarks/what-was-tried.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
PACKAGES = (  # in the order of the data's way
    "toptune",
    "toptune.images",
    "toptune.features",
    "toptune.kernel",
    "toptune.evaluation",
    "toptune.decisions",
    "toptune.tasks",
    "toptune.model",
    "toptune.model.explanation",
    "toptune.reports",
    "toptune.reports.audit",
    "toptune.reports.comparison",
    "toptune.reports.model",
    "toptune.runtime",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    sections = {title: pages for entry in config.nav for title, pages in entry.items()}
    sections["Gallery"] += [page_of(script) for script in scripts()]
    sections["Reference"] += [{"Commands": "reference/commands.md"}]
    sections["Reference"] += [{"Deprecated names": "reference/deprecated.md"}]
    sections["Reference"] += [{name: f"reference/{name}.md"} for name in packages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and figures."""
    pages = {
        "gallery/index.md": gallery_index(),
        "reference/commands.md": commands(),
        "reference/deprecated.md": deprecated_names(),
        **{f"reference/{package}.md": text for package, text in reference().items()},
        **{uri: (ROOT / path).read_text(encoding="utf-8") for path, uri in PROJECT.items()},
    }
    for script in scripts():
        output = outputs()[script]
        pages[page_of(script)] = gallery_page(script, output)
        for figure in output["figures"]:
            content = (BUILT / figure).read_bytes()
            files.append(File.generated(config, f"gallery/{figure}", content=content))
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Resolve links between docs/ and files of the repository that are pages as well."""
    of_page = {uri: path for path, uri in PROJECT.items()}
    source = of_page.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def resolve(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        target = PROJECT.get(path, path.removeprefix("docs/"))
        if path not in PROJECT and not (path.startswith("docs/") and source in PROJECT):
            return link[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or '.')}"

    return re.sub(r"\]\((?![a-z]+:)([^)\s#]+)", resolve, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers draw without a script."""

    def mathml(formula: re.Match[str]) -> str:
        display = "block" if formula[1] == "div" else "inline"
        return convert(html.unescape(formula[2]).strip(), display=display)

    pattern = r'<(div|span) class="arithmatex">\s*\\[\[(](.*?)\\[\])]\s*</\1>'
    return re.sub(pattern, mathml, content, flags=re.DOTALL)


# ------------------------------------------------------------------------------------ reference


def packages() -> list[str]:
    """Return the public packages that have public names."""
    return [name for name, members in public_names().items() if members]


def public_names() -> dict[str, dict[str, Any]]:
    """Map every public package to its public names, each with its object and its path.

    A name that two packages export is documented by the first of them. A package without `__all__`
    exports what its modules define without an underscore.
    """
    seen: set[int] = set()
    found: dict[str, dict[str, Any]] = {}
    for package in PACKAGES:
        module = import_module(package)
        if hasattr(module, "__all__"):
            pairs = [(f"{package}.{n}", getattr(module, n)) for n in sorted(module.__all__)]
        else:
            pairs = list(defined_below(module))
        new = [(p, thing) for p, thing in pairs if callable(thing) and id(thing) not in seen]
        seen.update(id(thing) for _, thing in new)
        found[package] = dict(new)
    return found


def defined_below(package: Any) -> Iterator[tuple[str, Any]]:
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if info.ispkg or info.name.rpartition(".")[2].startswith("_"):
            continue
        for name, thing in vars(import_module(info.name)).items():
            own = not name.startswith("_") and getattr(thing, "__module__", "") == info.name
            if own and (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__doc__:
                yield f"{info.name}.{name}", thing


def reference() -> dict[str, str]:
    """Return the text of the page of every public package."""
    pages = {}
    for package, members in public_names().items():
        lines = [f"# {package}", "", first_line(import_module(package)), ""]
        if members:
            lines += ["| name | does |", "| --- | --- |"]
        for path, thing in members.items():
            lines.append(f"| [`{path.rpartition('.')[2]}`][{path}] | {first_line(thing)} |")
        for path in members:
            lines += ["", f"::: {path}"]
        if members:
            pages[package] = "\n".join(lines) + "\n"
    return pages


def first_line(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def commands() -> str:
    """Return the help of every command of `toptune`."""
    root = typer.main.get_command(import_module("toptune.cli.app").application())
    lines = ["# Commands", "", "`--debug`, anywhere on the line, shows the traceback of an error."]
    for name, command in commands_below(root, "toptune"):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = [name, *(p.name.upper() + ("..." if p.nargs == -1 else "") for p in arguments)]
        text = inspect.cleandoc(command.help or "").replace("\f", "")
        lines += ["", f"## {name}", "", f"```sh\n{' '.join(usage)} [OPTIONS]\n```", "", text, ""]
        for parameter in command.params:
            told = (getattr(parameter, "help", "") or "").strip()
            if parameter in arguments:
                lines.append(f"- `{parameter.name.upper()}`: {told}")
            elif parameter.name != "help":
                names = ", ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))
                lines.append(f"- {names}: {told}{default_of(parameter)}")
    return "\n".join(lines) + "\n"


def commands_below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for part, below in getattr(command, "commands", {}).items():
        if getattr(below, "commands", None):
            yield from commands_below(below, f"{name} {part}")
        else:
            yield f"{name} {part}", below


def default_of(parameter: Any) -> str:
    if parameter.required:
        return " Required."
    shown = parameter.default not in (None, False, (), []) and not callable(parameter.default)
    return f" Default: `{parameter.default}`." if shown else ""


def deprecated_names() -> str:
    """Return the table of old names, from the tables that make them work."""
    old = import_module("toptune.runtime.deprecation")
    rows = [(f"toptune.{name}", new) for name, new in old.MOVED.items()]
    rows += [(f"toptune.{name}", (new,)) for name, new in old.RENAMED.items()]
    for owner, names in (*old.METHODS.items(), *old.PARAMETERS.items()):
        ending = "=" if owner in old.PARAMETERS else ""
        rows += [(f"{owner}: {name}{ending}", (f"{new}{ending}",)) for name, new in names.items()]
    lines = [
        "# Deprecated names",
        "",
        "Old names still work. Each use raises a `FutureWarning` that names the new one.",
        "Modules and functions are named from `toptune` on.",
        "",
        "| old | new |",
        "| --- | --- |",
        *(f"| `{name}` | {', '.join(f'`{n}`' for n in new)} |" for name, new in rows),
    ]
    return "\n".join(lines) + "\n"


# -------------------------------------------------------------------------------------- gallery


def scripts() -> list[Path]:
    return sorted(GALLERY.glob("plot_*.py"))


def page_of(script: Path) -> str:
    return f"gallery/{script.stem.removeprefix('plot_')}.md"


@cache
def outputs() -> dict[Path, dict[str, Any]]:
    """Run the scripts, except those of which nothing has changed since; return what each gave.

    All run in one process: importing the libraries takes longer than most of the scripts.
    """
    code = b"".join(path.read_bytes() for path in sorted((ROOT / "src/toptune").rglob("*.py")))
    digests = {s: hashlib.sha256(s.read_bytes() + code).hexdigest() for s in scripts()}
    BUILT.mkdir(parents=True, exist_ok=True)
    stale = [s for s in scripts() if read_record(s).get("digest") != digests[s]]
    environment = {**os.environ, "MPLBACKEND": "agg", "TOPTUNE_CACHE": str(BUILT / "cache")}
    command = [sys.executable, "-c", RUNNER, str(BUILT), *(f"{s}:{digests[s]}" for s in stale)]
    if stale and subprocess.run(command, cwd=GALLERY, env=environment).returncode:
        raise PluginError("a script of the gallery failed, see above")
    return {s: read_record(s) for s in scripts()}


def read_record(script: Path) -> dict[str, Any]:
    record = BUILT / f"{script.stem}.json"
    return json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}


RUNNER = """
import contextlib, io, json, runpy, sys, time
from pathlib import Path
import matplotlib.pyplot as plt

folder = Path(sys.argv[1])
for argument in sys.argv[2:]:
    path, _, digest = argument.rpartition(":")
    script, start, printed = Path(path), time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(path, run_name="__main__")
    figures = []
    for number in plt.get_fignums():
        figures.append(f"{script.stem}-{number}.png")
        plt.figure(number).savefig(folder / figures[-1], dpi=110, bbox_inches="tight")
    plt.close("all")
    output = {"digest": digest, "printed": printed.getvalue(), "figures": figures}
    (folder / f"{script.stem}.json").write_text(json.dumps(output))
    print(f"{script.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
"""


def parts(script: Path) -> tuple[str, str, str]:
    """Return title, introduction and code of a script."""
    source = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    title, _, introduction = docstring.partition("\n")
    code = source.split('"""', 2)[2].strip()
    return title.rstrip("."), introduction.strip(), code


def gallery_page(script: Path, output: dict[str, Any]) -> str:
    title, introduction, code = parts(script)
    lines = [f"# {title}", "", introduction, ""]
    lines += [f"![{title}]({figure})\n" for figure in output["figures"]]
    lines += [f"```python\n{code}\n```", ""]
    if output["printed"].strip():
        lines += ["It prints:", "", f"```text\n{output['printed'].rstrip()}\n```", ""]
    lines += [f"The script is `docs/gallery/{script.name}`; it needs `toptune[docs]`.", ""]
    return "\n".join(lines)


def gallery_index() -> str:
    lines = [
        "# Gallery",
        "",
        "Scripts that run as they are. The site's build runs each of them and shows its figure.",
        "",
        '<div class="gallery" markdown>',
    ]
    for script in scripts():
        title, _, _ = parts(script)
        figures = outputs()[script]["figures"]
        picture = f"![{title}]({figures[0]})" if figures else ""
        page = posixpath.basename(page_of(script))
        lines += ["", f"[{picture} {title}]({page})"]
    return "\n".join([*lines, "", "</div>", ""])
