"""Keep what a configuration's interpolations cost within bounds: `${…}` may refer to what refers to others, and on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Container
from omegaconf.errors import OmegaConfBaseException

from hqcnn_lab.error import ConfigError, first_line

MAX_STEPS = 500  # interpolations that are looked up while one configuration is composed and read; ours take 50
MAX_TEXT = 1_000_000  # characters that they come to


class _TooMuch(BaseException):
    """Past whatever would take it for an interpolation that cannot be resolved, and go on."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise `ConfigError` for a configuration that resolves to far more than is written in it (a billion laughs).

    The work is bounded, not the time: OmegaConf's one place where an interpolation is resolved is counted, which is
    the only private part of it that this lab touches.
    """
    resolve, steps, text = Container.resolve_parse_tree, 0, 0

    def counted(self: Container, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps, text
        steps += 1
        value = resolve(self, *args, **kwargs) if steps <= MAX_STEPS and text <= MAX_TEXT else _raise(self, **kwargs)
        text += len(value) if isinstance(value, str) else 0
        return value

    Container.resolve_parse_tree = counted
    try:
        yield
    except _TooMuch as error:
        raise ConfigError(f"{error}: what it refers to refers to others, and comes to too much; write it out") from None
    finally:
        Container.resolve_parse_tree = resolve


def _raise(container: Container, key: Any = None, **kwargs: Any) -> None:
    raise _TooMuch(container._get_full_key(key))


def check_interpolations(config: DictConfig) -> None:
    """Raise `ConfigError` where a `${…}` refers to nothing, to itself, or to far too much; names the key."""
    try:
        with bounded():
            OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        where = getattr(error, "full_key", None) or "the configuration"
        raise ConfigError(f"{where}: {first_line(error).split(' full_key:')[0]}") from None
