"""A reader of made-up files for the tests of the cache, and a process that builds an entry with it."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from hqcnn_lab.data.decode.cache import File, decode
from hqcnn_lab.data.decode.series import Decoded, ImageRecord

SIZE = 8


def write_files(root: Path, n_tasks: int, n_files: int = 3) -> None:
    """`n_files` in each of `n_tasks` folders: one image, two images, or none, in turn."""
    for i in range(n_tasks):
        (root / f"{i:02d}").mkdir(parents=True)
        for j in range(n_files):
            (root / f"{i:02d}" / f"{j}.txt").write_text(("one", "two", "none")[j % 3] + f" {i} {j}")


def list_tasks(root: Path) -> list[list[File]]:
    """A task a folder."""
    tasks = []
    for folder in sorted(root.iterdir()):
        status = [(path, path.stat()) for path in sorted(folder.iterdir())]
        tasks.append([File(path.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns) for path, s in status])
    return tasks


def read(root: Path, names: list[str], size: int) -> Decoded:
    """Images that a file's text seeds, in the reverse order of the names; a file that was read is a line of `read.log`.

    A text that begins with "raise" raises, one with "kill" kills the process the first time, one with "slow" takes its
    time, one with "wait" waits for the file `go`.
    """
    records, images, skipped, left_out = [], [], [], []
    for name in reversed(names):
        text = (root / name).read_text()
        with (root.parent / "read.log").open("a", errors="replace") as log:
            log.write(f"{name}\n")
        if text.startswith("raise"):
            raise RuntimeError(f"cannot read {name}")
        if text.startswith("kill") and not (root.parent / "killed").exists():
            (root.parent / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("slow"):
            time.sleep(0.1)
        while text.startswith("wait") and not (root.parent / "go").exists():
            time.sleep(0.01)
        if text.startswith("none"):
            (skipped if "1" in text else left_out).append((name, "holds no image, and\nthat in two lines"))
            continue
        for frame in range(1 + text.startswith("two")):
            seed = np.frombuffer(text.encode(), np.uint8)
            images.append(np.random.default_rng([*seed, frame]).random((size, size)).astype(np.float16))
            records.append(ImageRecord(name, frame, 'P, "1"\n2', "", "série", frame, 40, 50, "L", text, text[::-1]))
    return Decoded(records, np.array(images, np.float16).reshape(-1, size, size), skipped, left_out)


if __name__ == "__main__":
    root, cache_dir, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    decode(root, list_tasks(root), read, "made up", SIZE, cache_dir, workers)
