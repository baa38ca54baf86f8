"""What the free texts of a configuration may be: the name of a run, folders to write to, what W&B takes."""

import re
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from hqcnn_lab.error import ConfigError, shown

MAX_NAME = 200  # bytes; a time or a digest goes with it, and `.interrupted-12`, and a file system takes 255
MAX_PART, MAX_PATH = 255, 3800  # bytes; Linux takes 4096, and what is in the folder has names, too

PATHS = (
    *("ckpt_path", "dataset.root", "dataset.manifest", "dataset.clinical", "model.weights", "run", "input", "out"),
    *("tcia", "paths.runs_dir", "paths.sweeps_dir", "paths.cache_dir"),
)
# What is to be W&B's: the key, how many characters it takes, and which it does not take.
_WANDB = (
    ("project", 128, r"/\#?%:"),
    ("entity", 128, r"/\#?%: "),
    ("id", 128, r":;,#?/'\%"),
    ("version", 128, r":;,#?/'\%"),  # another word for id
    ("name", 128, ""),
    ("group", 128, ""),
    ("job_type", 64, ""),
)


def check_name(key: str, name: Any) -> None:
    """Raise `ConfigError` for a name that is not that of one folder, or that others would not know as a run's."""
    text, wrong = str(name), ""
    if name is None or isinstance(name, bool):
        wrong = "must be text"
    elif not text:
        wrong = "is empty"
    elif not text.isprintable():
        wrong = "has a line break or another character that cannot be seen"
    elif found := re.search(r"[/\\?]|\$\{", text):
        wrong = f"has {found[0]} in it: a name is not a path; where runs land is for paths.runs_dir to say"
    elif text[0] in ".- " or text[-1] in ". ":
        wrong = "begins with a dot, a dash or a space, or ends with a dot or a space"
    elif re.search(r"\.(failed|interrupted|diverged)-\d+$", text):
        wrong = "ends as the name of a run that was tried again"
    elif len(text.encode()) > MAX_NAME:
        wrong = f"is of {len(text.encode())} bytes, the most is {MAX_NAME}"
    if wrong:
        raise ConfigError(f"{key}={shown(text)}: {wrong}; it names a folder, such as gvco_lr0.1")


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


def check_wandb(config: DictConfig, key: str) -> None:
    """Raise `ConfigError` for what W&B's client or its server would refuse, once the data is prepared or later."""

    def given(name: str) -> Any:
        value = OmegaConf.select(config, f"{key}.{name}", throw_on_resolution_failure=False)
        return list(value) if isinstance(value, ListConfig) else value

    if (tags := given("tags")) is not None and not isinstance(tags, list):
        raise ConfigError(f"{key}.tags={shown(str(tags))}: must be a list, such as [paper,draft]")
    for tag in tags or []:
        _check_label(f"{key}.tags", tag, 64)
    for name, longest, forbidden in _WANDB:
        if (value := given(name)) is not None:
            _check_label(f"{key}.{name}", str(value) if name == "name" else value, longest, forbidden)
    if (notes := given("notes")) is not None and not isinstance(notes, str):
        raise ConfigError(f"{key}.notes={notes}: must be text; put a number in quotes")


def _check_label(key: str, text: Any, longest: int, forbidden: str = "") -> None:
    wrong = ""
    if not isinstance(text, str):
        wrong = "must be text; put a number in quotes"
    elif not 0 < len(text.strip()) <= len(text) <= longest:
        wrong = f"W&B takes 1 to {longest} characters, this is of {len(text)}"
    elif not text.isprintable():
        wrong = "has a line break or another character that cannot be seen"
    elif found := next((character for character in text if character in forbidden), ""):
        wrong = f"W&B takes no {found.replace(' ', 'space')} in it"
    if wrong:
        raise ConfigError(f"{key}={shown(str(text))}: {wrong}")


def _has_home(path: str) -> bool:
    try:
        Path(path).expanduser()
    except RuntimeError:  # ~somebody, who is not there
        return False
    return True


def why_not_writable(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not be there yet: words that go on after "there", or none."""
    absolute = folder.absolute()
    there = next(above for above in (absolute, *absolute.parents) if _exists(above))
    if not there.is_dir():
        return f", {there} is a file"
    try:
        Path(tempfile.mkdtemp(prefix=".hqcnn-", dir=there)).rmdir()  # what may be done, only doing it tells
    except OSError as error:
        return f" ({error.strerror})"
    return ""


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # below a file, or a folder that may not be looked into
        return False
