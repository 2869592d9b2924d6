"""Diagnosis of this machine, as `toptune doctor` reports it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from toptune import __version__
from toptune.errors import BackboneError
from toptune.reports.diagnosis import diagnose
from toptune.runtime.versions import library_versions


def test_diagnose_tiny_network_is_json(
    tiny_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache))
    report = diagnose(tiny_name, measure_seconds=0.2)
    assert json.loads(json.dumps(report)) == report
    assert report["versions"] == library_versions()
    assert report["backbone"].startswith(f"{tiny_name} (")
    assert report["backbone"].endswith(" x 160 pixels)")
    assert (report["engine"], report["device"]) in {("OpenVINO", "cpu"), ("PyTorch", "cuda")}
    assert report["precision"] in {"float32", "bfloat16"}
    assert report["batch_size"] > 0
    assert report["threads"] == os.cpu_count()
    assert report["images_per_second"] > 0
    assert report["seconds_to_start"] > 0
    assert report["cache"] == str(cache)
    if report["device"] == "cpu":  # the converted network is there
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        assert report["cache_megabytes"] == round(size / 1e6, 1) > 0


def test_diagnose_rate_counts_computed_batches(
    tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate times time is a number of images that were computed, not merely handed over."""
    from toptune.features import OpenVINOEngine

    computed: list[int] = []
    run = OpenVINOEngine.run

    def counted(self: OpenVINOEngine, batches: object) -> object:
        for rows in run(self, batches):  # type: ignore[arg-type]
            computed.append(len(rows))
            yield rows

    monkeypatch.setattr(OpenVINOEngine, "run", counted)
    report = diagnose(tiny_name, measure_seconds=0.2)
    if report["device"] == "cuda":
        pytest.skip("another engine is measured")
    measured = sum(computed[4:])  # after the four batches of the warm-up
    assert measured > 0
    assert report["images_per_second"] <= measured / 0.2 + 0.1


def test_diagnose_unknown_network_raises() -> None:
    with pytest.raises(BackboneError, match="unknown network 'resnet5'"):
        diagnose("resnet5")


def test_library_versions_are_complete() -> None:
    found = library_versions()
    assert found["python"] == platform.python_version()
    assert found["toptune"] == __version__
    assert {"torch", "timm", "openvino", "scikit-learn", "numpy", "pillow"} < found.keys()
    assert all(found.values())
