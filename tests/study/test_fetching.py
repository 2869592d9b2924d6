"""Fetching: the folder it writes, what it refuses, what failures and killed processes leave."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import types
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torchvision.datasets
from filelock import FileLock
from PIL import Image

from toptune.errors import DataError, DataWarning, StorageError
from toptune_study import datasets, fetching
from toptune_study.datasets import DatasetInfo, load_dataset
from toptune_study.fetching import fetch_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that TOPTUNE_DATA names, on a machine that may download."""
    root = tmp_path / "data"
    monkeypatch.setenv("TOPTUNE_DATA", str(root))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return root


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the registry by one entry, "things"."""

    def one(fetch: dict[str, Any], **changes: Any) -> None:
        entry = {
            "name": "things",
            "title": "Things",
            "classes": 2,
            "images": 6,
            "licence": "MIT",
            "source": "https://example.org",
            "split": "random" if "whole" in fetch else "own",
            "fetch": fetch,
            **changes,
        }
        info = DatasetInfo.model_validate(entry)
        monkeypatch.setattr(datasets, "registry", lambda: {"things": info})

    return one


class Things:
    """In the manner of torchvision: pairs of image and label, two classes in turn."""

    classes = ("ant", "bee")

    def __init__(self, root: str, *, split: str, download: bool) -> None:
        assert download
        assert Path(root).is_dir()
        sys.stdout.write("downloading\n")
        self.n = {"train": 3, "val": 1, "test": 2}[split]
        self.level = {"train": 50, "val": 100, "test": 150}[split]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (9, 8), (self.level, k, 0)), k % 2


SPLIT = {
    "library": "torchvision",
    "name": "Things",
    "train": [{"split": "train"}, {"split": "val"}],
    "test": [{"split": "test"}],
}


@pytest.fixture
def things(
    known: Callable[..., None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[type], Path]:
    """Register a class of torchvision's kind; return the folder of data sets."""

    def register(kind: type) -> Path:
        known(SPLIT)
        monkeypatch.setattr(torchvision.datasets, "Things", kind, raising=False)
        return data

    return register


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------------------------- what is written


def test_fetch_dataset_splits_become_a_local_copy(
    things: Callable[[type], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    root = things(Things)
    folder = fetch_dataset("things")
    assert folder == root / "things"
    assert files(root) == [
        "things/test/ant/000000.png",
        "things/test/bee/000001.png",
        "things/train/ant/000000.png",
        "things/train/ant/000002.png",
        "things/train/ant/000003.png",  # the validation part is trained on
        "things/train/bee/000001.png",
    ]
    with Image.open(folder / "train/ant/000003.png") as image:
        assert image.getpixel((0, 0)) == (100, 0, 0)
    found = load_dataset("things")
    train, test = found.split(seed=0)
    assert (len(train), len(test)) == (4, 2)
    printed = capfd.readouterr()
    assert printed.out == ""  # it is for the commands' own
    assert "downloading" in printed.err


def test_fetch_dataset_local_copy_is_not_fetched_again(things: Callable[[type], Path]) -> None:
    class Once(Things):
        def __init__(self, *_: Any, **__: Any) -> None:
            raise AssertionError("fetched")

    root = things(Once)
    (root / "things").mkdir(parents=True)
    assert fetch_dataset("things") == root / "things"


def test_fetch_dataset_other_root_is_used(things: Callable[[type], Path], tmp_path: Path) -> None:
    root = things(Things)
    assert fetch_dataset("things", tmp_path / "other") == tmp_path / "other/things"
    assert not root.exists()


def test_fetch_dataset_torchvision_without_splits_becomes_classes(
    known: Callable[..., None], data: Path
) -> None:
    """FakeData draws its images; it has no `root` and no `download`, so these are left out."""

    class Drawn(torchvision.datasets.FakeData):
        def __init__(self, root: str, download: bool, **arguments: Any) -> None:
            super().__init__(image_size=(3, 8, 8), **arguments)

    torchvision.datasets.Drawn = Drawn
    try:
        whole = [{"size": 12, "num_classes": 3}]
        known(
            {"library": "torchvision", "name": "Drawn", "whole": whole},
            images=12,
            classes=len({int(Drawn("", True, size=12, num_classes=3)[k][1]) for k in range(12)}),
        )
        folder = fetch_dataset("things")
    finally:
        del torchvision.datasets.Drawn
    assert len(files(folder)) == 12
    assert {f.split("/")[0] for f in files(folder)} <= {"0", "1", "2"}
    found = load_dataset("things")
    assert found.test is None
    reference = Drawn("", True, size=12, num_classes=3)
    for k in range(12):
        image, label = reference[k]
        with Image.open(folder / str(int(label)) / f"{k:06d}.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(image))


def idx(values: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def test_fetch_dataset_mnist_files_become_png(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's entry and torchvision's class; the download is that of two small files."""
    rng = np.random.default_rng(0)
    pixels = {s: rng.integers(0, 256, (n, 28, 28)) for s, n in (("train", 20), ("t10k", 10))}

    def download(self: torchvision.datasets.MNIST) -> None:
        raw = Path(self.raw_folder)
        raw.mkdir(parents=True, exist_ok=True)
        for side, images in pixels.items():
            (raw / f"{side}-images-idx3-ubyte").write_bytes(idx(images))
            (raw / f"{side}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(images)) % 10))

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    with pytest.warns(DataWarning, match="has 70000 images of 10 classes, but 30 images of 10"):
        folder = fetch_dataset("mnist")
    found = load_dataset("mnist")
    train, test = found.split(seed=0)
    assert (len(train), len(test)) == (20, 10)
    assert sorted(p.name for p in (folder / "test").iterdir())[3] == "3 - three"
    with Image.open(folder / "test/3 - three/000003.png") as image:
        assert np.array_equal(np.asarray(image), pixels["t10k"][3])


def test_fetch_dataset_files_are_copied_with_their_names(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traffic signs: the names of training files say which track an image is of."""

    def download(self: torchvision.datasets.GTSRB) -> None:
        folder = self._base_folder / "GTSRB"
        for label in ("00000", "00001"):
            for frame in ("00000_00000", "00000_00001", "00001_00000"):
                path = folder / "Training" / label / f"{frame}.ppm"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (len(frame), 0, 0)).save(path)
        tests = folder / "Final_Test/Images"
        tests.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tests / "00000.ppm")
        table = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n00000.ppm;;;;;;;1\n"
        (self._base_folder / "GT-final_test.csv").write_text(table)

    monkeypatch.setattr(torchvision.datasets.GTSRB, "download", download)
    with pytest.warns(DataWarning, match="7 images of 2 classes came"):
        folder = fetch_dataset("gtsrb_full")
    assert "train/1/00000_00001.ppm" in files(folder)
    assert "test/1/00000.ppm" in files(folder)
    groups = load_dataset("gtsrb_full").images.groups
    assert groups is not None
    assert len(set(groups)) == 5  # two tracks of each class, and one test image


@pytest.mark.parametrize(
    ("mode", "written"), [("CMYK", "RGB"), ("F", "RGB"), ("L", "L"), ("RGBA", "RGBA"), ("P", "P")]
)
def test_fetch_dataset_image_of_any_mode_becomes_png(
    things: Callable[[type], Path], mode: str, written: str
) -> None:
    class Odd(Things):
        def __getitem__(self, k: int) -> tuple[Image.Image, int]:
            return Image.new(mode, (4, 4)), k % 2

    things(Odd)
    with Image.open(fetch_dataset("things") / "train/ant/000000.png") as image:
        assert image.mode == written


def test_fetch_dataset_class_names_become_folder_names(things: Callable[[type], Path]) -> None:
    class Odd(Things):
        classes = ("F/A-18", ("..hidden", "a synonym"))

    things(Odd)
    assert {p.name for p in (fetch_dataset("things") / "train").iterdir()} == {"F-A-18", "_.hidden"}


def test_fetch_dataset_classes_with_one_folder_are_refused(things: Callable[[type], Path]) -> None:
    class Odd(Things):
        classes = ("a/b", "a:b")

    root = things(Odd)
    with pytest.raises(DataError, match="the classes 'a/b' and 'a:b' would share a folder"):
        fetch_dataset("things")
    assert not (root / "things").exists()


def test_fetch_dataset_files_of_one_name_are_numbered(
    things: Callable[[type], Path], tmp_path: Path
) -> None:
    class Filed(Things):
        def __init__(self, root: str, **options: Any) -> None:
            super().__init__(root, **options)
            self._samples = []
            for k in range(self.n):
                path = Path(root, str(self.level), str(k), "photo.jpg")
                path.parent.mkdir(parents=True)
                self[k][0].save(path)
                self._samples.append((str(path), k % 2))

    things(Filed)
    folder = fetch_dataset("things")
    names = ["photo-000002.jpg", "photo-000003.jpg", "photo.jpg"]
    assert files(folder / "train/ant") == names
    assert len(files(folder)) == 6


# ----------------------------------------------------------------------------- the Hugging Face hub

HUB = {
    "library": "datasets",
    "name": "someone/things",
    "train": [{"split": "train"}],
    "test": [{"split": "test"}],
    "label": "kind",
}


def test_fetch_dataset_hub_columns_are_read(
    known: Callable[..., None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Split(list[dict[str, Any]]):
        features = {"kind": types.SimpleNamespace(names=["ant", "bee"])}  # noqa: RUF012

    def load(name: str, *, split: str, cache_dir: str) -> Split:
        assert (name, Path(cache_dir).parent) == ("someone/things", data / "things.part")
        picture = Image.new("RGB", (4, 4), (255, 0, 0))
        n = {"train": 4, "test": 2}[split]
        return Split({"image": picture, "kind": k % 2} for k in range(n))

    module = types.SimpleNamespace(load_dataset=load)
    monkeypatch.setitem(sys.modules, "datasets", module)
    known(HUB)
    folder = fetch_dataset("things")
    assert files(folder / "train") == [
        f"{('ant', 'bee')[k % 2]}/00000{k}.png" for k in (0, 2, 1, 3)
    ]
    assert files(data) == [f"things/{name}" for name in files(folder)]


def test_fetch_dataset_without_the_library_names_it(
    known: Callable[..., None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # importing it fails
    known(HUB)
    with pytest.raises(DataError, match="pip install datasets"):
        fetch_dataset("things")


# ----------------------------------------------------------------------------------------- refusals


def test_fetch_dataset_offline_is_refused(
    things: Callable[[type], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = things(Things)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"things is not in .*, and HF_HUB_OFFLINE is set"):
        fetch_dataset("things")
    assert not root.exists()


def test_fetch_dataset_without_a_folder_is_refused(
    things: Callable[[type], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    things(Things)
    monkeypatch.delenv("TOPTUNE_DATA")
    with pytest.raises(DataError, match="TOPTUNE_DATA must name the folder"):
        fetch_dataset("things")


def test_fetch_dataset_without_a_library_names_the_source(data: Path) -> None:
    with pytest.raises(DataError, match=r"no library fetches wbc: a sample of .*segmentation_WBC"):
        fetch_dataset("wbc")
    with pytest.raises(DataError, match="unknown data set 'wbcs'"):
        fetch_dataset("wbcs")


# ----------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("no route\nto host"),
        ConnectionError("no route to host"),
        RuntimeError("no route to host"),
        ValueError("no route to host"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_fetch_dataset_failure_is_one_line_and_leaves_nothing(
    things: Callable[[type], Path], failure: Exception, late: bool
) -> None:
    class Broken(Things):
        def __init__(self, root: str, *, split: str, download: bool) -> None:
            super().__init__(root, split=split, download=download)
            if not late:
                raise failure

        def __getitem__(self, k: int) -> tuple[Image.Image, int]:
            if k == 1:
                raise failure
            return super().__getitem__(k)

    root = things(Broken)
    with pytest.raises(DataError) as told:
        fetch_dataset("things")
    assert str(told.value).startswith("cannot fetch things (torchvision: Things): ")
    assert "no route to host" in str(told.value)
    assert not (root / "things").exists()
    assert not (root / "things.part").exists()
    things(Things)
    assert len(files(fetch_dataset("things"))) == 6


def test_fetch_dataset_full_disk_is_a_storage_error(
    things: Callable[[type], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    root = things(Things)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match=r"cannot write things to .*: No space left on device"):
        fetch_dataset("things")
    assert not (root / "things.part").exists()


def test_fetch_dataset_locked_by_another_process_is_refused(things: Callable[[type], Path]) -> None:
    root = things(Things)
    (root / "things.part").mkdir(parents=True)
    with (
        FileLock(root / "things.part.lock"),
        pytest.raises(StorageError, match="another process is fetching things"),
    ):
        fetch_dataset("things")
    assert (root / "things.part").is_dir()  # it is the other one's


KILLED = """
import os, signal, sys
import huggingface_hub.constants
import torchvision.datasets
sys.path.insert(0, {here!r})
import test_fetching as t
from toptune_study import datasets
from toptune_study import fetching
huggingface_hub.constants.HF_HUB_OFFLINE = False

class Killed(t.Things):
    def __getitem__(self, k):
        if self.n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(k)

torchvision.datasets.Things = Killed
info = datasets.DatasetInfo(name="things", title="Things", classes=2, images=6, licence="MIT",
    source="https://example.org", split="own", fetch=t.SPLIT)
datasets.registry = lambda: {{"things": info}}
fetching.fetch_dataset("things")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_fetch_dataset_killed_begins_anew(
    things: Callable[[type], Path],
) -> None:
    root = things(Things)
    code = KILLED.format(here=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = files(root / "things.part/tree")
    assert len(left) == 4
    with pytest.raises(DataError, match="is not on this machine"):
        load_dataset("things")
    (root / "things.part/tree/train/ant/left.png").touch()
    fetch_dataset("things")
    assert len(files(root)) == 6
    assert fetching.whereabouts("things").state == "here"
