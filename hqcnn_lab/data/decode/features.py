"""What is computed from images once, kept beside the decoded images."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import xxhash

from hqcnn_lab.record.whole_file import remove_leftovers, whole_file


def cached_features(
    describe: Callable[[np.ndarray], np.ndarray], images: np.ndarray, recipe: str, cache_dir: str | Path | None
) -> np.ndarray:
    """`describe(images)`, from `cache_dir` where the same was computed of the same pixels before; None: no cache.

    The key is the pixels themselves and `recipe`, which has to name all that `describe` depends on. A damaged file is
    computed again.
    """
    if cache_dir is None:
        return describe(images)
    pixels = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(images).tobytes())
    key = hashlib.sha256(f"{recipe} {images.shape} {images.dtype} {pixels}".encode()).hexdigest()[:24]
    path = Path(cache_dir).expanduser() / f"features-{key}.npy"
    remove_leftovers(path.parent)
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent or torn
        features = describe(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another machine, which does not know our processes, may take the file for a dead one's and remove it.
    with suppress(FileNotFoundError), whole_file(path) as scratch, scratch.open("wb") as file:
        np.save(file, features)
    return features
