"""A workspace with images and the network, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_material import write_workspace


@pytest.fixture(scope="session")
def golden_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, manifests and the network; not to be changed."""
    folder = tmp_path_factory.mktemp("golden")
    write_workspace(folder)
    return folder


@pytest.fixture(autouse=True)
def _in_workspace(golden_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored files name the network by its path inside the workspace."""
    monkeypatch.chdir(golden_workspace)
    monkeypatch.setenv("TOPTUNE_CACHE", str(golden_workspace / "cache"))
    monkeypatch.setenv("TOPTUNE_DATA", str(golden_workspace / "none"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests of this folder to `make test-slow`, also where no marker is asked for."""
    if not config.getoption("markexpr"):
        skip = pytest.mark.skip(reason="slow: run by make test-slow")
        for item in items:
            if item.path.parent == Path(__file__).parent and "slow" in item.keywords:
                item.add_marker(skip)
