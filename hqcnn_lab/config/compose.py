"""Compose the files of `conf/` with overrides into one configuration, and say in one line why that cannot be done."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

import hqcnn_lab.config.choice_name  # noqa: F401  registers ${called:…}
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.hydra_private import GlobalHydra, HydraConfig, OverridesParser
from hqcnn_lab.config.key import select
from hqcnn_lab.config.override import choices_of
from hqcnn_lab.error import ConfigError, first_line, shown
from hqcnn_lab.record.idle_average import drop_idle_average

# Which extra brings the plugin that a file of conf/hydra/ or conf/search/ builds on.
_PLUGINS = {
    "launcher/joblib": "joblib",
    "launcher/submitit_local": "slurm",
    "launcher/submitit_slurm": "slurm",
    "launcher/ray": "ray",
    "sweeper/optuna": "optuna",
}


def compose(overrides: Sequence[str], name: str = "config", with_hydra: bool = False) -> DictConfig:
    """Compose `conf/<name>.yaml` with command-line overrides, outside a Hydra application (a notebook, a test).

    `with_hydra` adds Hydra's own part, where the launcher and the folders stand.
    """
    try:
        return _composed(name, tuple(overrides), with_hydra, *_surroundings()).copy()
    except Exception as error:  # Hydra and OmegaConf have words for some mistakes, and let Python's through for others
        raise ConfigError(_why_not(error, overrides, name)) from error


@lru_cache(maxsize=8)  # one command composes the same several times, a tenth of a second each
def _composed(name: str, overrides: tuple[str, ...], with_hydra: bool, *_surroundings: object) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra_compose(name, list(overrides), return_hydra_config=with_hydra)


def _surroundings() -> tuple[object, ...]:
    """What else a composition depends on: the files of `conf/`, the environment, and the folder, in Hydra's part."""
    files = tuple((str(path), path.stat().st_mtime_ns) for path in sorted(CONFIG_DIR.rglob("*.yaml")))
    return files, tuple(sorted(os.environ.items())), Path.cwd()


def _why_not(error: Exception, overrides: Sequence[str], name: str) -> str:
    if (line := first_line(error).partition("Error merging override ")[2]) and error.__cause__:
        return f"{shown(line)}: {first_line(error.__cause__).split(' full_key:')[0]}"
    said = first_line(error).split(" full_key:")[0]
    if isinstance(error, HydraException | OmegaConfBaseException | ConfigError):
        return f"{said}{_missing_plugin(str(error))}"
    said = f"there is no {said}" if isinstance(error, KeyError) else said  # such as a variable of the environment
    for line in overrides if len(overrides) > 1 else ():  # which of them, only trying each can tell
        try:
            compose([line], name, with_hydra=True)
        except ConfigError as alone:
            return str(alone)
    return f"{', '.join(shown(line) for line in overrides)}: cannot be used here ({said})"


def compose_sweep(overrides: Sequence[str]) -> DictConfig:
    """Compose the first job of a sweep, with Hydra's own part."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return compose([next(choices_of(override)) for override in parsed], with_hydra=True)


def _missing_plugin(message: str) -> str:
    """What to install, where Hydra does not know a launcher or sweeper of ours."""
    for plugin, extra in _PLUGINS.items():
        if f"'hydra/{plugin}'" in message:
            return f'; install what it needs: pip install "hqcnn-lab[{extra}]"'
    return ""


@contextmanager
def hydra_in_place(whole: DictConfig) -> Iterator[DictConfig]:
    """What was composed, without Hydra's part, of which `${hydra:…}` has the values in here."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.set_config(whole)
        runtime: Any = HydraConfig.get().runtime
        with read_write(runtime), open_dict(runtime):
            runtime.output_dir = str(select(whole, "hydra.run.dir"))
        config = whole.copy()
        with open_dict(config):
            del config["hydra"]
        drop_idle_average(config)
        yield config
    finally:
        hydra.cfg = before
