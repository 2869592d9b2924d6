"""The pictures of the demonstration."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toptune import DataError
from toptune.images.demo import solar_cells


def test_solar_cells_installed_lists_all_images() -> None:
    cells = solar_cells()
    assert len(cells) == 2624
    assert cells.quarantined == ()
    assert cells.labels is not None
    grades, counts = np.unique(cells.labels, return_counts=True)
    # The counts that the authors of the data publish.
    assert dict(zip(grades.tolist(), counts.tolist(), strict=True)) == {
        "0.00": 1508,
        "0.33": 295,
        "0.67": 106,
        "1.00": 715,
    }


def test_solar_cells_decoded_are_grey() -> None:
    cells = solar_cells()
    assert cells.ids[0].startswith("images/cell")
    for source in cells.sources[::500]:
        assert isinstance(source, Path)
        with Image.open(source) as picture:
            assert (picture.size, picture.mode) == ((300, 300), "L")


def test_solar_cells_package_missing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(DataError, match=r'elpv-dataset: pip install "toptune\[demo\]"'):
        solar_cells()
