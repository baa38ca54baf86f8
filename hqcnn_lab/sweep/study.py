"""A study's two stages: tune each arm's learning rate on seeds kept for that, then run each at its own."""

from itertools import product
from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.analysis.measure import MEASURES
from hqcnn_lab.config.check import slow_precision
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import KEPT, clean_up, state_of
from hqcnn_lab.sweep.declaration import Cell, Run, is_tuned, make_cells
from hqcnn_lab.sweep.rate_choice import Choice, choice_of, choose
from hqcnn_lab.sweep.study_files import write_study
from hqcnn_lab.sweep.study_tables import row_of
from hqcnn_lab.sweep.study_training import train_runs, workers_of


class StudyError(RuntimeError):
    """The comparison came to no whole result; the message is one line."""


def run_study(config: DictConfig) -> None:
    """Run what is not done yet, and write the tables, however it ends; with `config.plan`, say what there is to run.

    Raises `StudyError` where a run came to no result: called again, it tries those again.
    """
    declared, runs_dir = config.study, Path(config.paths.sweeps_dir).expanduser().resolve() / "runs"
    print(f"{declared.name} on {config.scale.name}: {declared.question}", flush=True)  # composing takes seconds
    cells, factors = make_cells(config), list(declared.lr_factors)
    tuning = []
    if is_tuned(declared):
        grid = list(product(factors, declared.tune_seeds))
        tuning = [cell.run("tune", factor, seed, runs_dir) for cell in cells for factor, seed in grid]
    n_final = len(cells) * len(declared.seeds) * (1 if tuning else len(factors))
    _print_plan(config, cells, tuning, n_final, runs_dir)
    if slow := next(filter(None, (slow_precision(cell.config) for cell in cells)), None):
        as_override = slow.replace("trainer.precision=32-true", """'overrides=["trainer.precision=32-true"]'""")
        print(f"warning: {as_override}", flush=True)
    if config.plan:
        return
    clean_up(runs_dir)
    runs: list[Run] = list(tuning)
    final: list[Run] = []
    choices: list[Choice] = []
    try:
        train_runs(tuning, config, n_before=0, n_total=len(tuning) + n_final)
        choices, problems = _choose(cells, tuning, config)
        for choice in choices:
            edge = f", the {choice.edge} of the grid: the best may lie beyond" if choice.edge else ""
            rate = f"lr {choice.lr:g} (×{choice.factor:g})"
            print(f"chosen for {choice.arm} {choice.condition}: {rate}{edge}", flush=True)
        final = _final(config, cells, choices, runs_dir)
        runs += final
        if tuning and any(state_of(run.job.folder) not in KEPT for run in final):
            write_study(config, tuning, choices, runs_dir)  # the second stage may take days
        train_runs(final, config, n_before=len(tuning), n_total=len(runs))
    finally:
        write_study(config, runs, choices, runs_dir)
    problems += filter(None, map(_problem, final))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StudyError(f"not whole: {problems[0]}{more}; the same command tries again what failed")


def _print_plan(config: DictConfig, cells: list[Cell], tuning: list[Run], n_final: int, runs_dir: Path) -> None:
    """How many runs each stage has and how many are done; of the second, once its learning rates are known."""
    declared, n_seeds, n_rates = config.study, len(config.study.seeds), len(config.study.lr_factors)
    print(f"{len(declared.arms)} arms × {len(declared.conditions)} conditions, {workers_of(config)} runs at a time")
    n_tuned = sum(state_of(run.job.folder) in KEPT for run in tuning)
    if tuning:
        grid = f"{n_rates} learning rates × {len(declared.tune_seeds)} seeds each"
        print(f"tuning: {grid}, {len(tuning)} runs, {n_tuned} done")
    n_done = 0
    if n_tuned == len(tuning):
        final = _final(config, cells, _choose(cells, tuning, config)[0], runs_dir)
        n_done = sum(state_of(run.job.folder) in KEPT for run in final)
    rates = "" if tuning else f"{n_rates} learning rates × "
    print(f"result: {rates}{n_seeds} seeds each, {n_final} runs, {n_done} done", flush=True)


def _choose(cells: list[Cell], tuning: list[Run], config: DictConfig) -> tuple[list[Choice], list[str]]:
    """A choice for each cell whose grid is whole, and why the others have none."""
    choices, problems = [], []
    for cell in cells if tuning else []:
        runs = [run for run in tuning if (run.condition, run.arm) == (cell.condition, cell.arm)]
        lost = next(filter(None, map(_problem, runs)), None)
        best = choose((row_of(run) for run in runs), MEASURES[config.study.score])
        if lost:
            problems.append(f"{lost}, so {cell.arm} is not tuned")
        elif best is None:
            problems.append(f"{cell.arm} {cell.condition}: diverged at every learning rate; lower study.lr_factors")
        else:
            choices.append(choice_of(best, list(config.study.lr_factors)))
    return choices, problems


def _final(config: DictConfig, cells: list[Cell], choices: list[Choice], runs_dir: Path) -> list[Run]:
    """Every cell that has a choice, with fresh seeds; where nothing is chosen, every cell at every factor."""
    declared = config.study
    chosen = {(choice.condition, choice.arm): [choice.factor] for choice in choices}
    if not is_tuned(declared):
        chosen = {(cell.condition, cell.arm): list(declared.lr_factors) for cell in cells}
    return [
        cell.run("final", factor, seed, runs_dir)
        for cell in cells
        for factor in chosen.get((cell.condition, cell.arm), [])
        for seed in declared.seeds
    ]


def _problem(run: Run) -> str | None:
    """Why a run is no result, in words; None where it is one."""
    status = row_of(run)["status"]
    if status in KEPT:
        return None
    if status != "unreadable":
        return f"{run.label} {status}"
    read = RunFolder(run.job.folder)
    why = "lacks val/accuracy or test/accuracy" if read.summary else "is not there"
    why = read.problems.get("summary.json", why)
    return f"{run.label}: {run.job.folder}/summary.json {why} (move the folder away, and it runs again)"
