"""Whether Hydra's own part of a configuration can work: launcher, sweeper, environment."""

import dataclasses
import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from hqcnn_lab.build import foreign_to_hydra
from hqcnn_lab.config.check import check_workers
from hqcnn_lab.config.key import flat_keys, select
from hqcnn_lab.config.limits import HYDRA
from hqcnn_lab.error import ConfigError, first_line, shown

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NOTSET")


def check_hydra(config: DictConfig, multirun: bool) -> None:
    """Raise `ConfigError` for what Hydra would call and is not its own, and for what its parts would refuse later."""
    for key in ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging"):
        plain = OmegaConf.to_container(config.hydra[key], resolve=False)
        for where, target in foreign_to_hydra(plain, f"hydra.{key}"):
            raise ConfigError(
                f"{where}={target}: refused, Hydra may only be given its own launchers, sweepers and loggers"
            )
    for name, value in config.hydra.job.env_set.items():
        if not re.fullmatch(r"[^=\0]+", str(name)) or "\0" in str(value):
            raise ConfigError(f"hydra.job.env_set.{shown(str(name))}: is no name and value of a variable")
    verbose = config.hydra.verbose
    if not all(isinstance(name, bool | str) for name in (verbose if isinstance(verbose, ListConfig) else [verbose])):
        raise ConfigError(f"hydra.verbose={verbose}: must be true, false or the name of a logger, or a list of them")
    for key in ("job_logging", "hydra_logging"):
        for name in flat_keys(config.hydra[key]):
            if name.rpartition(".")[2] == "level" and (level := select(config.hydra[key], name)) not in _LEVELS:
                raise ConfigError(f"hydra.{key}.{name}={level}: must be one of {', '.join(_LEVELS)}")
    if not multirun:
        return
    check_workers("hydra.launcher.n_jobs", config.hydra.launcher.get("n_jobs"))
    for key, limit in HYDRA.items():
        if (value := select(config, key)) is not None and not limit.holds(value):
            raise ConfigError(f"{key}={shown(str(value))}: must be {limit.words_for(value)}")
    for key in ("launcher", "sweeper"):
        node = config.hydra[key]
        if dataclasses.is_dataclass(schema := OmegaConf.get_type(node)):
            names = [field.name for field in dataclasses.fields(schema)]
            for name in node:
                if name not in names:
                    raise ConfigError(f"hydra.{key}.{name}: there is no such key; it has {', '.join(names[1:])}")
    if sampler := select(config, "hydra.sweeper.sampler"):
        _build("hydra.sweeper.sampler", sampler)


def _build(key: str, spec: Any) -> None:
    from hydra.utils import instantiate

    try:
        instantiate(spec)
    except Exception as error:  # whatever a library calls it, it does not take these values
        raise ConfigError(f"{key}: {first_line(error.__cause__ or error)}") from None
