"""What the processes of one distributed run need of each other; alone, a process is the first of one."""

import os
import sys
import threading
import time
from typing import Any


def is_follower() -> bool:
    """Whether this process was started by the first one of a run, to train along; it writes nothing and is silent."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def gather(value: Any) -> list[Any]:
    """`value` of every process, by rank; every process has to call this. For small things: they travel pickled."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def follow(seconds: float = 1.0) -> None:
    """Print nothing more but errors, and end soon after the process that started this one, whose word it waits for."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
