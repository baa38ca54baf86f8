"""Decode image files once into a memory-mapped array that all runs and sweeps share."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from hqcnn_lab.data.layout import ImageFile
from hqcnn_lab.data.reading import PREPROCESSING, UnreadableImage, read_image


class DecodedImages(NamedTuple):
    """`images` float16 `[n, size, size]` in [0, 1], memory-mapped; `files` in the same order; `skipped`: why."""

    images: np.ndarray
    files: list[ImageFile]
    skipped: list[tuple[str, str]]


def decode_images(root: Path, files: list[ImageFile], size: int, cache_dir: Path) -> DecodedImages:
    """Return every readable file of `files`, from the cache where the same bytes were decoded the same way before.

    The key is a hash of the names, the contents and the preprocessing, so a changed file or a changed recipe is another
    entry and no entry is ever stale. An entry appears by a rename when it is whole: a killed job leaves none, and two
    jobs that start together each make it and one wins. A damaged entry is made again.
    """
    entry = Path(cache_dir).expanduser() / _key(root, files, size)
    if entry.exists() and not _is_whole(entry, size):
        # Looked for first: one that appears only now is another job's, and whole.
        shutil.rmtree(entry, ignore_errors=True)
    if not entry.exists():
        _build(root, files, size, entry)
    index = json.loads((entry / "index.json").read_text())
    files = [ImageFile(*file) for file in index["files"]]
    shape = (len(files), size, size)
    images = np.memmap(entry / "images.f2", np.float16, "r", shape=shape) if files else np.empty(shape, np.float16)
    return DecodedImages(images, files, [(name, reason) for name, reason in index["skipped"]])


def _is_whole(entry: Path, size: int) -> bool:
    try:
        n_images = len(json.loads((entry / "index.json").read_text())["files"])
        return (entry / "images.f2").stat().st_size == n_images * size**2 * np.dtype(np.float16).itemsize
    except (OSError, ValueError, KeyError, TypeError):  # a part is missing, cut short, or of an older make
        return False


def _key(root: Path, files: list[ImageFile], size: int) -> str:
    with ThreadPoolExecutor() as pool:
        contents = pool.map(lambda f: _content_hash(root / f.name), files)
        listing = [[f.name, f.label, content] for f, content in zip(files, contents, strict=True)]
    return hashlib.sha256(json.dumps([PREPROCESSING, size, listing]).encode()).hexdigest()[:24]


def _content_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:  # unreadable now, perhaps not the next time: part of the key
        return type(error).__name__


def _build(root: Path, files: list[ImageFile], size: int, entry: Path) -> None:
    def decode(file: ImageFile) -> np.ndarray | str:
        try:
            return read_image(root / file.name, size)
        except UnreadableImage as error:
            return str(error)

    entry.parent.mkdir(parents=True, exist_ok=True)
    _drop_abandoned(entry.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".part", dir=entry.parent))
    try:
        kept: list[ImageFile] = []
        skipped: list[tuple[str, str]] = []
        # Written like any file, not through a memory map: on a full disk that would end the process without a word.
        with ThreadPoolExecutor() as pool, (scratch / "images.f2").open("wb") as output:
            # Pillow decodes and resizes without the interpreter lock.
            decoded: Iterable = track(pool.map(decode, files), "decoding images", len(files), transient=True)
            for file, result in zip(files, decoded, strict=True):
                if isinstance(result, str):
                    skipped.append((file.name, result))
                else:
                    output.write(result.astype(np.float16).tobytes())
                    kept.append(file)
        (scratch / "index.json").write_text(json.dumps({"files": kept, "skipped": skipped}))
        try:
            scratch.rename(entry)
        except OSError:
            if not _is_whole(entry, size):  # not another job's entry, made meanwhile
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _drop_abandoned(cache_dir: Path) -> None:
    """Remove what killed jobs left behind, a day or more ago."""
    for scratch in cache_dir.glob("*.part"):
        if time.time() - scratch.stat().st_mtime > 86400:
            shutil.rmtree(scratch, ignore_errors=True)
