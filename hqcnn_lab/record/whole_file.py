"""Files that are whole or absent, whenever the process dies; and what is left of those that it was writing then."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NUMBERED = re.compile(r"\.(\d+)\.part$")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what is there takes the place of `path` as the block ends.

    The name holds this process's number, by which the next that writes `path` knows what a killed one has left.
    """
    _remove(part for part in path.parent.glob(f"{glob.escape(path.name)}.*.part") if _NUMBERED.search(part.name))
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield scratch
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder of ours what killed processes were writing there; folders below it are left alone.

    Older versions left the number out: call this under a lock, where nobody is at work.
    """
    _remove(folder.glob("*.part"))


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        number = _NUMBERED.search(part.name)
        if number is None or not _is_running(int(number[1])):
            with suppress(OSError):  # a folder, or another's to remove
                part.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return process > 0
