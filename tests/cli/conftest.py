"""A small data set, a model trained on it, and the command line run inside the test's process."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toptune.cli.app import main

KINDS = ("bright", "dark", "striped")


def picture(kind: str, seed: int) -> Image.Image:
    """An image of 48 x 40 pixels that no classifier should take for one of another kind."""
    pixels = np.random.default_rng(seed).integers(0, 90, size=(40, 48, 3), dtype=np.uint8)
    if kind == "bright":
        pixels += 160
    elif kind == "striped":
        pixels[:, ::4] += 160
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all of these tests: converting the network takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache_folder))


@pytest.fixture(autouse=True)
def _guard_is_restored() -> Iterator[None]:
    """`--max-pixels` sets Pillow's limit for the whole process."""
    limit = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = limit


@pytest.fixture(scope="session")
def original_split_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 8 images each below train/, 3 each below test/; not to be changed."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    for split, n, first in (("train", 8, 0), ("test", 3, 100)):
        for k, kind in enumerate(KINDS):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(n):
                picture(kind, first + 20 * k + i).save(folder / f"{i}.png")
    return root


@pytest.fixture
def split_tree(original_split_tree: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be damaged."""
    return shutil.copytree(original_split_tree, tmp_path / "pictures")


@pytest.fixture
def tree(split_tree: Path) -> Path:
    """One folder per class, 8 images each."""
    return split_tree / "train"


@pytest.fixture(scope="session")
def model_file(
    original_split_tree: Path, cache_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model of the three kinds; not to be changed."""
    from toptune import TopTuner

    path = tmp_path_factory.mktemp("model") / "kinds.toptune"
    TopTuner(cache=cache_folder).fit(original_split_tree).save(path)
    return path


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object on one line and nothing else."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        assert self.out.endswith("\n")
        content = json.loads(self.out)
        assert isinstance(content, dict)
        return content

    @property
    def error(self) -> str:
        """The message of a mistake the user can mend: one line on standard error, exit code 2."""
        assert self.code == 2, (self.code, self.err)
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        message = lines[-1]
        assert message.startswith("error: "), self.err
        assert all(line.startswith("warning: ") for line in lines[:-1]), self.err
        return message.removeprefix("error: ")


Toptune = Callable[..., Outcome]


@pytest.fixture
def toptune(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Toptune:
    """Run a command line in this process, with the warnings that a user would see."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["toptune", *map(str, arguments)])
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
                warnings.simplefilter("ignore", hidden)
            try:
                main()
                code = 0
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else int(bool(left.code))
        printed = capfd.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run
