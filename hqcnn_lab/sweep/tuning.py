"""A study's first stage: which learning rates are tried, and which of them each arm gets."""

from itertools import product
from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.analysis.measure import MEASURES
from hqcnn_lab.sweep.declaration import Cell, Run, is_tuned, label_of
from hqcnn_lab.sweep.rate_choice import Choice, choice_of, choose
from hqcnn_lab.sweep.study_tables import problem_of, row_of


def first_grid(cells: list[Cell], declared: DictConfig, runs_dir: Path) -> list[Run]:
    """Every cell at every declared factor, on the tuning seeds; none where nothing is chosen."""
    if not is_tuned(declared):
        return []
    grid = list(product(declared.lr_factors, declared.tune_seeds))
    return [cell.run("tune", factor, seed, runs_dir) for cell in cells for factor, seed in grid]


def choose_rates(cells: list[Cell], tuning: list[Run], declared: DictConfig) -> tuple[list[Choice], list[str]]:
    """A choice for each cell whose grid is whole, and why the others have none."""
    choices, problems = [], []
    for cell in cells if tuning else []:
        runs = _of(cell, tuning)
        best = choose((row_of(run) for run in runs), MEASURES[declared.score])
        if lost := next(filter(None, map(problem_of, runs)), None):
            problems.append(f"{lost}, so {cell.arm} is not tuned")
        elif best is None:
            problems.append(f"{label_of(cell.place)}: diverged at every learning rate; lower study.lr_factors")
        else:
            choices.append(choice_of(best, [run.factor for run in runs], cell.epochs))
    return choices, problems


def _of(cell: Cell, runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.place == cell.place]
