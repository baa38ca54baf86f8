"""The phantom's images from a file, if the same ones were drawn before: drawing them is half of a start."""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from hqcnn_lab.data.phantom import canvas, generate
from hqcnn_lab.record.whole_file import remove_leftovers, whole_file

_WORTH_KEEPING = 1 << 21  # pixels: 512 images of 64×64, half a second


def kept_or_drawn(n_images: int, seed: int, size: int, folder: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """`generate(n_images, seed, size)`, from `folder` where it has them; None: nothing is kept.

    The file's name tells of all that the images' bits depend on: the code that draws them, numpy, torch, and the
    processor's instructions that torch uses. Use it for a training; few images are drawn, always. A damaged file is
    written again, and a folder that cannot be written to keeps nothing.
    """
    if folder is None or n_images * size**2 < _WORTH_KEEPING:
        return generate.generate(n_images, seed, size)
    path = Path(folder).expanduser() / f"phantom-{_key(n_images, seed, size)}.npy"
    try:
        with path.open("rb") as file:
            labels, images = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
        if images.shape == (n_images, size, size) and labels.shape == (n_images,):
            return images, labels
    except (OSError, ValueError, EOFError):  # absent or torn
        pass
    images, labels = generate.generate(n_images, seed, size)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with whole_file(path) as scratch, scratch.open("wb") as file:
            np.save(file, labels)
            np.save(file, images)
    return images, labels


def _key(n_images: int, seed: int, size: int) -> str:
    code = [Path(str(module.__file__)).read_bytes() for module in (canvas, generate)]
    versions = f"{np.__version__} {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
    return hashlib.sha256(b"\0".join([*code, f"{versions} {n_images} {seed} {size}".encode()])).hexdigest()[:24]
