"""How far long work is: a bar on a terminal, through a pipe a line now and then."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

PATIENCE = 5  # seconds between two lines

Part = TypeVar("Part")


def with_progress(parts: Sequence[Part], sizes: Sequence[int], verb: str) -> Iterator[Part]:
    """Each part, of so many images; on the standard error `verb` and how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    console, done, last_line = Console(stderr=True), 0, time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=sum(sizes))
        for part, size in zip(parts, sizes, strict=True):
            yield part
            done += size
            progress.update(task, completed=done)
            if not console.is_terminal and done < sum(sizes) and time.monotonic() - last_line > PATIENCE:
                last_line = time.monotonic()
                print(f"{verb} {done} of {sum(sizes)} images", file=sys.stderr, flush=True)
