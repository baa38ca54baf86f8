"""Paths of a configuration: texts that a file or folder can have, and folders that can be written to."""

import re
import tempfile
from pathlib import Path
from typing import Any

from hqcnn_lab.error import ConfigError, shown

MAX_PART, MAX_PATH = 255, 3800  # bytes; Linux takes 4096, and what is in the folder has names, too

PATHS = (
    *("ckpt_path", "dataset.root", "dataset.manifest", "dataset.clinical", "model.weights", "run", "input", "out"),
    *("tcia", "paths.runs_dir", "paths.sweeps_dir", "paths.cache_dir"),
)


def check_path(key: str, path: Any) -> None:
    """Raise `ConfigError` for a text that no file or folder can have as its path."""
    wrong = ""
    if not isinstance(path, str):
        wrong = "must be a path; put a number in quotes"
    elif not path.strip():
        wrong = "is empty; give a folder, or leave it out"
    elif "\0" in path:
        wrong = "has a NUL character in it"
    elif re.search("[\ud800-\udfff]", path):  # how Python holds bytes that are no text
        wrong = "is not UTF-8, and could not be written down; give the folder another name, or a link to it"
    elif max(len(part.encode()) for part in path.split("/")) > MAX_PART or len(path.encode()) > MAX_PATH:
        wrong = f"is too long, the most is {MAX_PART} bytes between two /"
    elif not _has_home(path):
        wrong = "whose home that is, is not known; write out the path"
    if wrong:
        raise ConfigError(f"{key}={shown(str(path))}: {wrong}")


def check_folder(key: str, path: Any) -> None:
    """Raise `ConfigError` for a folder that a run cannot be written to; what is not there yet could be made."""
    check_path(key, path)
    if not str(path).isprintable():
        raise ConfigError(f"{key}={shown(path)}: has a line break or another character that cannot be seen")
    if str(path).startswith("~"):
        raise ConfigError(f"{key}={path}: ~ would be a folder of that name; write your home folder's whole path")
    if reason := why_not_writable(Path(path)):
        raise ConfigError(f"{key}={path}: a run cannot be written there{reason}")


def check_run_folder(key: str, path: Any) -> None:
    """Raise `ConfigError` for a folder that holds anything: a run has one of its own."""
    check_folder(key, path)
    folder = Path(path)
    if (folder / "status.json").exists():
        raise ConfigError(f"{key}={path}: already holds a run; runs are never overwritten, choose another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{key}={path}: there are other files in it; a run has a folder of its own")


def why_not_writable(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not be there yet: words that go on after "there", or none."""
    absolute = folder.absolute()
    nearest = next(above for above in (absolute, *absolute.parents) if _exists(above))
    if not nearest.is_dir():
        return f", {nearest} is a file"
    try:
        Path(tempfile.mkdtemp(prefix=".hqcnn-", dir=nearest)).rmdir()  # what may be done, only doing it tells
    except OSError as error:
        return f" ({error.strerror})"
    return ""


def _has_home(path: str) -> bool:
    try:
        Path(path).expanduser()
    except RuntimeError:  # ~somebody, who is not there
        return False
    return True


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # below a file, or a folder that may not be looked into
        return False
