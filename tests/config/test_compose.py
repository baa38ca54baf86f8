"""Composing the same line again and again: at once, and never what has changed in the meantime."""

import os

import pytest

from hqcnn_lab.config import compose as module
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR


def test_the_environment_may_choose_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a notebook that changed the variable got the first choice again."""
    for optimizer, name in (("adam", "Adam"), ("sgd", "SGD")):
        monkeypatch.setenv("OPTIMIZER", optimizer)
        assert compose(["optim=${oc.env:OPTIMIZER}"]).optim._target_ == f"torch.optim.{name}"


def test_a_file_may_have_changed() -> None:
    before = module._surroundings()
    assert module._surroundings() == before
    path = CONFIG_DIR / "config.yaml"
    times = path.stat()
    try:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        assert module._surroundings() != before
    finally:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_who_changes_what_was_composed_changes_it_alone() -> None:
    compose(["seed=3"]).seed = 4
    assert compose(["seed=3"]).seed == 3
