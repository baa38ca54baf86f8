"""Where a result is to go: a name that is free, in a place that can be written to."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from hqcnn_lab.config.path import check_path, why_not_writable
from hqcnn_lab.error import ConfigError


def free_name(path: Path, is_taken: Callable[[Path], bool] = os.path.lexists) -> Path:
    """`path`, or where that is taken the first that is not of the same name with -2, -3, … after it."""
    if not is_taken(path):
        return path
    # A folder's name may have a dot in it; of a file, the ending stays at the end.
    stem, suffix = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    return next(new for n in count(2) if not is_taken(new := path.with_name(f"{stem}-{n}{suffix}")))


def check_new(path: Path, is_taken: Callable[[Path], bool] = os.path.lexists) -> None:
    """Raise `ConfigError` where `out=path` is taken, with a name that is not, or cannot come to be."""
    check_path("out", str(path))
    if is_taken(path):
        raise ConfigError(
            f"out={path}: {path.name} is there already, and nothing is ever overwritten; "
            f"out={free_name(path, is_taken)} is free"
        )
    if reason := why_not_writable(path.absolute().parent):
        raise ConfigError(f"out={path}: nothing can be written there{reason}; choose another place")
