"""Composing the same line again and again: at once, and never what has changed in the meantime."""

import os
from pathlib import Path

import pytest
import quick_compose
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_repository import ConfigRepository

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


def test_what_tests_compose_is_what_hydra_composes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`quick_compose` gives Hydra what it has read before, unless the file is another one by now."""
    line = ["experiment=models", "optim=gvco", "name=quick"]
    quick = compose(line, with_hydra=True)
    for value in (1, 2):
        (tmp_path / "own.yaml").write_text(f"value: {value}\n")
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            assert hydra_compose("own").value == value
    monkeypatch.setattr(ConfigRepository, "load_config", quick_compose.read_anew)
    module._composed.cache_clear()
    assert compose(line, with_hydra=True) == quick
