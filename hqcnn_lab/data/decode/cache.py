"""Decode a data set's files once, on all cores, into a memory-mapped array that all runs and sweeps share."""

import csv
import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hqcnn_lab.data.decode.glibc_private import keep_freed_memory
from hqcnn_lab.data.decode.joblib_private import ProcessPoolExecutor
from hqcnn_lab.data.decode.series import Decoded, ImageRecord
from hqcnn_lab.distributed import cores
from hqcnn_lab.record.whole_file import remove_leftovers

MANY_FILES = 1000  # fewer are decoded in threads: starting processes would take longer
ABANDONED = 7 * 86400  # seconds after which what a killed job left behind is removed
_ERRORS = "surrogateescape"  # a file's name may be bytes that are no text

Reader = Callable[[Path, list[str], int], Decoded]


class File(NamedTuple):
    """A file as a directory listing shows it; `name` is relative to the root, with forward slashes."""

    name: str
    bytes: int
    mtime_ns: int


class CachedImages(NamedTuple):
    """`images` float16 `[n, size, size]` in [0, 1], memory-mapped; `records` in the same order.

    `skipped` are files that could not be read, `left_out` those that are no images of the kind wanted: each with why.
    `folder` holds it all.
    """

    folder: Path
    images: np.ndarray
    records: list[ImageRecord]
    skipped: list[tuple[str, str]]
    left_out: list[tuple[str, str]]


class CacheError(RuntimeError):
    """The cache could not be built; the message is one line that says what to do."""


def decode(
    root: Path,
    tasks: list[list[File]],
    read: Reader,
    recipe: str,
    size: int,
    cache_dir: Path,
    workers: int | None = None,
) -> CachedImages:
    """Return what `read` makes of every task, a list of files that it wants together; from the cache where it is there.

    The key is a hash of the recipe, the size, what is noted of an image, and every file's name, size and time of
    change: where one of them changed, it is another entry. Only a listing is needed to find it, no file is opened. One
    job builds an entry and others that want it wait; what a killed job had done is kept, and the next one goes on from
    there, to the same result. A damaged entry is built again. `workers` are processes, by default one for each core.
    """
    cache_dir = Path(cache_dir).expanduser()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"paths.cache_dir={cache_dir}: no folder can be made there ({error.strerror})") from None
    entry = cache_dir / _key(tasks, recipe, size)
    cached = _load(entry)
    if cached is None:
        with _only_job(entry):
            cached = _load(entry)  # another job's, built meanwhile
            if cached is None:
                shutil.rmtree(entry, ignore_errors=True)
                _drop_abandoned(cache_dir, entry)
                _build(root, tasks, read, size, entry, workers or cores())
                cached = _load(entry)
    if cached is None:
        raise CacheError(
            f"{entry} cannot be read back; start again, or set paths.cache_dir to a folder on another disk"
        )
    for folder in (cache_dir, entry):
        remove_leftovers(folder)
    return cached


def _key(tasks: list[list[File]], recipe: str, size: int) -> str:
    return hashlib.sha256(json.dumps([recipe, size, ImageRecord._fields, tasks]).encode()).hexdigest()[:24]


@contextmanager
def _only_job(entry: Path) -> Iterator[None]:
    """The system lets go of the lock when a job dies, however it dies."""
    lock = FileLock(entry.with_suffix(".lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print("another job is decoding the same images; waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _load(entry: Path) -> CachedImages | None:
    """None where a part is missing, damaged or of an older make."""
    try:
        about = json.loads((entry / "entry.json").read_text())
        if any((entry / name).stat().st_size != size for name, size in about["bytes"].items()):
            return None
        with (entry / "index.csv").open(newline="", encoding="utf-8", errors=_ERRORS) as file:
            header, *rows = csv.reader(file)
        if header != list(ImageRecord._fields):
            return None
        kinds = [ImageRecord.__annotations__[field] for field in ImageRecord._fields]
        records = [ImageRecord(*(kind(text) for kind, text in zip(kinds, row, strict=True))) for row in rows]
        shape = (len(records), about["size"], about["size"])
        images = np.empty(shape, np.float16)
        if records:
            images = np.memmap(entry / "images.f2", np.float16, "r", shape=shape)
        skipped, left_out = ([(name, reason) for name, reason in about[kind]] for kind in ("skipped", "left_out"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error):
        return None
    return CachedImages(entry, images, records, skipped, left_out)


def _build(root: Path, tasks: list[list[File]], read: Reader, size: int, entry: Path, workers: int) -> None:
    # No `whole_folder`: what a killed job has done stays, and the next goes on from it, so the name holds no process.
    scratch = entry.with_suffix(".part")
    scratch.mkdir(mode=0o700, exist_ok=True)
    os.utime(scratch)  # in use, however long ago another job began it
    # Written like any file, not through a memory map: on a full disk that would end the process without a word.
    with (scratch / "images.f2").open("ab") as images, (scratch / "journal.jsonl").open("a+b") as journal:
        done = _resume(images, journal, size)
        left = tasks[len(done) :]
        n_files, n_done = sum(map(len, tasks)), sum(map(len, tasks[: len(done)]))
        with _progress(n_files, n_done) as advance, closing(_decoded(root, left, read, size, workers)) as results:
            for task, result in zip(left, results, strict=True):
                # Images first: a line in the journal says that they are there.
                images.write(np.ascontiguousarray(result.images, np.float16).tobytes())
                images.flush()
                line = [result.records, result.skipped, result.left_out]
                journal.write(json.dumps(line).encode() + b"\n")
                journal.flush()
                done.append(line)
                advance(len(task))
    _finish(scratch, done, size)
    scratch.rename(entry)


@contextmanager
def _progress(n_files: int, n_done: int) -> Iterator[Callable[[int], None]]:
    """A bar with files a second and the time left, on a terminal; gone when it is full."""
    rate = TextColumn("{task.fields[rate]:.0f} files/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    began, n_new = time.perf_counter(), 0
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding images", total=n_files, completed=n_done, rate=0.0)

        def advance(n: int) -> None:
            nonlocal n_new
            n_new += n
            bar.update(task, advance=n, rate=n_new / (time.perf_counter() - began))

        yield advance


def _resume(images: BinaryIO, journal: BinaryIO, size: int) -> list[list]:
    """The journal's lines whose images are there; both files are cut to end with them."""
    done, n_images, end = [], 0, 0
    n_there = images.seek(0, os.SEEK_END) // (size**2 * 2)
    journal.seek(0)
    for text in journal:
        try:
            line = json.loads(text)
            n_new = len(line[0])
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):  # the last one, torn
            break
        if not text.endswith(b"\n") or n_images + n_new > n_there:
            break
        done.append(line)
        n_images, end = n_images + n_new, end + len(text)
    images.truncate(n_images * size**2 * 2)
    images.seek(0, os.SEEK_END)
    journal.truncate(end)
    journal.seek(0, os.SEEK_END)
    return done


def _finish(scratch: Path, done: list[list], size: int) -> None:
    with (scratch / "index.csv").open("w", newline="", encoding="utf-8", errors=_ERRORS) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ImageRecord._fields)
        writer.writerows(record for line in done for record in line[0])
    sizes = {name: (scratch / name).stat().st_size for name in ("images.f2", "index.csv")}
    about = {"size": size, "bytes": sizes}
    about |= {kind: [item for line in done for item in line[i]] for i, kind in ((1, "skipped"), (2, "left_out"))}
    (scratch / "entry.json").write_text(json.dumps(about))
    (scratch / "journal.jsonl").unlink()


def _decoded(
    root: Path, tasks: list[list[File]], read: Reader, size: int, workers: int
) -> Generator[Decoded, None, None]:
    """In the order of the tasks, whoever is done first."""
    names = [[file.name for file in task] for task in tasks]
    if workers == 1:
        yield from (read(root, each, size) for each in names)
        return
    if sum(map(len, names)) < MANY_FILES:  # Pillow decodes and resizes without the interpreter lock
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda each: read(root, each, size), names)
        return
    # A fork of a process with torch's threads can hang; and what the standard library spawns runs the user's script
    # again, which, unless it says `if __name__ == "__main__":`, waits for the lock that it holds. Loky does neither.
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield from pool.map(read, [root] * len(names), names, [size] * len(names))
    except BrokenProcessPool:
        raise CacheError(
            "a process that decoded images was killed, perhaps for lack of memory; start again: "
            "it goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the keyboard reaches it too
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    keep_freed_memory()  # what one series leaves, the next takes


def _end_with(parent: int) -> None:
    """A parent that is killed ends nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _drop_abandoned(cache_dir: Path, but: Path) -> None:
    for scratch in cache_dir.glob("*.part"):
        if scratch != but.with_suffix(".part") and time.time() - scratch.stat().st_mtime > ABANDONED:
            shutil.rmtree(scratch, ignore_errors=True)
