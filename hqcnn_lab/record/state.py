"""What state a run folder is in, who is at work on it, and what a killed run left there."""

import re
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.whole_file import remove_leftovers

KEPT = ("finished", "diverged")  # results, never run again
LOCK = ".lock"  # held by the process of the run; the system frees it, however the process ends

_NAMED_BY_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_")  # as conf/hydra/default.yaml names single runs
_AN_HOUR = 3600


def state_of(folder: Path) -> str:
    """What a run folder holds: `absent`, `finished`, `diverged`, `failed`, or `interrupted`.

    Interrupted is a run that was told to end or was killed, also in its first moment, and one whose status cannot be
    read; one that is still going on, which a folder cannot tell from a killed one, counts as that too.
    """
    return RunFolder(folder).status.state if folder.exists() else "absent"


def is_live(run: Path) -> bool:
    """Whether a process is at work on this run, or on one that continues it."""
    if not (run / LOCK).exists():
        return False
    try:
        with FileLock(run / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder, or a disk that is read only: no run holds this lock
        return False


def clean_up(runs_dir: str | Path) -> None:
    """Remove what killed runs in `runs_dir` left half-written; one that is going on is left alone.

    An empty folder with a run's name goes too, once it is an hour old: until then a run may just have made it.
    """
    for folder in Path(runs_dir).glob("*"):
        if _NAMED_BY_TIME.match(folder.name) and time.time() - modified(folder) > _AN_HOUR:
            with suppress(OSError):
                folder.rmdir()  # works for an empty one only
    runs = [path.parent for path in Path(runs_dir).glob("*/status.json*")]
    for run in dict.fromkeys(runs):
        left = any(next(folder.glob("*.part"), None) for folder in _written_to(run))
        if left and not is_live(run):  # looking takes the lock for a moment, in which a run could not take it
            remove_leftovers_of(run)


def remove_leftovers_of(run: Path) -> None:
    for folder in _written_to(run):
        remove_leftovers(folder)


def _written_to(run: Path) -> tuple[Path, ...]:
    return run, run / "checkpoints", run / "figures"


def modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone by now
        return 0.0
