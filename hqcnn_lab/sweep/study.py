"""A study's two stages: tune each arm's learning rate on seeds kept for that, then run each at its own."""

from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.config.check import slow_precision
from hqcnn_lab.record.state import KEPT, clean_up, state_of
from hqcnn_lab.sweep.declaration import Cell, Run, is_tuned, label_of, make_cells
from hqcnn_lab.sweep.rate_choice import Choice
from hqcnn_lab.sweep.study_files import write_study
from hqcnn_lab.sweep.study_tables import problem_of
from hqcnn_lab.sweep.study_training import train_runs, workers_of
from hqcnn_lab.sweep.tuning import beyond_the_edge, choose_rates, first_grid


class StudyError(RuntimeError):
    """The comparison came to no whole result; the message is one line."""


def run_study(config: DictConfig) -> None:
    """Run what is not done yet, and write the tables, however it ends; with `config.plan`, say what there is to run.

    Raises `StudyError` where a run came to no result: called again, it tries those again.
    """
    declared, runs_dir = config.study, Path(config.paths.sweeps_dir).expanduser().resolve() / "runs"
    print(f"{declared.name} on {config.scale.name}: {declared.question}", flush=True)  # composing takes seconds
    cells = make_cells(config)
    tuning = first_grid(cells, declared, runs_dir)
    n_final = len(cells) * len(declared.seeds) * (1 if tuning else len(declared.lr_factors))
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
        while beyond := beyond_the_edge(cells, tuning, declared, runs_dir):
            for place, factor in dict.fromkeys((run.place, run.factor) for run in beyond):
                print(f"{label_of(place)}: its best is at the edge, trying ×{factor:g} too", flush=True)
            n_before, tuning = len(tuning), [*tuning, *beyond]
            runs = list(tuning)
            train_runs(beyond, config, n_before, n_total=len(tuning) + n_final)
        choices, problems = choose_rates(cells, tuning, declared)
        for choice in choices:
            edge = f", the {choice.edge} of the grid: the best may lie beyond" if choice.edge else ""
            rate = f"lr {choice.lr:g} (×{choice.factor:g})"
            print(f"chosen for {label_of(choice.place)}: {rate}{edge}", flush=True)
        final = _final(config, cells, choices, runs_dir)
        runs += final
        if tuning and any(state_of(run.job.folder) not in KEPT for run in final):
            write_study(config, tuning, choices, runs_dir)  # the second stage may take days
        train_runs(final, config, n_before=len(tuning), n_total=len(runs))
    finally:
        write_study(config, runs, choices, runs_dir)
    problems += filter(None, map(problem_of, final))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StudyError(f"not whole: {problems[0]}{more}; the same command tries again what failed")


def _print_plan(config: DictConfig, cells: list[Cell], tuning: list[Run], n_final: int, runs_dir: Path) -> None:
    """How many runs each stage has and how many are done; of the second, once its learning rates are known."""
    declared, n_seeds, n_rates = config.study, len(config.study.seeds), len(config.study.lr_factors)
    print(f"{len(declared.arms)} arms × {len(declared.conditions)} conditions, {workers_of(config)} runs at a time")
    if declared.epochs:
        print(f"read after {', '.join(map(str, declared.epochs))} epochs{_how_read(cells)}")
    n_tuned = _n_done(tuning)
    if tuning:
        grid = f"{n_rates} learning rates × {len(declared.tune_seeds)} seeds each"
        print(f"tuning: {grid}, {len(tuning)} runs, {n_tuned} done")
    is_whole = n_tuned == len(tuning)
    if declared.extend:
        extra: list[Run] = []
        while is_whole and (beyond := beyond_the_edge(cells, [*tuning, *extra], declared, runs_dir)):
            extra += beyond
            is_whole = _n_done(beyond) == len(beyond)
        most = f"at most {declared.extend} more each, {len(cells) * declared.extend * len(declared.tune_seeds)} runs"
        print(f"beyond an edge: {most}; wanted so far {len(extra)}, {_n_done(extra)} done")
        tuning = [*tuning, *extra]
    n_done = 0
    if is_whole:
        final = _final(config, cells, choose_rates(cells, tuning, declared)[0], runs_dir)
        n_done = _n_done(final)
    rates = "" if tuning else f"{n_rates} learning rates × "
    print(f"result: {rates}{n_seeds} seeds each, {n_final} runs, {n_done} done", flush=True)


def _n_done(runs: list[Run]) -> int:
    return sum(state_of(run.job.folder) in KEPT for run in runs)


def _how_read(cells: list[Cell]) -> str:
    """Which arms are read along one run, and which have a run of each length; those of one condition name it."""
    text = ""
    for along, how in ((True, "along one run"), (False, "by a run of each length")):
        conditions: dict[str, list[str]] = {}
        for cell in cells:
            if bool(cell.read_at) is along and cell.condition not in conditions.setdefault(cell.arm, []):
                conditions[cell.arm].append(cell.condition)
        n = len({cell.condition for cell in cells})
        arms = [
            arm if len(of_arm) == n else f"{arm} ({', '.join(of_arm)})" for arm, of_arm in conditions.items() if of_arm
        ]
        text += f"; {how}: {', '.join(arms)}" if arms else ""
    return text


def _final(config: DictConfig, cells: list[Cell], choices: list[Choice], runs_dir: Path) -> list[Run]:
    """Every cell that has a choice, with fresh seeds; where nothing is chosen, every cell at every factor."""
    declared = config.study
    chosen = {choice.place: [choice.factor] for choice in choices}
    if not is_tuned(declared):
        chosen = {cell.place: list(declared.lr_factors) for cell in cells}
    return [
        cell.run("final", factor, seed, runs_dir)
        for cell in cells
        for factor in chosen.get(cell.place, [])
        for seed in declared.seeds
    ]
