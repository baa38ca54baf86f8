"""What a study declares: which arms, conditions, learning rates and seeds, and the runs that these come to."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.analysis.measure import MEASURES
from hqcnn_lab.analysis.study import epochs_text
from hqcnn_lab.config.check import check, check_workers
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.key import key_of
from hqcnn_lab.config.limits import MOST_EPOCHS
from hqcnn_lab.config.run_name import check_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.limit import is_whole
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.run_folder import is_number
from hqcnn_lab.sweep.jobs import Job

_OURS = ("seed", "name", "ckpt_path", "resume")  # what the study sets itself

_OURS_BY_LENGTH = ("trainer.max_epochs", "test_after")  # where it declares lengths

MOST_EXTRA = 10  # learning rates beyond an edge, five decades

Place = tuple[str, str, int | None]
"""Condition, arm, and the length where the study declares some."""


def label_of(place: Place) -> str:
    """What a line on a terminal calls a cell."""
    condition, arm, epochs = place
    return f"{arm} {condition}" if epochs is None else f"{arm} {condition} {epochs_text(epochs)}"


class Run(NamedTuple):
    """A cell's run in one stage (`tune` or `final`); two runs may share a job."""

    condition: str
    arm: str
    stage: str
    factor: float
    lr: float
    seed: int
    job: Job
    epochs: int | None = None  # the length that it stands for, where the study declares some
    read_at: tuple[int, ...] = ()  # the shorter ones that it is read at on the way

    @property
    def place(self) -> Place:
        """Which cell's it is."""
        return self.condition, self.arm, self.epochs

    @property
    def label(self) -> str:
        """What a line on a terminal calls it."""
        return f"{label_of(self.place)} lr×{self.factor:g} seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """One arm under one condition: the overrides of its runs, and what they compose to.

    Where the study declares `epochs`, an arm with a schedule has a cell for each length, and one that is read along one
    run has that of the longest, with the shorter ones in `read_at`.
    """

    condition: str
    arm: str
    overrides: tuple[str, ...]
    config: DictConfig
    epochs: int | None = None
    read_at: tuple[int, ...] = ()

    @property
    def place(self) -> Place:
        """What tells it from the study's other cells."""
        return self.condition, self.arm, self.epochs

    def run(self, stage: str, factor: float, seed: int, runs_dir: Path) -> Run:
        """The run at `factor` times the arm's own learning rate, or rates. Its folder is named by what it computes."""
        config, ours = self.config.copy(), [f"seed={seed}"]
        config.seed = seed
        read_at = self.read_at if stage == "final" else ()
        if read_at:
            config.test_after = list(read_at)
            ours.append(f"test_after={list(read_at)}".replace(" ", ""))
        for key in ("lr", "quantum_lr"):
            if config.optim.get(key) is not None:
                config.optim[key] = float(f"{config.optim[key] * factor:.6g}")
                ours.append(f"optim.{key}={config.optim[key]}")
        data = config.dataset._target_.rpartition(".")[2].removesuffix("DataModule")
        optim = config.optim._target_.rpartition(".")[2]
        name = f"{data}_{optim}_lr{config.optim.lr:g}_s{seed}_{digest(config)}".lower()
        job = Job(runs_dir / name, (*self.overrides, *ours))
        return Run(self.condition, self.arm, stage, factor, config.optim.lr, seed, job, self.epochs, read_at)


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
    _check_lengths(config)
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
    if not is_whole(declared.extend) or not 0 <= declared.extend <= MOST_EXTRA:
        raise ConfigError(f"study.extend={declared.extend}: must be a whole number from 0 to {MOST_EXTRA}")
    if declared.extend and not is_tuned(declared):
        raise ConfigError(f"study.extend={declared.extend}: no learning rate is chosen that could be at an edge; use 0")
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


def _check_lengths(config: DictConfig) -> None:
    declared = config.study
    epochs = list(declared.epochs)
    if not all(is_whole(n) and n >= 1 for n in epochs) or epochs != sorted(set(epochs)) or len(epochs) > MOST_EPOCHS:
        raise ConfigError(
            f"study.epochs={epochs}: must be whole numbers from 1 on, increasing, at most {MOST_EPOCHS} of them"
        )
    for arm in declared.along or ():
        if arm not in declared.arms:
            raise ConfigError(f"study.along: {arm} is none of study.arms: {', '.join(declared.arms)}")
    if not epochs:
        return
    groups = {"study.overrides": declared.overrides, "overrides": config.overrides}
    groups |= {
        f"study.{kind}.{name}": lines for kind in ("arms", "conditions") for name, lines in declared[kind].items()
    }
    for key, lines in groups.items():
        if line := next((line for line in lines if key_of(line) in _OURS_BY_LENGTH), None):
            raise ConfigError(f"{key}: {line} is not to be declared; study.epochs={epochs} sets {key_of(line)}")


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
    pairs = product(config.study.conditions, config.study.arms)
    return [cell for condition, arm in pairs for cell in _cells_of(config, condition, arm)]


def _cells_of(config: DictConfig, condition: str, arm: str) -> Iterator[Cell]:
    declared, lengths = config.study, list(config.study.epochs)
    lines = overrides_of(config, condition, arm)
    if not lengths:
        yield Cell(condition, arm, lines, _composed(config, condition, arm, lines))
        return
    by_length = {n: (*lines, f"trainer.max_epochs={n}") for n in lengths}
    longest = _composed(config, condition, arm, by_length[lengths[-1]])
    has_schedule = (longest.scheduler or {}).get("_target_") is not None
    if arm in declared.along if declared.along is not None else not has_schedule:
        yield Cell(condition, arm, by_length[lengths[-1]], longest, lengths[-1], tuple(lengths[:-1]))
        return
    for n, of_length in by_length.items():
        yield Cell(condition, arm, of_length, _composed(config, condition, arm, of_length), n)


def _composed(config: DictConfig, condition: str, arm: str, lines: tuple[str, ...]) -> DictConfig:
    composed = []

    def look(single: DictConfig) -> None:
        check(single, in_sweep=True)
        composed.append(single)

    try:
        check_command_line(list(lines), multirun=False, check=look)
        if composed[0].optim.get("lr") is None:
            raise ConfigError("optim has no lr for study.lr_factors to multiply")
        if config.study.epochs:
            _check_goes_to_its_end(composed[0])
    except ConfigError as error:
        raise ConfigError(f"study={config.study.name}, arm {arm}, condition {condition}: {error}") from None
    return composed[0]


def _check_goes_to_its_end(config: DictConfig) -> None:
    """A reading is of an epoch that was trained, and of its last weights."""
    if config.test_checkpoint != "last":
        raise ConfigError(
            f"test_checkpoint={config.test_checkpoint}: study.epochs reads the last weights; leave it out"
        )
    early = {f"trainer.{key}": config.trainer.get(key) for key in ("max_steps", "max_time")}
    early["callbacks.early_stopping"] = config.callbacks.get("early_stopping")
    for key, value in early.items():
        if value not in (None, -1):
            raise ConfigError(f"{key}: may end a run before a length of study.epochs; leave it out")


def overrides_of(config: DictConfig, condition: str, arm: str) -> tuple[str, ...]:
    """What makes a run of `hqcnn_lab.train` one of this arm under this condition; later ones win."""
    declared = config.study
    own = (*declared.overrides, *declared.conditions[condition], *declared.arms[arm])
    cache = f"paths.cache_dir={_quoted(config.paths.cache_dir)}"
    return ("logger=none", *config.scale.overrides, *own, *config.overrides, cache)


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", r"\'") + "'"
