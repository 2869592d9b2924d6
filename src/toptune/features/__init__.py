"""Images -> features of a frozen network.

`load_backbone` finds a network and the preprocessing that belongs to its weights, `make_engine`
chooses what runs it, and `extract` feeds it: decoding in threads, a cache on disk, progress.
"""

from toptune.features.backbones import Backbone, Preprocessing, load_backbone
from toptune.features.cache import FeatureCache, cache_dir
from toptune.features.catalogue import BackboneInfo, list_backbones
from toptune.features.engines import Engine, OpenVINOEngine, TorchEngine, make_engine
from toptune.features.extract import extract
from toptune.features.extractor import FeatureExtractor
from toptune.features.store import Features

__all__ = [
    "Backbone",
    "BackboneInfo",
    "Engine",
    "FeatureCache",
    "FeatureExtractor",
    "Features",
    "OpenVINOEngine",
    "Preprocessing",
    "TorchEngine",
    "cache_dir",
    "extract",
    "list_backbones",
    "load_backbone",
    "make_engine",
]
