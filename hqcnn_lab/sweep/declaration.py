"""What a study declares: which arms, conditions, learning rates and seeds, and the runs that these come to."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.analysis.measure import MEASURES
from hqcnn_lab.config.check import check, check_workers
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.key import key_of
from hqcnn_lab.config.run_name import check_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.run_folder import is_number
from hqcnn_lab.sweep.jobs import Job

_OURS = ("seed", "name", "ckpt_path", "resume")  # what the study sets itself


class Run(NamedTuple):
    """A cell's run in one stage (`tune` or `final`); two runs may share a job."""

    condition: str
    arm: str
    stage: str
    factor: float
    lr: float
    seed: int
    job: Job

    @property
    def label(self) -> str:
        """What a line on a terminal calls it."""
        return f"{self.arm} {self.condition} lr×{self.factor:g} seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """One arm under one condition: the overrides of its runs, and what they compose to."""

    condition: str
    arm: str
    overrides: tuple[str, ...]
    config: DictConfig

    def run(self, stage: str, factor: float, seed: int, runs_dir: Path) -> Run:
        """The run at `factor` times the arm's own learning rate, or rates. Its folder is named by what it computes."""
        config, ours = self.config.copy(), [f"seed={seed}"]
        config.seed = seed
        for key in ("lr", "quantum_lr"):
            if config.optim.get(key) is not None:
                config.optim[key] = float(f"{config.optim[key] * factor:.6g}")
                ours.append(f"optim.{key}={config.optim[key]}")
        data = config.dataset._target_.rpartition(".")[2].removesuffix("DataModule")
        optim = config.optim._target_.rpartition(".")[2]
        name = f"{data}_{optim}_lr{config.optim.lr:g}_s{seed}_{digest(config)}".lower()
        job = Job(runs_dir / name, (*self.overrides, *ours))
        return Run(self.condition, self.arm, stage, factor, config.optim.lr, seed, job)


def check_study(config: DictConfig) -> None:
    """Raise `ConfigError` for a comparison that is not fair or not possible, before its runs are looked at."""
    declared, scale = config.study, config.scale
    check_name("study.name", declared.name)
    check_name("scale.name", scale.name)
    for key in ("study.arms", "study.conditions"):
        named = OmegaConf.select(config, key)
        if not OmegaConf.is_dict(named):
            raise ConfigError(f"{key}={named}: must be names, each with a list of overrides")
        for name, overrides in named.items():
            if not re.fullmatch(r"\w+", str(name)):
                raise ConfigError(f"{key}: {name} must be a name of letters, digits and _")
            _check_overrides(f"{key}.{name}", overrides)
        if not named:
            raise ConfigError(f"{key}: needs at least one")
    for key in ("study.overrides", "scale.overrides", "overrides"):
        _check_overrides(key, OmegaConf.select(config, key))
    factors = list(declared.lr_factors)
    if not factors or not all(is_number(f) and f > 0 for f in factors) or len(set(factors)) < len(factors):
        raise ConfigError(f"study.lr_factors={factors}: must be positive numbers, each once")
    for key in ("tune_seeds", "seeds"):
        seeds = list(declared[key])
        if not all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds) or len(set(seeds)) < len(seeds):
            raise ConfigError(f"study.{key}={seeds}: must be whole numbers from 0 on, each once")
    if not declared.seeds:
        raise ConfigError("study.seeds=[]: needs at least one")
    if declared.final not in ("chosen", "all"):
        raise ConfigError(f"study.final={declared.final}: must be chosen or all")
    if declared.score not in MEASURES:
        raise ConfigError(f"study.score={declared.score}: must be one of {', '.join(MEASURES)}")
    if shared := set(declared.tune_seeds) & set(declared.seeds):
        raise ConfigError(f"study.seeds: {min(shared)} is among study.tune_seeds; results take fresh seeds")
    if is_tuned(declared) and not declared.tune_seeds:
        raise ConfigError("study.tune_seeds=[]: needs at least one, or study.lr_factors=[1]")
    if "root" in scale and scale.root is None:
        raise ConfigError("scale.root=null: not set; give the folder of the data (scale.root=…)")
    for key in ("workers", "threads"):
        if config[key] is not None and config[key] < 1:
            raise ConfigError(f"{key}={config[key]}: must be at least 1")
        check_workers(key, config[key])


def _check_overrides(key: str, overrides: Any) -> None:
    if not OmegaConf.is_list(overrides) or not all(isinstance(line, str) for line in overrides):
        raise ConfigError(f"{key}={overrides}: must be a list of overrides of hqcnn_lab.train")
    for line in overrides:
        name = key_of(line)
        if name in _OURS or name.partition(".")[0] in ("paths", "hydra"):
            raise ConfigError(f"{key}: {line} is not to be declared; the study sets {name} itself")


def is_tuned(declared: DictConfig) -> bool:
    """Whether there is a learning rate to choose."""
    return declared.final == "chosen" and len(declared.lr_factors) > 1


def make_cells(config: DictConfig) -> list[Cell]:
    """Compose every arm under every condition, and check it as `hqcnn_lab.train` would; `ConfigError` names which."""
    cells = []
    for condition, arm in product(config.study.conditions, config.study.arms):
        lines, composed = overrides_of(config, condition, arm), []

        def look(single: DictConfig, kept: list[DictConfig] = composed) -> None:
            check(single, in_sweep=True)
            kept.append(single)

        try:
            check_command_line(list(lines), multirun=False, check=look)
            if composed[0].optim.get("lr") is None:
                raise ConfigError("optim has no lr for study.lr_factors to multiply")
        except ConfigError as error:
            raise ConfigError(f"study={config.study.name}, arm {arm}, condition {condition}: {error}") from None
        cells.append(Cell(condition, arm, lines, composed[0]))
    return cells


def overrides_of(config: DictConfig, condition: str, arm: str) -> tuple[str, ...]:
    """What makes a run of `hqcnn_lab.train` one of this arm under this condition; later ones win."""
    declared = config.study
    own = (*declared.overrides, *declared.conditions[condition], *declared.arms[arm])
    cache = f"paths.cache_dir={_quoted(config.paths.cache_dir)}"
    return ("logger=none", *config.scale.overrides, *own, *config.overrides, cache)


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", r"\'") + "'"
