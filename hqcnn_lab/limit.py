"""What an argument may be, said once: the class that takes it asks here, and so does the check of a configuration.

Free of torch, Hydra and Lightning, so that a configuration is checked in a moment and `optim` and `quantum` stay usable
from a notebook. A room keeps the limits of its own arguments, in `limits.py`.
"""

import math
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Limit:
    """What a value may be: a predicate, and the words that follow "must be".

    `kind` is what it has to be before all else, such as a whole number; it is named where it is not. True and False are
    no numbers, unless `also_bool`. With `or_none` an argument may be left out.
    """

    def __init__(
        self,
        predicate: Callable[[Any], object],
        words: str,
        kind: "Limit | None" = None,
        *,
        also_bool: bool = False,
        or_none: bool = False,
    ) -> None:
        self.predicate, self.words, self.kind = predicate, words, kind
        self.also_bool, self.or_none = also_bool, or_none

    def holds(self, value: Any) -> bool:
        """Whether a value is within the limit; one of another type is not."""
        if value is None:
            return self.or_none
        if isinstance(value, bool) and not self.also_bool:
            return False
        try:
            return (self.kind is None or self.kind.holds(value)) and bool(self.predicate(value))
        except (TypeError, ValueError):  # of what cannot be compared
            return False

    def words_for(self, value: Any) -> str:
        """What to say of a value that is not within the limit: "must be" these words."""
        return self.words if self.kind is None or self.kind.holds(value) else f"{self.kind.words}, {self.words}"

    def or_left_out(self) -> "Limit":
        """The same, for an argument that may be None."""
        return Limit(self.predicate, self.words, self.kind, also_bool=self.also_bool, or_none=True)


Limits = Mapping[str, Limit]
"""The limits of a class's arguments, by name."""


def check_limits(
    limits: Limits, values: Mapping[str, Any], prefix: str = "", error: type[ValueError] = ValueError
) -> None:
    """Raise `error` for the first value that is not within its limit; `prefix` says whose arguments they are.

    A value without a limit passes: not every argument has one.
    """
    for name, limit in limits.items():
        if name in values and not limit.holds(values[name]):
            words = limit.words_for(values[name]) + (", or None" if limit.or_none else "")
            raise error(f"{prefix}{name} must be {words}{';' if ',' in words else ','} got {values[name]!r}")


def is_whole(value: object) -> bool:
    """Whether this is a whole number; True is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a float can hold it: an `int` may be of any length. Works on a tensor of one number, too."""
    return bool(abs(value) < math.inf and abs(value) <= sys.float_info.max)


_WHOLE = Limit(is_whole, "a whole number")
_FINITE = Limit(is_finite, "a finite number")


def count(low: int, high: int | None = None) -> Limit:
    """A whole number from `low` on, or to `high`."""
    if high is None:
        return Limit(lambda x: x >= low, f"at least {low}", _WHOLE)
    return Limit(lambda x: low <= x <= high, f"at least {low} and at most {high:,}", _WHOLE)


def at_least(low: float) -> Limit:
    """A finite number from `low` on."""
    return Limit(lambda x: x >= low, f"at least {low}", _FINITE)


def between(low: float, high: float) -> Limit:
    """`low` is allowed, `high` is not."""
    return Limit(lambda x: low <= x < high, f"at least {low} and below {high}")


def one_of(choices: Sequence[str]) -> Limit:
    """A name out of a few."""
    return Limit(lambda x: isinstance(x, str) and x in choices, f"one of {', '.join(choices)}")


def each(limit: Limit, words: str, n_values: range = range(1, sys.maxsize)) -> Limit:
    """A list, each of whose values is within a limit; how many there may be is in `n_values`."""

    def holds(x: Any) -> bool:
        x = x.tolist() if hasattr(x, "tolist") else x  # an array or a tensor
        is_list = isinstance(x, Sequence) and not isinstance(x, str)
        return is_list and len(x) in n_values and all(map(limit.holds, x))

    return Limit(holds, words)


POSITIVE = Limit(lambda x: x > 0 and is_finite(x), "a positive, finite number")
PROBABILITY = Limit(lambda x: 0 <= x <= 1, "between 0 and 1")
SHARE = Limit(lambda x: 0 < x < 1, "between 0 and 1, both excluded")
SEED = Limit(lambda x: 0 <= x < 2**32, "at least 0 and below 2³²", _WHOLE)
