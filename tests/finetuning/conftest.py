"""The tiny network, loaded once."""

from __future__ import annotations

import pytest

from toptune.features import Backbone, load_backbone


@pytest.fixture(scope="session")
def tiny(tiny_name: str) -> Backbone:
    return load_backbone(tiny_name)
