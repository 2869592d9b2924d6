from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toptune import DataError
from toptune.images import (
    ImageSet,
    ImageSource,
    Quarantined,
    UnreadableImage,
    content_hash,
    decode,
    from_arrays,
    read_source,
)
from toptune.images.geometry import Geometry

Encode = Callable[..., bytes]


def reason_of(source: ImageSource) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_source(source)
    return caught.value.reason


# --- read_source


def test_read_source_path_returns_bytes(tmp_path: Path) -> None:
    path = tmp_path / "naïve name ü.jpg"
    path.write_bytes(b"abc")
    assert read_source(path) == b"abc"
    assert read_source(str(path)) == b"abc"


def test_read_source_in_memory_is_unchanged(chelsea: np.ndarray) -> None:
    for source in (b"", b"abc", Image.new("L", (1, 1)), chelsea):
        assert read_source(source) is source


def test_read_source_unreadable_file_has_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    (tmp_path / "locked.jpg").write_bytes(b"abc")
    assert reason_of(tmp_path / "gone.jpg") == "no such file"
    assert reason_of(tmp_path / "empty.jpg" / "below.jpg") == "no such file"
    assert reason_of(tmp_path / "empty.jpg") == "empty file"
    assert reason_of(tmp_path / "folder.jpg") == "is a directory"
    assert reason_of(tmp_path / "link.jpg") == "broken symbolic link"
    assert reason_of(tmp_path / "self.jpg").startswith("cannot be read: ")
    assert reason_of(str(tmp_path / "nul\0.jpg")).startswith("cannot be read: ")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert reason_of(tmp_path / "locked.jpg") == "permission denied"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_read_source_named_pipe_raises(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_of(tmp_path / "pipe.jpg") == "not a regular file"


def test_unreadable_image_pickled_keeps_reason() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("damaged:\n  second line")))
    assert isinstance(error, UnreadableImage)
    assert isinstance(error, DataError)
    assert error.reason == str(error) == "damaged: second line"


# --- content_hash


def test_content_hash_file_equals_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    assert content_hash(path) == content_hash(str(path)) == content_hash(b"abc")
    assert len(content_hash(b"abc")) == 32
    assert content_hash(b"abd") != content_hash(b"abc")


def test_content_hash_arrays_differ_by_value_shape_dtype() -> None:
    base = np.arange(12, dtype=np.uint8).reshape(3, 4)
    variants = [base, base + 1, base.reshape(4, 3), base.astype(np.uint16), base[..., None]]
    variants += [base > 5, base[:0], base[:, :0].astype(np.float32)]
    assert len({content_hash(v) for v in variants}) == len(variants)
    padded = np.zeros((3, 8), dtype=np.uint8)
    padded[:, ::2] = base
    assert content_hash(padded[:, ::2]) == content_hash(base)
    with pytest.raises(UnreadableImage, match="dtype object"):
        content_hash(np.full((2, 2), None))


def test_content_hash_images_differ_by_whatever_changes_pixels(chelsea: np.ndarray) -> None:
    image = Image.fromarray(chelsea[:20, :30])
    other_palette = image.quantize(4)
    other_palette.putpalette(list(range(12)))
    see_through = image.quantize(4)
    see_through.info["transparency"] = 1
    turned = image.copy()
    turned.getexif()[0x0112] = 6
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    variants = [image, image.convert("L"), image.convert("RGBA"), image.resize((30, 21)), flipped]
    variants += [image.quantize(4), other_palette, see_through, turned, image.convert("1")]
    assert len({content_hash(v) for v in variants}) == len(variants)
    assert content_hash(image.copy()) == content_hash(image)
    geometry = Geometry((16, 16))
    assert (decode(turned, geometry) != decode(image, geometry)).any()


def test_content_hash_damaged_image_raises(
    chelsea: np.ndarray, encode: Encode, tmp_path: Path
) -> None:
    data = encode(chelsea, "PNG")
    path = tmp_path / "half.png"
    path.write_bytes(data[: len(data) // 2])
    with Image.open(path) as image, pytest.raises(UnreadableImage, match=r"^damaged: "):
        content_hash(image)
    with pytest.raises(UnreadableImage, match="no such file"):
        content_hash(tmp_path / "gone.png")


# --- ImageSet and from_arrays


def test_from_arrays_labels_keep_order(chelsea: np.ndarray) -> None:
    sources = [chelsea, b"bytes", Image.new("L", (2, 2)), "a.jpg"]
    images = from_arrays(sources, [7, "cat", np.int64(3), np.str_("007")])
    assert images.ids == ("image-000000", "image-000001", "image-000002", "image-000003")
    assert images.labels is not None
    assert images.labels.dtype.kind == "U"
    assert images.labels.tolist() == ["7", "cat", "3", "007"]
    assert all(a is b for a, b in zip(images.sources, sources, strict=True))
    assert len(images) == 4
    assert images.quarantined == ()
    assert from_arrays(sources).labels is None


def test_from_arrays_distinct_paths_are_ids(tmp_path: Path) -> None:
    assert from_arrays(["b/1.jpg", Path("a") / "2.jpg"]).ids == ("b/1.jpg", "a/2.jpg")
    assert from_arrays(["a.jpg", "a.jpg"]).ids == ("image-000000", "image-000001")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([b"a", b"b"], ["cat"], "2 images but 1 labels"),
        ([b"a"], ["cat", "dog"], "1 images but 2 labels"),
        ([], None, "no images were given"),
        ("a.jpg", None, r"images must be a list, got one str: write \[image\]"),
        (b"abc", None, "got one bytes"),
        (Path("a.jpg"), None, "images must be a list"),
        ([b"a", 3], None, r"images\[1\] is a int: give a path, bytes"),
        ([b"a", b"b"], ["cat", None], r"labels\[1\] is missing \(None\)"),
        ([b"a"], [float("nan")], r"labels\[0\] is missing \(nan\)"),
        ([b"a"], [" "], r"labels\[0\] is missing"),
        ([b"a"], np.eye(1), r"labels\[0\] is an ndarray: give one label per image"),
    ],
)
def test_from_arrays_bad_argument_is_named(images: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(images, labels)  # type: ignore[arg-type]


def test_image_set_subset_by_positions_and_mask() -> None:
    images = ImageSet(
        ids=("a", "b", "c"),
        sources=(b"1", b"2", b"3"),
        labels=np.array(["x", "y", "z"]),
        quarantined=(Quarantined("d", "empty file"),),
    )
    for chosen in (images.subset([2, 0]), images.subset(np.array([2, 0]))):
        assert (chosen.ids, chosen.sources) == (("c", "a"), (b"3", b"1"))
        assert chosen.labels is not None
        assert chosen.labels.tolist() == ["z", "x"]
        assert chosen.quarantined == ()
    assert images.subset(np.array([False, True, False])).ids == ("b",)
    assert images.subset([]).ids == ()
    with pytest.raises(IndexError):
        images.subset([3])


def test_image_set_wrong_lengths_or_ids_raise() -> None:
    with pytest.raises(DataError, match="2 ids but 1 sources"):
        ImageSet(("a", "b"), (b"1",), None)
    with pytest.raises(DataError, match=r"labels must have shape \(1,\), got \(2,\)"):
        ImageSet(("a",), (b"1",), np.array(["x", "y"]))
    with pytest.raises(DataError, match="image id 'b' occurs more than once"):
        ImageSet(("a", "b", "b"), (b"1", b"2", b"3"), None)


def test_images_import_loads_no_heavy_package() -> None:
    code = (
        "import sys, toptune.images\n"
        "heavy = {'torch', 'timm', 'sklearn', 'pyarrow', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_read_source_many_threads_leaves_no_file_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are counted through /proc")
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = [threading.Thread(target=read_source, args=(path,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
