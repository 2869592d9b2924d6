"""The demonstration data: electroluminescence pictures of solar cells, package elpv-dataset.

2,624 grey pictures, 300 x 300 pixels, of 44 photovoltaic modules, each labelled with the
probability that the cell is defective (0, 1/3, 2/3 or 1). Buerhop-Lutz et al. 2018, A Benchmark
for Visual Identification of Defective Solar Cells in Electroluminescence Imagery; licence
CC BY-NC-SA 4.0, so the package is an optional extra, for tests and demonstrations only.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from toptune.errors import DataError
from toptune.images import ImageSet


def solar_cells() -> ImageSet:
    """List the solar cells with their four defect grades: "0.00", "0.33", "0.67" and "1.00".

    Raises
    ------
    DataError
        If the package elpv-dataset is not installed.
    """
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise DataError(
            'the demonstration needs the package elpv-dataset: pip install "toptune[demo]"'
        )
    folder = Path(spec.origin).parent / "data"
    # Columns: file, probability of a defect, type of cell; separated by runs of spaces.
    rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines() if line]
    return ImageSet(
        ids=tuple(file for file, _, _ in rows),
        sources=tuple(folder / file for file, _, _ in rows),
        labels=np.array([f"{float(grade):.2f}" for _, grade, _ in rows]),
    )
