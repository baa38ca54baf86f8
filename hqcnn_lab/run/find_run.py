"""What `run=…` names: a run folder, a checkpoint file, or `latest`, the newest run that has finished."""

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.run_folder import RunFolder

if TYPE_CHECKING:
    from hqcnn_lab.models.trained import TrainedModel

LATEST = "latest"
# Keys that a command does not use if it only needs to know where runs are.
UNUSED = ("paths.cache_dir", "paths.output_dir", "paths.sweeps_dir")
_OF_A_RUN = {"status.json", "config.yaml", "checkpoints"}  # any one makes a folder a run's


def find_run(config: DictConfig) -> Path:
    """The run folder or checkpoint file that `config.run` names.

    `latest` is the newest finished run below `config.paths.runs_dir`, `FOLDER/latest` that below another folder, such
    as a sweep's. Raises `ConfigError` where there is none, for a folder that holds runs and is none, and where
    `config.checkpoint` says another than the file.
    """
    if not config.run:
        raise ConfigError("run: not set; give a run folder or a checkpoint file, or run=latest for the newest run")
    path = Path(config.run).expanduser()
    if config.run == LATEST or (path.name == LATEST and not path.exists() and path.parent.is_dir()):
        top = Path(config.paths.runs_dir).expanduser() if config.run == LATEST else path.parent
        if (newest := newest_run(top)) is None:
            raise ConfigError(f"run={config.run}: no run in {top} has finished; give a run folder, or FOLDER/latest")
        return newest
    if path.is_dir() and not _OF_A_RUN & {file.name for file in path.iterdir()}:
        raise ConfigError(f"run={config.run}: is no run folder{_instead(path, config)}")
    if path.is_file() and config.checkpoint not in (None, path.stem):
        raise ConfigError(f"checkpoint={config.checkpoint}: run= names the file {path.name} itself; leave one out")
    return path


def _instead(path: Path, config: DictConfig) -> str:
    """What may have been meant by a folder that is no run's."""
    if path.resolve().name == "checkpoints":
        return ", it is inside of one; give the folder above it, or a file in it"
    if (newest := newest_run(path)) is None:
        return ", and holds none that has finished"
    is_default = path.resolve() == Path(config.paths.runs_dir).expanduser().resolve()
    return f"; run={LATEST if is_default else path / LATEST} is the newest in it, {newest.relative_to(path)}"


def newest_run(top: Path) -> Path | None:
    """The run below `top` that started last of those that have finished."""
    return max(_finished(top), default=(None, None))[1]


def _finished(top: Path) -> Iterator[tuple[datetime, Path]]:
    for path, folders, files in os.walk(top):
        if _OF_A_RUN & {*folders, *files}:
            folders.clear()  # folders inside a run are no runs
            status = RunFolder(path).status
            if status.status == "finished" and status.started is not None:
                yield status.started, Path(path)


def load(config: DictConfig) -> "TrainedModel":
    """The network that `config.run` and `config.checkpoint` name; says which, where that is the newest run's.

    Raises `ConfigError`, one line, where no network can be taken from it.
    """
    from hqcnn_lab.models.trained import UnusableRun, load_run

    path = find_run(config)
    if Path(config.run).name == LATEST:
        print(f"run={config.run}: {path}", file=sys.stderr, flush=True)
    try:
        return load_run(path, config.checkpoint or "last")
    except UnusableRun as error:
        raise ConfigError(f"run={config.run}: {error}") from None
