"""Keep what a configuration's interpolations cost within bounds: `${…}` may refer to what refers to others, and on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hqcnn_lab.config.omegaconf_private import watched_interpolations
from hqcnn_lab.error import ConfigError, first_line

MAX_STEPS = 500  # interpolations that are looked up while one configuration is composed and read; ours take 50
MAX_TEXT = 1_000_000  # characters that they come to


class _TooMuch(BaseException):
    """No `Exception`, or OmegaConf would take it for an interpolation that cannot be resolved, and go on."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise `ConfigError` for a configuration that resolves to far more than is written in it (a billion laughs).

    The work is bounded, not the time: every interpolation that is resolved is counted.
    """
    steps, n_characters = 0, 0

    def count(resolve: Callable[[], Any], key: Callable[[], str]) -> Any:
        nonlocal steps, n_characters
        steps += 1
        if steps > MAX_STEPS or n_characters > MAX_TEXT:
            raise _TooMuch(key())
        value = resolve()
        n_characters += len(value) if isinstance(value, str) else 0
        return value

    try:
        with watched_interpolations(count):
            yield
    except _TooMuch as error:
        raise ConfigError(f"{error}: what it refers to refers to others, and comes to too much; write it out") from None


def check_interpolations(config: DictConfig) -> None:
    """Raise `ConfigError` where a `${…}` refers to nothing, to itself, or to far too much; names the key."""
    try:
        with bounded():
            OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        key = getattr(error, "full_key", None) or "the configuration"
        raise ConfigError(f"{key}: {first_line(error).split(' full_key:')[0]}") from None
