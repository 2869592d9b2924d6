"""Extraction: rate against PyTorch and against the network alone, decoding, memory, start-up.

    python benchmarks/extraction.py            # about ten minutes
    python benchmarks/extraction.py --quick    # without the memory of 20,000 images

All ratios are of medians over rounds that take turns in one process. Images are 256-pixel crops of
scikit-image's photographs, JPEG quality 90, and a 12-megapixel enlargement of one of them.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import skimage.data
import torch
from PIL import Image
from torchvision import transforms

from toptune.features import extract, load_backbone, make_engine
from toptune.images import Geometry, decode, open_images
from toptune.runtime.memory import peak_memory

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def write_jpegs(folder: Path, n: int) -> None:
    """Write n different 256-pixel colour JPEGs."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    for k in range(n):
        photograph = photographs[k % len(photographs)]
        side = int(rng.integers(200, min(photograph.size)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
        crop = photograph.crop((left, top, left + side, top + side))
        crop.resize((256, 256), Image.Resampling.LANCZOS).save(folder / f"{k:06d}.jpg", quality=90)


def rates(folder: Path, *, rounds: int = 3) -> dict[str, float]:
    """Images per second: files to features, the same engine alone, and PyTorch's usual loop."""
    backbone = load_backbone()
    engine = make_engine(backbone)
    images = open_images(folder, labelled=False)
    geometry = backbone.preprocessing.geometry
    pixels = np.stack([decode(path.read_bytes(), geometry) for path in map(Path, images.sources)])
    size = engine.batch_size
    batches = [pixels[i : i + size] for i in range(0, len(pixels) - size + 1, size)]
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    usual = torch.from_numpy(pixels[:64]).permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)
    usual = usual.contiguous()

    def pytorch_loop() -> None:
        with torch.inference_mode():
            for start in range(0, len(usual), 32):
                backbone.module(usual[start : start + 32])

    jobs: dict[str, tuple[int, Any]] = {
        "files to features": (
            len(images),
            lambda: extract(images, backbone, engine=engine, cache=None),
        ),
        "engine alone": (size * len(batches), lambda: list(engine.run(iter(batches)))),
        "PyTorch eager, batch 32": (len(usual), pytorch_loop),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(rounds + 1):  # the first round warms up
        for name, (_, job) in jobs.items():
            seconds, _ = common.timed(job)
            if round_:
                times[name].append(seconds)
    found = {name: n / float(np.median(times[name])) for name, (n, _) in jobs.items()}
    return {
        **found,
        "times PyTorch eager": found["files to features"] / found["PyTorch eager, batch 32"],
        "share of engine alone": found["files to features"] / found["engine alone"],
    }


def twelve_megapixels(name: str, *, quality: int) -> bytes:
    """Enlarge a photograph and add sensor noise: without it a file has too few coefficients."""
    photograph = Image.fromarray(getattr(skimage.data, name)())
    large = np.asarray(photograph.resize((4000, 3000), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).normal(0, 2, size=large.shape)
    buffer = io.BytesIO()
    noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def scaled_decoding(*, repeats: int = 5) -> dict[str, float]:
    """12-megapixel JPEGs: scaled decoding against decoding in full and then resizing.

    The second is timm's evaluation transform: convert, resize with bicubic filtering, crop.
    """
    backbone = load_backbone()
    geometry: Geometry = backbone.preprocessing.geometry
    usual = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(geometry.size),
        ]
    )

    def full(data: bytes) -> np.ndarray[Any, Any]:
        return np.asarray(usual(Image.open(io.BytesIO(data)).convert("RGB")))

    files = [
        twelve_megapixels(name, quality=quality)
        for name in ("coffee", "astronaut", "chelsea")
        for quality in (75, 90)
    ]
    times: dict[str, list[float]] = {"scaled": [], "full": []}
    pixels = []
    for data in files:
        for name, job in (("scaled", lambda d: decode(d, geometry)), ("full", full)):
            seconds, image = common.timed(lambda j=job, d=data: j(d), repeats=repeats)
            times[name].append(seconds)
            pixels.append(image)
    engine = make_engine(backbone)
    rows = np.concatenate([next(iter(engine.run([image[None]]))) for image in pixels])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ratios = np.divide(times["full"], times["scaled"])
    return {
        "megabytes, mean": float(np.mean([len(data) for data in files])) / 1e6,
        "scaled, ms": 1e3 * float(np.median(times["scaled"])),
        "full, ms": 1e3 * float(np.median(times["full"])),
        "times faster": float(np.median(ratios)),
        "times faster, least": float(ratios.min()),
        "feature cosine, least": float((rows[::2] * rows[1::2]).sum(axis=1).min()),
    }


def peak_megabytes(folder: Path) -> float:
    """Peak resident memory of a process that extracts a folder."""
    code = f"import extraction; extraction.extract_and_report({str(folder)!r})"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
        text=True,
    )
    return float(out.stdout)


def extract_and_report(folder: str) -> None:
    """Extract and print this process's peak resident memory in megabytes."""
    with tempfile.TemporaryDirectory() as cache:
        extract(open_images(folder, labelled=False), load_backbone(), cache=Path(cache))
    print(peak_memory() / 1e6)


def start_up(*, repeats: int = 7) -> dict[str, float]:
    """Seconds of whole processes: bare Python, `import toptune`, `toptune --help`."""
    commands = {
        "python alone": [sys.executable, "-c", "pass"],
        "import toptune": [sys.executable, "-c", "import toptune"],
        "toptune --help": [str(Path(sys.executable).with_name("toptune")), "--help"],
    }
    found: dict[str, float] = {}
    for name, command in commands.items():
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        found[name] = float(np.median(times))
    return found


def main() -> None:
    """Measure everything and print one table."""
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="leave out the memory of 20,000 images"
    )
    quick = parser.parse_args().quick
    results: dict[str, Any] = {"start-up": start_up(), "decoding": scaled_decoding()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1000"
        path.mkdir()
        write_jpegs(path, 1000)
        results["rate"] = rates(path)
        if not quick:
            results["memory"] = {}
            for n in (2000, 20_000):
                path = Path(folder) / str(n)
                path.mkdir()
                write_jpegs(path, n)
                results["memory"][f"peak MB, {n} images"] = peak_megabytes(path)
    rows = [[group, name, value] for group, part in results.items() for name, value in part.items()]
    common.print_table("extraction, embedded network", ["part", "what", "value"], rows)
    common.write_json("extraction", results)


if __name__ == "__main__":
    main()
