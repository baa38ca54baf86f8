"""A run folder read back: what its files say, each value of the kind that a run writes, or why not."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hqcnn_lab.record.plain_file import Unusable, read_mapping

MOST_KEYS = 1000  # of a configuration or a summary, where a run has some 150


class Kind(NamedTuple):
    """What a value has to be, in words that follow "is not", and whether it is; null is always taken for not known."""

    words: str
    holds: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether `value` is a number that one can reckon with."""
    # So small that sums of squares stay finite, too.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e100 < value < 1e100


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


_TEXT = Kind("a text", _is_text)
_NUMBER = Kind("a finite number", is_number)
_COUNT = Kind("a whole number from 0 on", _is_count)
_WHOLE = Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_SHARE = Kind("between 0 and 1", lambda value: is_number(value) and 0 <= value <= 1)
_TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
_WORD = Kind("a text or a whole number", lambda value: _is_text(value) or _WHOLE.holds(value))
_GROUP = Kind("names with values", lambda value: isinstance(value, dict))
_TEXTS = Kind("a list of texts", _is_list_of(_is_text))
_EPOCHS = Kind("a list of whole numbers", _is_list_of(_is_count))
_COUNTS = Kind("a table of counts", _is_list_of(_is_list_of(_is_count)))
_TIME = Kind("a time", lambda value: _time(value) is not None)
_STATUS = Kind("running, finished or failed", lambda value: value in ("running", "finished", "failed"))

# File → what its keys have to be; the first pattern that a key matches counts, and other keys may be anything.
KINDS: dict[str, dict[str, Kind]] = {
    "status.json": {"status": _STATUS, "error": _TEXT, "started|ended": _TIME, "process": _COUNT},
    "environment.json": {
        "overrides": _TEXTS,
        "versions|git": _GROUP,
        r"git\.changed": _TRUTH,
        r"digest|python|system|device|code|git\.commit|versions\..*": _TEXT,
    },
    "config.yaml": {
        "seed": _COUNT,
        "name|monitor|test_checkpoint": _TEXT,
        "test_after": _EPOCHS,
        "dataset|circuit|model|optim|trainer|paths|callbacks": _GROUP,
        r".+\._target_": _TEXT,
        r"dataset\.(split|root|manifest|clinical)": _TEXT,
        r"dataset\.(image_size|n_train|n_test|workers)|circuit\.(n_wires|n_layers|seed)": _COUNT,
        r"circuit\.(ansatz|encoder|readout)|model\.kernel": _TEXT,
        r"optim\.(lr|quantum_lr)": _NUMBER,
        r"trainer\.max_epochs": _WHOLE,
        r"trainer\.precision": _WORD,
    },
    "summary.json": {
        r"split/(kind|manifest|leak)": _TEXT,
        r"test/confusion_matrix": _COUNTS,
        r"(val|test)/absent": _TEXTS,
        r"epochs|steps|(images|params)/.*|convergence/(epochs|steps)_to_.*": _COUNT,
        r".*(accuracy|auroc|macro_f1)|.*/recall/.*|stage_one/.*": _SHARE,
        r".*": _NUMBER,
    },
}


class Status(NamedTuple):
    """What `status.json` says, None for what it does not; times have a zone."""

    status: str | None
    error: str | None
    started: datetime | None
    ended: datetime | None
    process: int | None

    @property
    def seconds(self) -> float | None:
        """How long the run took."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None

    @property
    def state(self) -> str:
        """`finished`, `diverged`, `failed` or `interrupted`: see `hqcnn_lab.record.state.state_of`."""
        if self.status == "failed" and self.error != "interrupted":
            return "diverged" if (self.error or "").startswith("TrainingDiverged") else "failed"
        return "finished" if self.status == "finished" else "interrupted"

    def as_json(self) -> dict[str, Any]:
        """What of it goes into a file again."""
        times = {name: time.isoformat() for name, time in (("started", self.started), ("ended", self.ended)) if time}
        return {name: value for name, value in self._asdict().items() if value is not None} | times


class RunFolder:
    """A run's files, each read when it is asked for, and once.

    A file that is absent says nothing. What cannot be used says nothing either, and `problems` has the file's name with
    the reason: of a configuration that is the whole, of other files the value. Nothing here raises.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.problems: dict[str, str] = {}

    @cached_property
    def status(self) -> Status:
        content = self._read("status.json")
        started, ended = (_time(content.get(name)) for name in ("started", "ended"))
        return Status(content.get("status"), content.get("error"), started, ended, content.get("process"))

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._read("environment.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """Of half a configuration nothing would be comparable."""
        config = self._read("config.yaml")
        return {} if "config.yaml" in self.problems else config

    @cached_property
    def summary(self) -> dict[str, Any]:
        return self._read("summary.json")

    @property
    def code(self) -> str:
        """The version of the code that the run is of."""
        return self.environment.get("code") or "unknown"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content, problem = usable(name, read_mapping(self.folder / name))
        except FileNotFoundError:
            return {}
        except Unusable as error:
            content, problem = {}, str(error)
        if problem:
            self.problems[name] = problem
        return content


def usable(name: str, content: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What of the content of a file called `name` is of its kinds, and why the rest is not, in one line."""
    kept, wrong = dict(content), []
    for n, (top, key, value) in enumerate(_all_keys(content)):
        if n >= MOST_KEYS:
            return {}, f"has more than {MOST_KEYS:,} keys"
        kind = _kind_of(name, key)
        if value is not None and kind is not None and not kind.holds(value):
            wrong.append(f"says of {key[:80]} what is not {kind.words}")
            kept.pop(top, None)
    return kept, f"{wrong[0]}{f' (and {len(wrong) - 1} more)' if wrong[1:] else ''}" if wrong else None


@lru_cache(maxsize=4096)  # all runs have the same keys
def _kind_of(name: str, key: str) -> Kind | None:
    return next((kind for pattern, kind in KINDS[name].items() if re.fullmatch(pattern, key)), None)


def _all_keys(content: Mapping[str, Any], top: str = "", prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """The first key, the whole dotted one and the value, also of those that hold others."""
    for name, value in content.items():
        first, key = top or name, f"{prefix}{name}"
        yield first, key, value
        if isinstance(value, dict):
            yield from _all_keys(value, first, f"{key}.")


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested config's values by dotted key; lists are values."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _time(text: Any) -> datetime | None:
    """In UTC, as one without a zone is."""
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
