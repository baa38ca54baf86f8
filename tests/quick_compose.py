"""Composing as fast as the tests need it, which do so two thousand times: a file of a config is parsed once a process.

A third of what Hydra does in a composition is reading. What it gets here is a copy of what it would have read: pickled,
because a copy made by OmegaConf takes as long as the parsing.
"""

import pickle
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository

_read: dict[tuple[Any, ...], bytes] = {}
read_anew = ConfigRepository.load_config


def parse_once() -> None:
    """Have Hydra keep what it has read; a file that has changed since is read anew."""
    ConfigRepository.load_config = _kept


def _kept(repository: ConfigRepository, config_path: str) -> Any:
    sources = [source for source in repository.sources if source.scheme() in ("file", "pkg")]
    places = [Path(source.path, f"{config_path}.yaml") for source in sources]
    times = [place.stat().st_mtime_ns for place in places if place.is_file()]
    key = config_path, *places, *times
    if key not in _read:
        result = read_anew(repository, config_path)
        if not times and (result is None or result.provider != "hydra"):  # of a plugin, which may yet come
            return result
        _read[key] = pickle.dumps(result)
    return pickle.loads(_read[key])
