"""What a configuration computes, in 12 hex digits: the name of a run among others."""

import hashlib
import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.record.idle_average import drop_idle_average


def digest(config: DictConfig) -> str:
    """Name what a config computes by 12 hex digits; paths, names, loggers and resuming do not change them.

    The data set's root does, as an absolute path; the code's version does not: `commits` tells of it. Keys that are
    newer than the first folders named by a digest are left out at their defaults.
    """
    config = config.copy()
    drop_idle_average(config)
    config.ckpt_path = None
    config.name, config.logger, config.paths = "", {}, dict.fromkeys(config.paths, "")
    if config.dataset.get("root") is not None:
        config.dataset.root = str(Path(config.dataset.root).expanduser().resolve())
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    plain.pop("resume", None)
    if plain.get("test_after") == []:
        del plain["test_after"]
    if plain["trainer"].get("strategy") == "auto":
        del plain["trainer"]["strategy"]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
