"""Where OmegaConf gives an interpolation its value: one undocumented method, which an upgrade may move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf.base import Container


@contextmanager
def watched_interpolations(watch: Callable[[Callable[[], Any], Callable[[], str]], Any]) -> Iterator[None]:
    """In here, each interpolation is worth what `watch(resolve, key)` returns.

    `resolve()` works the value out, as OmegaConf would have, and `key()` names the interpolation.
    """
    original = Container.resolve_parse_tree

    def resolve_parse_tree(self: Container, *args: Any, **kwargs: Any) -> Any:
        def key() -> str:
            return self._get_full_key(kwargs.get("key"))  # pyright: ignore[reportPrivateUsage]

        return watch(lambda: original(self, *args, **kwargs), key)

    Container.resolve_parse_tree = resolve_parse_tree
    try:
        yield
    finally:
        Container.resolve_parse_tree = original
