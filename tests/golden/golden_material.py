"""Images, manifests and a small network for the golden files, the same on every machine.

Everything is drawn as integers, or is a picture of a digit that scikit-learn holds, so that no
byte depends on the processor. A workspace is a folder with all of it; commands run inside it, so
that no path of this machine is in what they print.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILES = Path(__file__).parent / "files"
#: The name of the network for `TopTuner` and the command line, inside a workspace.
NETWORK = "test_efficientnet=tiny.safetensors"

_NAMES = np.array(["zero", "one", "two", "three"])
_COSTS = "true,one,two,zero\none,0,1,5\ntwo,1,0,1\nzero,2,1,0\n"
_PLAN = """\
name: small
parts:
  - datasets: [animals3]
    layers: [last]
    heads: [centroid, linear]
    seeds: [0, 1]
"""


def write_workspace(folder: Path) -> None:
    """Write the network, the images and the manifests below `folder`.

    Parameters
    ----------
    folder : path
        Exists. It gets digits/ (train and test), flawed/ (an unreadable image and two copies with
        different labels), more/ (images to add), manifests of digits/train with groups, several
        labels and numbers, costs.csv and the plan of a study.
    """
    write_network(folder / "tiny.safetensors")
    pixels, targets = _digits()
    for k in range(3):
        images = pixels[targets == k]
        _write(folder / "digits" / "train" / _NAMES[k], images[:14])
        _write(folder / "digits" / "test" / _NAMES[k], images[14:20])
        _write(folder / "flawed" / _NAMES[k], images[20:30])
    _write(folder / "flawed" / "one", pixels[targets == 0][20:21], first=90)
    (folder / "flawed" / "two" / "broken.png").write_bytes(b"no image")
    _write(folder / "more" / "two", pixels[targets == 2][30:34], first=50)
    _write(folder / "more" / "three", pixels[targets == 3][:6], first=50)
    _write_manifests(folder)
    (folder / "costs.csv").write_text(_COSTS)
    (folder / "study").mkdir()
    (folder / "study" / "plan.yaml").write_text(_PLAN)


def write_network(path: Path) -> None:
    """Write weights for timm's smallest network: multiples of 1/256 from a seeded generator."""
    import timm
    import torch
    from safetensors.torch import save_file

    generator = np.random.default_rng(0)
    weights = {}
    for name, tensor in timm.create_model("test_efficientnet").state_dict().items():
        shape = tuple(tensor.shape)
        if len(shape) == 4:
            inputs = int(np.prod(shape[1:]))
            step = 2.0 ** -np.ceil(np.log2(32 * np.sqrt(inputs)))  # a power of two is exact
            drawn = generator.integers(-64, 65, size=shape) * step
        elif len(shape) == 2:
            drawn = generator.integers(-64, 65, size=shape) / 256
        elif name.endswith(("running_var", "weight")):
            drawn = np.ones(shape)
        else:
            drawn = np.zeros(shape)
        weights[name] = torch.from_numpy(np.asarray(drawn)).to(tensor.dtype)
    save_file(weights, path)


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Pictures of the digits 0 to 3, 48 pixels high and wide."""
    from sklearn.datasets import load_digits

    found = load_digits(n_class=4)
    pixels = np.minimum(found.images.astype(np.int64) * 16, 255).astype(np.uint8)
    return np.kron(pixels, np.ones((1, 6, 6), dtype=np.uint8)), found.target


def _write(folder: Path, images: NDArray[np.uint8], *, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, pixels in enumerate(images, start=first):
        Image.fromarray(pixels).save(folder / f"{k}.png")


def _write_manifests(folder: Path) -> None:
    """Say of the images of digits/train which group, which labels and which number they have."""
    groups, sets, numbers = (["image_path,label,group"], ["image_path,label"], ["image_path,label"])
    for k, path in enumerate(sorted((folder / "digits" / "train").rglob("*.png"))):
        name, label = path.relative_to(folder).as_posix(), path.parent.name
        ink = int(np.asarray(Image.open(path), dtype=np.int64).sum())
        groups.append(f"{name},{label},writer {k // 3}")
        curved = "curved;" if label != "one" else ""
        sets.append(f"{name},{curved}{'dark' if ink < 180_000 else 'light'}")
        numbers.append(f"{name},{ink / 100_000:.4f}")
    for name, lines in (("groups", groups), ("sets", sets), ("numbers", numbers)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
