"""What an argument may be, said once: the class that takes it asks here, and so does the check of a configuration.

Free of torch, Hydra and Lightning, so that a configuration is checked in a moment and `optim` and `quantum` stay usable
from a notebook. A room keeps the limits of its own arguments, in `limits.py`.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Limit:
    """What a value may be: a predicate, and the words that follow "must be".

    True and False are no numbers, unless `also_bool`. `or_none`: None is a value too, as the default of an argument is
    that may be left out.
    """

    def __init__(
        self, predicate: Callable[[Any], object], words: str, *, also_bool: bool = False, or_none: bool = False
    ) -> None:
        self.predicate, self.words, self.also_bool, self.or_none = predicate, words, also_bool, or_none

    def holds(self, value: Any) -> bool:
        """Whether a value is within the limit; one of another type is not."""
        if value is None:
            return self.or_none
        if isinstance(value, bool) and not self.also_bool:
            return False
        try:
            return bool(self.predicate(value))
        except (TypeError, ValueError):  # of what cannot be compared
            return False

    def or_left_out(self) -> "Limit":
        """The same, for an argument that may be None."""
        return Limit(self.predicate, self.words, also_bool=self.also_bool, or_none=True)


Limits = Mapping[str, Limit]
"""The limits of a class's arguments, by name."""


def check_limits(limits: Limits, values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ValueError for the first value that is not within its limit; `prefix` says whose arguments they are.

    A value without a limit passes: not every argument has one.
    """
    for name, limit in limits.items():
        if name in values and not limit.holds(values[name]):
            words = f"{limit.words}, or None" if limit.or_none else limit.words
            raise ValueError(f"{prefix}{name} must be {words}{';' if ',' in words else ','} got {values[name]!r}")


def is_whole(value: object) -> bool:
    """Whether this is a whole number; True is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a float can hold it: an `int` may be of any length. Works on a tensor of one number, too."""
    return bool(abs(value) < math.inf and abs(value) <= sys.float_info.max)


def at_least(low: float) -> Limit:
    """A number without an upper limit, but finite."""
    return Limit(lambda x: x >= low and is_finite(x), f"at least {low}")


def whole(low: int, high: int | None = None) -> Limit:
    """A count."""
    if high is None:
        return Limit(lambda x: is_whole(x) and x >= low, f"a whole number from {low} on")
    return Limit(lambda x: is_whole(x) and low <= x <= high, f"a whole number from {low} to {high:,}")


def between(low: float, high: float) -> Limit:
    """`low` is allowed, `high` is not."""
    return Limit(lambda x: low <= x < high, f"at least {low} and below {high}")


def one_of(choices: Sequence[str]) -> Limit:
    """A name out of a few."""
    return Limit(lambda x: isinstance(x, str) and x in choices, f"one of {', '.join(choices)}")


def each(limit: Limit, words: str, length: int | None = None) -> Limit:
    """A list, not empty, each of whose values is within a limit."""
    return Limit(
        lambda x: (
            isinstance(x, Sequence)
            and not isinstance(x, str)
            and (len(x) == length if length else len(x) > 0)
            and all(map(limit.holds, x))
        ),
        words,
    )


POSITIVE = Limit(lambda x: x > 0 and is_finite(x), "a positive, finite number")
PROBABILITY = Limit(lambda x: 0 <= x <= 1, "between 0 and 1")
SHARE = Limit(lambda x: 0 < x < 1, "between 0 and 1, both excluded")
SEED = Limit(lambda x: is_whole(x) and 0 <= x < 2**32, "at least 0 and below 2³²")
