"""The values that the overrides of a sweep stand for."""

import math
from collections.abc import Iterator
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from hqcnn_lab.config.conf_files import options_of
from hqcnn_lab.error import ConfigError, shown

_MOST_JOBS = 10_000  # of one sweep
_LOOKED_AT = 100  # values of a range, each of which is composed


def check_count(parsed: list[Any]) -> None:
    counts = [count(override) for override in parsed]
    for override, n in zip(parsed, counts, strict=True):
        if n < 1:
            raise ConfigError(f"{shown(override.input_line)}: is of no value at all; a sweep needs one")
    is_search = any(override.key_or_group in ("search", "hydra/sweeper") for override in parsed)
    if not is_search and (n := math.prod(counts)) > _MOST_JOBS:
        line = parsed[counts.index(max(counts))].input_line
        raise ConfigError(f"{shown(line)}: the sweep comes to {n:,} jobs; at most {_MOST_JOBS:,} at once")


def count(override: Any) -> int:
    """How many values, counted without listing them: a range may be of any length."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    value, line = override.value(), shown(override.input_line)
    if isinstance(value, RangeSweep):
        try:
            return max(math.ceil((value.stop - value.start) / value.step), 0)
        except (ArithmeticError, ValueError):
            raise ConfigError(f"{line}: never comes to its end") from None
    if isinstance(value, IntervalSweep):
        if not value.start < value.end:
            raise ConfigError(f"{line}: an interval goes from a smaller number to a larger one")
        if "log" in value.tags and value.start <= 0:
            raise ConfigError(f"{line}: on a logarithmic scale, an interval begins above 0")
    try:
        return sum(1 for _ in choices_of(override))
    except OmegaConfBaseException:
        raise ConfigError(f"{line}: a sweep is of values, or of one range") from None


def choices_of(override: Any) -> Iterator[str]:
    """Each value as an override of its own; of a search's interval the ends, of a long range some."""
    from hydra.core.override_parser.types import Glob, RangeSweep, Transformer

    prefix, value = override.input_line.split("=", 1)[0], override.value()
    if isinstance(value, Glob):
        yield from (f"{prefix}={choice}" for choice in value.filter(options_of(override.key_or_group)))
    elif override.is_interval_sweep():  # of a search: if both ends will do, what lies between will
        yield from (f"{prefix}={end}" for end in (value.start, value.end))
    elif isinstance(value, RangeSweep) and (n := count(override)) > _LOOKED_AT:  # some, and the last, are enough
        steps = (*range(0, n - 1, n // _LOOKED_AT), n - 1)
        yield from (f"{prefix}={value.start + step * value.step}" for step in steps)
    elif override.is_sweep_override():
        yield from (f"{prefix}={choice}" for choice in override.sweep_iterator(transformer=Transformer.encode))
    else:
        yield override.input_line
