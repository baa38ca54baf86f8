"""What may be said to people about a file that is not used."""

import builtins
import re

_NAMES = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
_TECHNICAL = re.compile(r"\w+(Error|Exception|Warning)\b|Traceback|Errno|<class|object at|\b0x[0-9a-f]+|\bNone\b|b'")


def is_plain(reason: str) -> bool:
    """Say whether it is one line without the name of one of Python's exceptions."""
    named = _TECHNICAL.search(reason) or _NAMES & set(re.findall(r"\w+", reason))
    return 0 < len(reason) < 200 and "\n" not in reason and not named
