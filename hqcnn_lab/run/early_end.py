"""What a run says that ends before it is done."""

import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.config.key import key_of
from hqcnn_lab.config.override import as_override
from hqcnn_lab.distributed import is_follower
from hqcnn_lab.error import ConfigError, first_line, with_class


def how_to_go_on(config: DictConfig) -> str:
    """The command that continues an interrupted run."""
    folder = Path(config.paths.output_dir).absolute()
    ours = ("resume", "ckpt_path", "hydra.run.dir", "paths.output_dir")
    words = [shlex.quote(word) for word in sys.argv[1:] if key_of(word) not in ours]
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if config.ckpt_path is not None and not checkpoint.exists():
        return f"the same command goes on from {config.ckpt_path} again"
    if not checkpoint.exists():
        return "before there was a checkpoint: the same command starts anew"
    if folder.parent == Path(config.paths.runs_dir).absolute():
        words.append("resume=auto")
    else:
        words.append(shlex.quote(as_override("ckpt_path", str(checkpoint))))
    return f"to go on: python -m hqcnn_lab.train {' '.join(words)}"


def why_it_ended(error: Exception, folder: Path) -> str | None:
    """The one line for an error; None where it is a fault of the lab and its traceback would be lost."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from hqcnn_lab.build import BuildError
    from hqcnn_lab.data.datamodule import UnusableData
    from hqcnn_lab.data.decode.cache import CacheError
    from hqcnn_lab.models.classifier import TrainingDiverged

    plain = (BuildError, CacheError, ConfigError, UnusableData, MisconfigurationException, OSError, TrainingDiverged)
    if isinstance(error, plain):
        return first_line(error)
    if is_follower() or not (folder / "status.json").exists():
        return None
    return f"{with_class(error)}; where it arose is in {folder}/status.json"
