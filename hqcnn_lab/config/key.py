"""The dotted keys of a configuration, and of the overrides that change it."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf


def key_of(override: str) -> str:
    """The key that a `key=value`, `+key=value` or `~key` of a command line is about."""
    return override.lstrip("+~").partition("=")[0]


def flat_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key below `node`, those of groups too, in order; not what an interpolation refers to."""
    for key in list[Any](node):
        yield f"{prefix}{key}"
        refers = OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key)
        if not refers and isinstance(node[key], DictConfig):
            yield from flat_keys(node[key], f"{prefix}{key}.")


def select(config: DictConfig, key: str) -> Any:
    """The value of a dotted key; None where it is not there, or refers to what is not."""
    return OmegaConf.select(config, key, throw_on_resolution_failure=False)


def plain_values(config: DictConfig) -> dict[str, Any]:
    """The values of a configuration as dicts and lists, with what each `${…}` refers to in its place."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
