"""Extraction that is interrupted, killed, or meets images that cannot be read."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from extract_helpers import ToyEngine, cached_rows, fail_at, noise, same
from PIL import Image

from toptune.errors import DataError, DataWarning
from toptune.features import Backbone, extract
from toptune.images import ImageSet, Quarantined, decode, from_arrays, open_images

# The package's attribute of this name is the function.
module = importlib.import_module("toptune.features.extract")


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_extract_interrupted_keeps_computed_rows(error: BaseException, tiny: Backbone) -> None:
    images = noise(30)
    whole = extract(images, tiny, engine=ToyEngine(tiny), cache=None)
    with pytest.raises(type(error)):
        extract(images, tiny, engine=ToyEngine(tiny, before=fail_at(3, error)))
    assert cached_rows() == 12
    rest = ToyEngine(tiny)
    same(extract(images, tiny, engine=rest), whole)
    assert rest.n_images == 18


def test_extract_interrupted_leaves_no_thread(tiny: Backbone) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(noise(30), tiny, engine=ToyEngine(tiny, before=fail_at(1, KeyboardInterrupt())))
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


KILLED = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
from extract_helpers import ToyEngine, noise, wait
from toptune.features import extract, load_backbone
importlib.import_module("toptune.features.extract")._STORE_SECONDS = 0.05
tiny = load_backbone(sys.argv[2])
extract(noise(200), tiny, engine=ToyEngine(tiny, before=wait(0.1)))
"""


def test_extract_killed_goes_on_where_it_stopped(tiny: Backbone) -> None:
    here = str(Path(__file__).parent)
    job = subprocess.Popen([sys.executable, "-c", KILLED, here, tiny.name])
    try:
        give_up = time.monotonic() + 120
        while cached_rows() < 12 and time.monotonic() < give_up:
            assert job.poll() is None, "the run ended by itself"
            time.sleep(0.02)
    finally:
        job.kill()  # SIGKILL: nothing is tidied up
        job.wait()
    kept = cached_rows()
    assert 12 <= kept < 200
    rest = ToyEngine(tiny)
    found = extract(noise(200), tiny, engine=rest)
    assert rest.n_images == 200 - kept
    same(found, extract(noise(200), tiny, engine=ToyEngine(tiny), cache=None))


def test_extract_running_stores_new_rows(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STORE_ROWS", 8)
    monkeypatch.setattr(module, "_STORE_SECONDS", 1e9)
    seen: list[int] = []
    engine = ToyEngine(tiny, before=lambda number: seen.append(cached_rows()))
    extract(noise(24), tiny, engine=engine)
    assert seen == [0, 0, 8, 8, 16, 16]
    assert cached_rows() == 24


# ------------------------------------------------------------------------------------ quarantine


def faulty_tree(folder: Path) -> Path:
    """Good and bad images of two classes; "lost" has bad ones only."""
    for name in ("kept", "lost"):
        (folder / name).mkdir(parents=True)
    kept, lost = folder / "kept", folder / "lost"
    picture = Image.effect_noise((60, 50), 90).convert("RGB")
    picture.save(kept / "good.jpg")
    picture.save(kept / "Größe 日本 (1).png")
    Image.new("RGB", (1, 1), "blue").save(kept / "one pixel.png")
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    frames[0].save(kept / "moving.gif", save_all=True, append_images=frames[1:])
    whole = (kept / "good.jpg").read_bytes()
    (kept / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (lost / "empty.jpg").touch()
    (lost / "text.jpg").write_text("this is not an image")
    return folder


def test_extract_unreadable_images_are_quarantined_with_reason(
    tiny: Backbone, tmp_path: Path
) -> None:
    images = open_images(faulty_tree(tmp_path / "data"))
    with pytest.warns(DataWarning) as caught:
        found = extract(images, tiny, engine=ToyEngine(tiny, batch_size=3))
    reasons = {item.id: item.reason for item in found.quarantined}
    assert reasons.keys() == {"kept/cut.jpg", "lost/empty.jpg", "lost/text.jpg"}
    assert "truncated" in reasons["kept/cut.jpg"]
    assert reasons["lost/empty.jpg"] == "empty file"
    assert reasons["lost/text.jpg"].startswith("not an image")
    assert found.ids == (
        "kept/Größe 日本 (1).png",
        "kept/good.jpg",
        "kept/moving.gif",
        "kept/one pixel.png",
    )
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        "3 images could not be read and are left out; the first, kept/cut.jpg: "
        + reasons["kept/cut.jpg"],
        "classes without one readable image are left out: lost",
    ]
    assert all(warning.filename == __file__ for warning in caught)


def test_extract_gif_takes_first_frame(tiny: Backbone, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    found = extract(open_images(tmp_path, labelled=False), tiny, engine=ToyEngine(tiny))
    np.testing.assert_array_equal(found.X[0], found.X[1])


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need privileges on Windows")
def test_extract_listing_faults_come_first(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "zz link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "a.png").write_bytes(b"\x89PNG but no more")
    Image.new("RGB", (30, 20)).save(tmp_path / "good.png")
    with pytest.warns(DataWarning, match="2 images could not be read .*zz link.png"):
        found = extract(open_images(tmp_path, labelled=False), tiny, engine=ToyEngine(tiny))
    assert found.quarantined[0] == Quarantined("zz link.png", "broken symbolic link")
    assert found.quarantined[1].id == "a.png"
    assert found.ids == ("good.png",)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_extract_forbidden_file_is_quarantined(tiny: Backbone, tmp_path: Path) -> None:
    for name in ("closed.png", "open.png"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    (tmp_path / "closed.png").chmod(0)
    with pytest.warns(DataWarning):
        found = extract(open_images(tmp_path, labelled=False), tiny, engine=ToyEngine(tiny))
    assert found.quarantined == (Quarantined("closed.png", "permission denied"),)


def test_extract_vanished_file_is_quarantined(tiny: Backbone, photo_files: Path) -> None:
    images = open_images(photo_files, labelled=False)
    (photo_files / "03.jpg").unlink()
    with pytest.warns(DataWarning, match=r"1 image could not be read and is left out.*03.jpg"):
        found = extract(images, tiny, engine=ToyEngine(tiny))
    assert found.quarantined == (Quarantined("03.jpg", "no such file"),)
    assert len(found) == 23


def test_extract_not_finite_features_are_quarantined(tiny: Backbone) -> None:
    """The third image's features are NaN; the fifth has the same content."""
    a, b, c = noise(3).sources

    class Sick(ToyEngine):
        def features(self, pixels: np.ndarray) -> np.ndarray:
            x = super().features(pixels)
            if np.array_equal(pixels, decode(c, tiny.preprocessing.geometry)):
                x[5] = np.nan
            return x

    images = from_arrays([a, b, c, a, c])
    with pytest.warns(DataWarning, match="2 images could not be read"):
        found = extract(images, tiny, engine=Sick(tiny))
    reason = "the network's features of it are not finite"
    assert found.quarantined == tuple(Quarantined(f"image-{k:06d}", reason) for k in (2, 4))
    assert np.isfinite(found.X).all()
    assert cached_rows() == 2
    healthy = ToyEngine(tiny)
    assert len(extract(images, tiny, engine=healthy)) == 5
    assert healthy.n_images == 1


def test_extract_strict_raises_at_first_fault(tiny: Backbone, tmp_path: Path) -> None:
    images = open_images(faulty_tree(tmp_path / "data"))
    with pytest.raises(DataError, match=r"kept/cut.jpg: .*truncated.* in strict mode"):
        extract(images, tiny, engine=ToyEngine(tiny, batch_size=1), strict=True)
    assert cached_rows() == 1  # "Größe 日本 (1).png" comes before it
    aside = ImageSet(("a",), (b"",), None, quarantined=(Quarantined("b", "broken"),))
    with pytest.raises(DataError, match=r"^b: broken"):
        extract(aside, tiny, engine=ToyEngine(tiny), strict=True)


def test_extract_nothing_readable_raises(tiny: Backbone) -> None:
    with pytest.raises(
        DataError, match="none of the 2 images can be read; the first, 'image-000000': empty file"
    ):
        extract(from_arrays([b"", b"text"]), tiny, engine=ToyEngine(tiny))
    with pytest.raises(DataError, match="no images"):
        extract(ImageSet((), (), None), tiny, engine=ToyEngine(tiny))
