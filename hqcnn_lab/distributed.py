"""What the processes of one distributed run need of each other; alone, a process is the first of one."""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any


def is_follower() -> bool:
    """Whether this process was started by the first one of a run, to train along; it writes nothing and is silent."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> float:
    """How many this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system says
        return math.inf


def gather(value: Any) -> list[Any]:
    """`value` of every process, by rank; every process has to call this. For small things: they travel pickled."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def lost_process(processes: Sequence[subprocess.Popen], seconds: float = 3.0) -> str | None:
    """Which of the followers has ended, in words, or does so within `seconds`: its peers learn of it first."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for rank, process in enumerate(processes, 1):
            if process.poll() is not None:
                return f"process {rank} of this run ended with exit code {process.returncode}"
        time.sleep(0.05)
    return None


def follow(seconds: float = 1.0) -> None:
    """Print nothing more but errors, and end soon after the process that started this one, whose word it waits for."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
