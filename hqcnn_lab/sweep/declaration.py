"""A declared comparison: the runs it takes, the learning rate that each arm gets, and the tables it comes to."""

import csv
import io
import math
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check, check_workers
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.free_text import check_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import state_of
from hqcnn_lab.sweep.jobs import Job

Row = dict[str, Any]
_OURS = ("seed", "name", "ckpt_path", "resume")  # what the study sets itself


@dataclass(frozen=True)
class Cell:
    """One arm under one condition: the overrides of its runs, and what they compose to."""

    condition: str
    arm: str
    overrides: tuple[str, ...]
    config: DictConfig

    def run(self, stage: str, factor: float, seed: int, runs_dir: Path) -> "Run":
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


class Run(NamedTuple):
    """A cell's run in one stage (`tune` or `final`); two runs may share a job."""

    condition: str
    arm: str
    stage: str
    factor: float
    lr: float
    seed: int
    job: Job


class Choice(NamedTuple):
    """The learning rate that an arm gets under a condition. `edge`: `lowest` or `highest` of the grid, or empty."""

    condition: str
    arm: str
    factor: float
    lr: float
    edge: str
    val_accuracy: float | None


def check_sweep(config: DictConfig) -> None:
    """Raise `ConfigError` for a comparison that is not fair or not possible, before its runs are looked at."""
    sweep, scale = config.sweep, config.scale
    check_name("sweep.name", sweep.name)
    check_name("scale.name", scale.name)
    for key in ("sweep.arms", "sweep.conditions"):
        named = OmegaConf.select(config, key)
        for name, overrides in named.items():
            if not re.fullmatch(r"\w+", str(name)):
                raise ConfigError(f"{key}: {name} must be a name of letters, digits and _")
            _check_overrides(f"{key}.{name}", overrides)
        if not named:
            raise ConfigError(f"{key}: needs at least one")
    for key in ("sweep.overrides", "scale.overrides", "overrides"):
        _check_overrides(key, OmegaConf.select(config, key))
    factors = list(sweep.lr_factors)
    if not factors or not all(_is_number(f) and 0 < f < math.inf for f in factors) or len(set(factors)) < len(factors):
        raise ConfigError(f"sweep.lr_factors={factors}: must be positive numbers, each once")
    for key in ("tune_seeds", "seeds"):
        seeds = list(sweep[key])
        if not all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds) or len(set(seeds)) < len(seeds):
            raise ConfigError(f"sweep.{key}={seeds}: must be whole numbers from 0 on, each once")
    if not sweep.seeds:
        raise ConfigError("sweep.seeds=[]: needs at least one")
    if sweep.final not in ("chosen", "all"):
        raise ConfigError(f"sweep.final={sweep.final}: must be chosen or all")
    if shared := set(sweep.tune_seeds) & set(sweep.seeds):
        raise ConfigError(f"sweep.seeds: {min(shared)} is among sweep.tune_seeds; results take fresh seeds")
    if is_tuned(sweep) and not sweep.tune_seeds:
        raise ConfigError("sweep.tune_seeds=[]: needs at least one, or sweep.lr_factors=[1]")
    if "root" in scale and scale.root is None:
        raise ConfigError("scale.root=null: not set; give the folder of the data (scale.root=…)")
    for key in ("workers", "threads"):
        if config[key] is not None and config[key] < 1:
            raise ConfigError(f"{key}={config[key]}: must be at least 1")
        check_workers(key, config[key])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_overrides(key: str, overrides: Any) -> None:
    if not OmegaConf.is_list(overrides) or not all(isinstance(line, str) for line in overrides):
        raise ConfigError(f"{key}={overrides}: must be a list of overrides of hqcnn_lab.train")
    for line in overrides:
        name = line.lstrip("+~").partition("=")[0]
        if name in _OURS or name.partition(".")[0] in ("paths", "hydra"):
            raise ConfigError(f"{key}: {line} is not for a sweep to say; the study sets {name} itself")


def is_tuned(sweep: DictConfig) -> bool:
    """Whether there is anything to choose."""
    return sweep.final == "chosen" and len(sweep.lr_factors) > 1


def make_cells(config: DictConfig) -> list[Cell]:
    """Compose every arm under every condition, and check it as `hqcnn_lab.train` would; `ConfigError` names which."""
    cells = []
    for condition, arm in product(config.sweep.conditions, config.sweep.arms):
        lines, composed = overrides_of(config, condition, arm), []

        def look(single: DictConfig, kept: list[DictConfig] = composed) -> None:
            check(single, in_sweep=True)
            kept.append(single)

        try:
            check_command_line(list(lines), multirun=False, check=look)
            if composed[0].optim.get("lr") is None:
                raise ConfigError("optim has no lr for sweep.lr_factors to multiply")
        except ConfigError as error:
            raise ConfigError(f"sweep={config.sweep.name}, arm {arm}, condition {condition}: {error}") from None
        cells.append(Cell(condition, arm, lines, composed[0]))
    return cells


def overrides_of(config: DictConfig, condition: str, arm: str) -> tuple[str, ...]:
    """What makes a run of `hqcnn_lab.train` one of this arm under this condition; later ones win."""
    scale, sweep, user = (part.overrides for part in (config.scale, config.sweep, config))
    cache = f"paths.cache_dir={_quoted(config.paths.cache_dir)}"
    return ("logger=none", *scale, *sweep, *config.sweep.conditions[condition], *config.sweep.arms[arm], *user, cache)


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", r"\'") + "'"


def row_of(run: Run) -> Row:
    """What is known of a run: its place in the comparison, its state, and the figures of its summary.

    `unreadable` is one that has finished, and whose summary does not say how well.
    """
    row = {"condition": run.condition, "arm": run.arm, "stage": run.stage, "factor": run.factor, "lr": run.lr}
    row |= {"seed": run.seed, "status": state_of(run.job.folder)}
    summary: Row = {}
    if row["status"] == "finished":
        summary = RunFolder(run.job.folder).summary
        if not all(_is_number(summary.get(name)) for name in ("val/accuracy", "test/accuracy")):
            row["status"] = "unreadable"
        elif summary.get("val/loss") is None:  # not a number, in the last epoch's validation alone
            row["status"] = "diverged"
    names = [
        "train/loss",
        "val/accuracy",
        "val/loss",
        "test/accuracy",
        *(n for n in summary if n.startswith("convergence/")),
    ]
    row |= {name: summary.get(name) for name in [*names, "seconds/training"]}
    return row | {"run": run.job.folder.name}


def choose(rows: Iterable[Row]) -> Row | None:
    """Of one cell's tuning rows, one of the best learning rate: highest mean `val/accuracy`; None: none finished.

    Ties go to the lower mean `val/loss`, then to the lower rate. A rate at which any run diverged or failed is out.
    Tests play no part.
    """
    grid: dict[float, list[Row]] = {}
    for row in rows:
        grid.setdefault(row["factor"], []).append(row)
    whole = [group for group in grid.values() if all(row["status"] == "finished" for row in group)]

    def merit(group: list[Row]) -> tuple[float, float, float]:
        # Rounded: a mean of the same accuracies in another order is a tie, too.
        return round(_mean(group, "val/accuracy"), 9), -round(_mean(group, "val/loss"), 9), -group[0]["factor"]

    best = max(whole, key=merit, default=None)
    return None if best is None else best[0] | {"val/accuracy": _mean(best, "val/accuracy")}


def choice_of(best: Row, factors: list[float]) -> Choice:
    """Say also whether the grid may have been too narrow for this arm."""
    factor = best["factor"]
    edge = "" if min(factors) < factor < max(factors) else "lowest" if factor == min(factors) else "highest"
    return Choice(best["condition"], best["arm"], factor, best["lr"], edge, best["val/accuracy"])


def _mean(rows: list[Row], name: str) -> float:
    return statistics.fmean(row[name] for row in rows)


def csv_text(rows: list[Row], columns: Iterable[str] = ()) -> str:
    """A table of `columns`, and of all that any row has, in the order they are first met; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys([*columns, *(name for row in rows for name in row)])), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(rows: list[Row], level: float) -> str:
    """The final stage: a line for each condition, arm and learning rate; mean ± standard deviation over seeds."""
    reach = f"convergence/epochs_to_{100 * level:g}"
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        if row["stage"] == "final":
            groups.setdefault((row["condition"], row["arm"], row["factor"]), []).append(row)
    head = ["condition", "arm", "lr", "seeds", "training loss", "validation %", "test %"]
    head += [f"epochs to {100 * level:g} %", "seconds"]
    lines = [head, ["---"] * len(head)]
    for (condition, arm, factor), group in groups.items():
        whole = [row for row in group if row["status"] == "finished"]
        lost = [f"{n} {state}" for state in ("diverged", "failed", "unreadable") if (n := _count(group, state))]
        reached = [row[reach] for row in whole if row.get(reach) is not None]
        timed = [row for row in whole if row.get("seconds/training") is not None]
        epochs = f"{statistics.median(reached):g} ({len(reached)} of {len(whole)})" if reached else "never"
        lines.append(
            [
                *(condition, arm, f"{group[0]['lr']:g} (×{factor:g})", ", ".join([str(len(whole)), *lost])),
                _spread(whole, "train/loss", scale=1, digits=3),
                *(_spread(whole, name) for name in ("val/accuracy", "test/accuracy")),
                epochs if whole else "–",
                f"{_mean(timed, 'seconds/training'):.1f}" if timed else "–",
            ]
        )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _count(rows: list[Row], state: str) -> int:
    return sum(row["status"] == state for row in rows)


def _spread(rows: list[Row], name: str, scale: float = 100, digits: int = 2) -> str:
    values = [scale * row[name] for row in rows if row.get(name) is not None]
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "–"
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def commits(folders: Iterable[Path]) -> Iterator[str]:
    """The versions of the code that the runs are of: more than one is worth knowing."""
    seen = set()
    for folder in folders:
        if environment := RunFolder(folder).environment:
            git = environment.get("git") or {}
            commit = git.get("commit")
            seen.add("unknown" if commit is None else commit[:12] + (" with changes" if git.get("changed") else ""))
    yield from sorted(seen)
