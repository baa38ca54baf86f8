"""A study's first stage: which learning rates are tried, and which of them each arm gets."""

from collections.abc import Sequence
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


def beyond_the_edge(cells: list[Cell], tuning: list[Run], declared: DictConfig, runs_dir: Path) -> list[Run]:
    """One more factor for each cell whose best is at the edge of what was tried; none after `study.extend`.

    Ask again when these are done: the best may be the new edge. A cell with a run that is not done, or was lost, is
    passed over. What comes out depends on the results alone, so that a study goes on where it stopped.
    """
    more = []
    for choice in choose_rates(cells, tuning, declared)[0] if declared.extend else []:
        cell = next(cell for cell in cells if cell.place == choice.place)
        tried = sorted({run.factor for run in _of(cell, tuning)})
        if choice.edge and len(tried) < len(declared.lr_factors) + declared.extend:
            factor = next_factor(tried if choice.edge == "highest" else tried[::-1])
            more += [cell.run("tune", factor, seed, runs_dir) for seed in declared.tune_seeds]
    return more


def next_factor(grid: Sequence[float]) -> float:
    """What follows the last of two or more factors: spaced as they are, 1, 3, 10 by 30, and 1, 2, 4 by 8."""
    step = grid[-2] / grid[-3] if len(grid) > 2 else grid[-1] / grid[-2]
    return float(f"{grid[-1] * step:.6g}")


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
