"""`omegaconf_private` sees every interpolation; a test that fails here means that an upgrade of OmegaConf moved it.

Without it, `config/interpolation.py` cannot bound what a configuration comes to.
"""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import OmegaConf

from hqcnn_lab.config.omegaconf_private import watched_interpolations

CONFIG = {"a": 1, "b": "${a}", "c": {"d": "x${b}"}, "e": ["${oc.select:a}"]}


def test_every_interpolation_is_seen_with_its_key_and_gets_the_value_it_is_given() -> None:
    seen = []

    def watch(resolve: Callable[[], Any], key: Callable[[], str]) -> Any:
        seen.append((key(), value := resolve()))
        return value

    with watched_interpolations(watch):
        plain = OmegaConf.to_container(OmegaConf.create(CONFIG), resolve=True)
    assert plain == {"a": 1, "b": 1, "c": {"d": "x1"}, "e": [1]}
    assert set(seen) >= {("b", 1), ("c.d", "x1"), ("e[0]", 1)}, "OmegaConf resolves interpolations elsewhere now"


def test_an_interpolation_can_be_stopped() -> None:
    class TooMuch(BaseException):
        pass

    def stop(resolve: Callable[[], Any], key: Callable[[], str]) -> Any:
        raise TooMuch(key())

    config = OmegaConf.create(CONFIG)
    with pytest.raises(TooMuch, match=r"^b$"), watched_interpolations(stop):
        OmegaConf.to_container(config, resolve=True)
    assert config.b == 1, "as before, once it is over"
