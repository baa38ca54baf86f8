"""Decode image files once into a memory-mapped array that all runs and sweeps share."""

import hashlib
import json
import os
import shutil
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
    jobs that start together each make it and one wins.
    """
    entry = Path(cache_dir).expanduser() / _key(root, files, size)
    if not (entry / "index.json").is_file():
        _build(root, files, size, entry)
    index = json.loads((entry / "index.json").read_text())
    images = np.load(entry / "images.npy", mmap_mode="r")
    return DecodedImages(images, [ImageFile(*f) for f in index["files"]], [(n, r) for n, r in index["skipped"]])


def _key(root: Path, files: list[ImageFile], size: int) -> str:
    with ThreadPoolExecutor() as pool:
        contents = pool.map(lambda f: _content_hash(root / f.name), files)
        listing = [[f.name, f.label, content] for f, content in zip(files, contents, strict=True)]
    return hashlib.sha256(json.dumps([PREPROCESSING, size, listing]).encode()).hexdigest()[:24]


def _content_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:  # unreadable now, perhaps not the next time: part of the key
        return f"{type(error).__name__}"


def _build(root: Path, files: list[ImageFile], size: int, entry: Path) -> None:
    def decode(file: ImageFile) -> np.ndarray | str:
        try:
            return read_image(root / file.name, size)
        except UnreadableImage as error:
            return str(error)

    scratch = entry.with_name(f"{entry.name}.{os.getpid()}.part")
    scratch.mkdir(parents=True)
    try:
        images = np.lib.format.open_memmap(scratch / "all.npy", "w+", np.float16, (len(files), size, size))
        kept: list[ImageFile] = []
        skipped: list[tuple[str, str]] = []
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes without the interpreter lock
            decoded: Iterable = track(pool.map(decode, files), "decoding images", len(files), transient=True)
            for file, result in zip(files, decoded, strict=True):
                if isinstance(result, str):
                    skipped.append((file.name, result))
                else:
                    images[len(kept)] = result
                    kept.append(file)
        np.save(scratch / "images.npy", images[: len(kept)])
        del images
        (scratch / "all.npy").unlink()
        (scratch / "index.json").write_text(json.dumps({"files": kept, "skipped": skipped}))
        try:
            scratch.rename(entry)
        except OSError:
            if not (entry / "index.json").is_file():  # not another job's whole entry
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
