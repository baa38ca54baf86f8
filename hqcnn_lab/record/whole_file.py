"""Files and folders that are whole or absent, whenever the process dies, and what a killed one left half-written."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NUMBERED = re.compile(r"\.(\d+)\.part$")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; as the block ends, what was written there takes the place of `path`.

    The name holds this process's number, by which the next that writes `path` knows what a killed one has left.
    """
    for part in _left_of(path):
        with suppress(OSError):  # a folder, or another process has just removed it
            part.unlink()
    scratch = part_of(path)
    try:
        yield scratch
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside `path` to write into; as the block ends, it takes the name `path`, which may be an empty
    folder until then.

    What a killed process left of `path` is removed, also by the name that older versions gave it. Look first whether
    `path` is free (`holds_something`): here, a folder that is not empty is an OSError at the end of the block. Not for
    a folder that another process goes on with after a kill (`data/decode/cache.py`).
    """
    scratch = part_of(path)
    for part in (*_left_of(path), path.with_name(f"{path.name}.part"), scratch):
        shutil.rmtree(part, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        if path.exists():
            path.rmdir()
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def holds_something(path: Path) -> bool:
    """Whether `path` is taken for who wants a folder there: an empty one gives way to `whole_folder`."""
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def part_of(path: Path) -> Path:
    """The name that this process writes `path` under until it is whole."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder of ours the files that killed processes were writing there; folders below it stay.

    Older versions left the number out: call this under a lock, where nobody is at work.
    """
    for part in folder.glob("*.part"):
        if _NUMBERED.search(part.name) is None or _is_left(part):
            with suppress(OSError):  # a folder, or another process has just removed it
                part.unlink()


def _left_of(path: Path) -> Iterator[Path]:
    """What killed processes were writing that was to become `path`."""
    return filter(_is_left, path.parent.glob(f"{glob.escape(path.name)}.*.part"))


def _is_left(part: Path) -> bool:
    number = _NUMBERED.search(part.name)
    return number is not None and not is_running(int(number[1]))


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return process > 0
