"""Figures as people read them, and texts without what tells of a machine or a person."""

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from hqcnn_lab.analysis.row import Row, is_figure
from hqcnn_lab.analysis.spread import Spread
from hqcnn_lab.reporting.groups import Group

NONE = "–"
_PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>(?:~|[A-Za-z]:)?[/\\][^'"]*)(?P=quote)|"""
    r"""(?<![\w./\\:~])(?:~|[A-Za-z]:)?(?P<plain>[/\\](?![/\\])[^\s'",;)\]]+)"""
)


def number(value: object, scale: float = 1, digits: int = 3, sign: str = "") -> str:
    """A dash for what is no number."""
    return f"{scale * value:{sign}.{digits}f}".replace("-", "−") if is_figure(value) else NONE


def mean_std(spread: Spread | None, scale: float = 100, digits: int = 2) -> str:
    if spread is None:
        return NONE
    mean = number(spread.mean, scale, digits)
    return mean if spread.n < 2 else f"{mean} ± {number(spread.std, scale, digits)}"


def interval(low: float, high: float, digits: int = 2, sign: str = "") -> str:
    """Of shares, in percent."""
    return NONE if math.isnan(low) else f"{number(low, 100, digits, sign)} to {number(high, 100, digits, sign)}"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(values: Iterable[object]) -> str:
    """Each once, the lowest and the highest where they are numbers and many."""
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    if not distinct:
        return NONE
    numbers = [value for value in distinct if isinstance(value, int | float)]
    if len(numbers) < len(distinct):
        return ", ".join(map(str, distinct))
    texts = [f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in sorted(numbers)]
    return ", ".join(texts) if len(texts) <= 3 else f"{texts[0]} to {texts[-1]}"


def public(text: str) -> str:
    """`text` with the last part alone of each absolute path: the others tell of a person or a machine."""

    def last(match: re.Match) -> str:
        parts = [part for part in re.split(r"[/\\]", match["quoted"] or match["plain"] or "") if part]
        return (match["quote"] or "") + "…/" + (parts[-1] if parts else "") + (match["quote"] or "")

    return _PATH.sub(last, text)


def place_of(row: Row, tops: Sequence[str | Path]) -> str:
    """A run's folder under the one that was given, beginning with that one's name."""
    folder = Path(row["folder"]).resolve()
    for top in (Path(top).resolve() for top in tops):
        if folder.is_relative_to(top):
            return (Path(top.name) / folder.relative_to(top)).as_posix()
    return f"{folder.parent.name}/{folder.name}"


def command(group: Group) -> str | None:
    """What runs the whole group again, from the overrides that were typed; None where they are not known.

    Folders of a machine stand as variables of the shell: `$DATASET_ROOT`.
    """
    row = next((row for row in group.runs if row["overrides"] is not None), None)
    if row is None:
        return None
    seeds = sorted({run["seed"] for run in group.runs if isinstance(run["seed"], int)})
    words = ["python -m hqcnn_lab.train"] + ["-m"] * (len(seeds) > 1)
    for line in row["overrides"]:
        key, _, value = line.partition("=")
        plain = value.strip("'\"")
        if key.lstrip("+~") == "seed" or key.lstrip("+~").startswith(("paths.", "hydra.")):
            continue
        if Path(plain).is_absolute() or plain.startswith("~") or re.match(r"[A-Za-z]:[/\\]", plain):
            words.append(f'{key}="${key.lstrip("+~").upper().replace(".", "_")}"')
        else:
            words.append(shlex.quote(line))
    return " ".join([*words, f"seed={','.join(map(str, seeds))}"] if seeds else words)
