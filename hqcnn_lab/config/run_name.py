"""What a run may be called: its name is that of a folder, and others have to know it as a run's."""

import re
from typing import Any

from hqcnn_lab.error import ConfigError, shown

MAX_NAME = 200  # bytes; a time or a digest goes with it, and `.interrupted-12`, and a file system takes 255


def check_name(key: str, name: Any) -> None:
    """Raise `ConfigError` for a name that is not that of one folder, or that others would not know as a run's."""
    text, wrong = str(name), ""
    if name is None or isinstance(name, bool):
        wrong = "must be text"
    elif not text:
        wrong = "is empty"
    elif not text.isprintable():
        wrong = "has a line break or another character that cannot be seen"
    elif match := re.search(r"[/\\?]|\$\{", text):
        wrong = f"has {match[0]} in it: a name is not a path; where runs land is for paths.runs_dir to say"
    elif text[0] in ".- " or text[-1] in ". ":
        wrong = "begins with a dot, a dash or a space, or ends with a dot or a space"
    elif re.search(r"\.(failed|interrupted|diverged)-\d+$", text):
        wrong = "ends as the name of a run that was tried again"
    elif len(text.encode()) > MAX_NAME:
        wrong = f"is of {len(text.encode())} bytes, the most is {MAX_NAME}"
    if wrong:
        raise ConfigError(f"{key}={shown(text)}: {wrong}; it names a folder, such as gvco_lr0.1")
