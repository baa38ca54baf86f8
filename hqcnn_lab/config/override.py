"""One override of a command line, `key=value`: parsed, quoted, and the values that it stands for in a sweep."""

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.config.hydra_private import (
    Glob,
    IntervalSweep,
    Override,
    OverridesParser,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hqcnn_lab.config.key import key_of
from hqcnn_lab.error import ConfigError, first_line, shown

# Of Hydra's own keys, those that would be passed over, and what there is instead.
_NOT_TAKEN = {
    "hydra.searchpath": f"is not read; a choice is a file in {CONFIG_DIR}/<group>/, put yours there",
    "hydra.sweep.subdir": "a job's folder is named by what it computes; hydra.sweep.dir says where those folders are",
    "hydra.mode": "-m makes a sweep, and leaving it out a single run",
}
_MOST_JOBS = 10_000  # of one sweep
_MOST_TRIED = 100  # values of a range, each of which is composed


def parse_override(line: str, multirun: bool) -> Override:
    """Hydra's own reading of `key=value`; raises `ConfigError` where it cannot be read, or sweeps without -m."""
    try:
        override = OverridesParser.create().parse_override(line)
    except (HydraException, RecursionError) as error:
        raise ConfigError(
            f"{shown(line)}: not of the form key=value ({first_line(error)[:80]}); {_how_to_quote(line)}"
        ) from None
    if override.key_or_group == "search" and not multirun:
        raise ConfigError(f"{line}: a search is a sweep, and needs -m")
    if override.is_sweep_override() and not multirun:
        raise ConfigError(f"{shown(line)}: several values need -m, which makes a sweep of them; {_how_to_quote(line)}")
    for key, why in _NOT_TAKEN.items():
        if override.key_or_group == key:
            raise ConfigError(f"{shown(line)}: {why}")
    return override


def _how_to_quote(line: str) -> str:
    key, is_pair, text = line.partition("=")
    if not (is_pair and re.fullmatch(r"\+{0,2}[\w./@-]+", key)):
        return "a value with , = or a space in it goes in quotes: \"key='a value'\""
    text = str(Path(text).expanduser()) if text.startswith("~/") else text
    return f"for this very text: {shlex.quote(as_override(key, text))}"


def as_override(key: str, text: str) -> str:
    """`key=text` with the text quoted for Hydra, which then takes it as it stands; a shell wants its own."""
    if re.fullmatch(r"[\w./-]*/[\w./-]+", text, re.ASCII):
        return f"{key}={text}"
    return f"{key}={QuotedString(text, Quote.double).with_quotes()}"


def _line_of(override: Override) -> str:
    assert override.input_line is not None  # only of an override that was not parsed
    return override.input_line


def check_count(parsed: list[Override]) -> None:
    """Raise `ConfigError` for a sweep over no values, or over more jobs than anybody can want."""
    counts = [count(override) for override in parsed]
    for override, n in zip(parsed, counts, strict=True):
        if n < 1:
            raise ConfigError(f"{shown(_line_of(override))}: is of no value at all; a sweep needs one")
    is_search = any(override.key_or_group in ("search", "hydra/sweeper") for override in parsed)
    if not is_search and (n := math.prod(counts)) > _MOST_JOBS:
        line = shown(_line_of(parsed[counts.index(max(counts))]))
        raise ConfigError(f"{line}: the sweep comes to {n:,} jobs; at most {_MOST_JOBS:,} at once")


def count(override: Override) -> int:
    """How many values, counted without listing them: a range may be of any length."""
    value: Any = override.value()
    line = shown(_line_of(override))
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        try:
            return max(math.ceil((value.stop - value.start) / value.step), 0)
        except (ArithmeticError, ValueError):
            raise ConfigError(f"{line}: never comes to its end") from None
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        if not value.start < value.end:
            raise ConfigError(f"{line}: an interval goes from a smaller number to a larger one")
        if "log" in value.tags and value.start <= 0:
            raise ConfigError(f"{line}: on a logarithmic scale, an interval begins above 0")
    try:
        return sum(1 for _ in choices_of(override))
    except OmegaConfBaseException:
        raise ConfigError(f"{line}: a sweep is of values, or of one range") from None


def choices_of(override: Override) -> Iterator[str]:
    """Each value of a sweep as an override of its own; of a search's interval the two ends, of a long range some."""
    value: Any = override.value()
    prefix = _line_of(override).split("=", 1)[0]
    if isinstance(value, Glob):
        yield from (f"{prefix}={choice}" for choice in value.filter(options_of(override.key_or_group)))
    elif override.is_interval_sweep():  # of a search: if both ends will do, what lies between will
        yield from (f"{prefix}={end}" for end in (value.start, value.end))
    elif isinstance(value, RangeSweep) and (n := count(override)) > _MOST_TRIED:  # some, and the last, are enough
        steps = (*range(0, n - 1, n // _MOST_TRIED), n - 1)
        assert value.start is not None
        yield from (f"{prefix}={value.start + step * value.step}" for step in steps)
    elif override.is_sweep_override():
        yield from (f"{prefix}={choice}" for choice in override.sweep_iterator(transformer=Transformer.encode))
    else:
        yield _line_of(override)


def n_jobs(overrides: Sequence[str], config: DictConfig) -> int:
    """How many jobs `-m` makes of these overrides: every combination, or as many as a search is given."""
    lines = [*overrides, *swept_by_config(overrides, config)]
    return config.hydra.sweeper.get("n_trials") or math.prod(
        count(parse_override(line, multirun=True)) for line in lines
    )


def swept_by_config(overrides: Sequence[str], config: DictConfig) -> list[str]:
    """What `hydra.sweeper.params` says to sweep besides, as overrides; a key of the command line comes before it."""
    given = {key_of(line) for line in overrides}
    params = config.hydra.sweeper.get("params") or {}
    return [f"{key}={value}" for key, value in params.items() if key_of(key) not in given]
