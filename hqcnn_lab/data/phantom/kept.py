"""The phantom's images from a file, if the same ones were drawn before: drawing them is half of a start."""

import hashlib
import io
import os
import platform
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from xxhash import xxh3_128_digest

from hqcnn_lab.data.phantom import canvas, generate
from hqcnn_lab.record.whole_file import whole_file

_WORTH_KEEPING = 1 << 21  # pixels: 512 images of 64×64, half a second
_MOST_PIXELS = 1 << 25  # 128 MiB a file
_MOST_FILES = 8
_SUM_BYTES = 16


def kept_or_drawn(n_images: int, seed: int, size: int, folder: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """`generate(n_images, seed, size)`, from `folder` where it has them; None: nothing is kept.

    The file's name tells of what the images' bits depend on: the code that draws them, numpy, torch, and the processor
    by which torch chooses its instructions. Use it for a training; few images are drawn, always, and so are very many.
    A damaged file, which its checksum tells, is written again; a folder that cannot be written to keeps nothing. The
    newest files stay.
    """
    n_pixels = n_images * size**2
    if folder is None or not _WORTH_KEEPING <= n_pixels <= _MOST_PIXELS:
        return generate.generate(n_images, seed, size)
    path = Path(folder).expanduser() / f"phantom-{_key(n_images, seed, size)}.npy"
    with suppress(OSError):
        content = path.read_bytes()
        if xxh3_128_digest(content[:-_SUM_BYTES]) == content[-_SUM_BYTES:]:
            file = io.BytesIO(content)
            labels, images = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
            return images, labels
    images, labels = generate.generate(n_images, seed, size)
    with suppress(OSError):
        _keep(path, labels, images)
    return images, labels


def _keep(path: Path, labels: np.ndarray, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.save(file, labels)
    np.save(file, images)
    content = file.getvalue()
    with whole_file(path) as scratch:
        scratch.write_bytes(content + xxh3_128_digest(content))
    ours = sorted(path.parent.glob("phantom-*.npy"), key=lambda other: other.stat().st_mtime)
    for older in ours[:-_MOST_FILES]:
        older.unlink(missing_ok=True)


def _key(n_images: int, seed: int, size: int) -> str:
    code = [Path(str(module.__file__)).read_bytes() for module in (canvas, generate)]
    machine = f"{_processor()} {torch.backends.cpu.get_cpu_capability()} {os.environ.get('MKL_CBWR')}"
    drawn = f"{np.__version__} {torch.__version__} {machine} {n_images} {seed} {size}"
    return hashlib.sha256(b"\0".join([*code, drawn.encode()])).hexdigest()[:24]


def _processor() -> str:
    """Its model: torch's mathematics chooses instructions by it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()
