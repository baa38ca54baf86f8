"""Run a declared comparison of optimizers or circuits and tabulate it: `python -m hqcnn_lab.study --help`."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check_values, slow_precision
from hqcnn_lab.config.command import read_overrides
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.free_text import check_folder
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import KEPT, state_of, sweep_up
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.sweep.declaration import (
    Cell,
    Choice,
    Row,
    Run,
    check_sweep,
    choice_of,
    choose,
    commits,
    csv_text,
    is_tuned,
    make_cells,
    markdown_table,
    row_of,
)
from hqcnn_lab.sweep.jobs import Ended, name_of_signal, run_jobs

DESCRIPTION = """\
Run a declared comparison: every arm under every condition. First each tries the same number of learning rates, on seeds
kept for that, and gets the one that is best on validation; then each runs at its own with fresh seeds. The test score
plays no part in the choice.

  python -m hqcnn_lab.study sweep=optimizers plan=true                 how many runs that is, and how many are done
  python -m hqcnn_lab.study sweep=optimizers                           on the phantom, in minutes
  python -m hqcnn_lab.study sweep=noise scale=kaggle scale.root=brain  on real images
  python -m hqcnn_lab.study sweep=depth ~sweep.arms.sgd '+sweep.arms.mine=["optim=adam","optim.betas=[0.8,0.99]"]'
  python -m hqcnn_lab.study sweep=depth 'overrides=["trainer.max_epochs=20"]' out=multirun/depth_long

An interrupted study goes on with the same command; runs are shared with every other study and none is done twice.

"""


class StudyError(RuntimeError):
    """The comparison came to no whole result; the message is one line."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    there_is = "\n".join([*_questions(), "", "Scales (scale=…): " + ", ".join(_choices("scale"))])
    overrides = read_overrides("hqcnn_lab.study", "study", DESCRIPTION + there_is, argv)
    try:
        check_command_line(overrides, multirun=False, name="study", check=lambda c: check_values(c) or check_sweep(c))
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as a Ctrl-C does
        config = compose(overrides, "study")
        for key, folder in (("out", config.out), ("paths.sweeps_dir", config.paths.sweeps_dir)):
            check_folder(key, str(Path(folder).expanduser()))
        _study(config)
    except KeyboardInterrupt:
        sys.exit("error: interrupted; the same command goes on where this one stopped")
    except (ConfigError, OSError, StudyError) as error:
        sys.exit(f"error: {first_line(error)}")


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def _questions() -> list[str]:
    sweeps = {name: OmegaConf.load(CONFIG_DIR / "sweep" / f"{name}.yaml") for name in _choices("sweep")}
    return ["Sweeps (sweep=…):", *(f"  {name:<14} {sweep.question}" for name, sweep in sweeps.items())]


def _study(config: DictConfig) -> None:
    sweep, runs_dir = config.sweep, Path(config.paths.sweeps_dir).expanduser().resolve() / "runs"
    print(f"{sweep.name} on {config.scale.name}: {sweep.question}", flush=True)  # composing takes seconds
    cells, factors = make_cells(config), list(sweep.lr_factors)
    tuning = [cell.run("tune", *at, runs_dir) for cell in cells for at in product(factors, sweep.tune_seeds)]
    tuning = tuning if is_tuned(sweep) else []
    n_final = len(cells) * len(sweep.seeds) * (1 if tuning else len(factors))
    _print_plan(config, cells, tuning, n_final, runs_dir)
    if slow := next(filter(None, (slow_precision(cell.config) for cell in cells)), None):
        here = slow.replace("trainer.precision=32-true", """'overrides=["trainer.precision=32-true"]'""")
        print(f"warning: {here}", flush=True)
    if config.plan:
        return
    sweep_up(runs_dir)
    runs, choices = list(tuning), []
    try:
        _train(tuning, config, n_before=0, n_total=len(tuning) + n_final)
        choices, problems = _choose(cells, tuning, factors)
        for choice in choices:
            edge = f", the {choice.edge} of the grid: the best may lie beyond" if choice.edge else ""
            at = f"lr {choice.lr:g} (×{choice.factor:g})"
            print(f"chosen for {choice.arm} {choice.condition}: {at}{edge}", flush=True)
        final = _final(config, cells, choices, runs_dir)
        runs += final
        if tuning and any(state_of(run.job.folder) not in KEPT for run in final):
            _write(config, tuning, choices, runs_dir)  # the second stage may take days
        _train(final, config, n_before=len(tuning), n_total=len(runs))
    finally:
        _write(config, runs, choices, runs_dir)
    problems += filter(None, map(_problem, final))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StudyError(f"not whole: {problems[0]}{more}; the same command tries again what failed")


def _final(config: DictConfig, cells: list[Cell], choices: list[Choice], runs_dir: Path) -> list[Run]:
    """Every cell that has a choice, with fresh seeds; where nothing is chosen, every cell at every factor."""
    sweep = config.sweep
    chosen = {(choice.condition, choice.arm): [choice.factor] for choice in choices}
    if not is_tuned(sweep):
        chosen = {(cell.condition, cell.arm): list(sweep.lr_factors) for cell in cells}
    return [
        cell.run("final", factor, seed, runs_dir)
        for cell in cells
        for factor in chosen.get((cell.condition, cell.arm), [])
        for seed in sweep.seeds
    ]


def _print_plan(config: DictConfig, cells: list[Cell], tuning: list[Run], n_final: int, runs_dir: Path) -> None:
    """How many runs each stage has and how many are done; of the second, once its learning rates are known."""
    sweep, n_seeds, n_rates = config.sweep, len(config.sweep.seeds), len(config.sweep.lr_factors)
    print(f"{len(sweep.arms)} arms × {len(sweep.conditions)} conditions, {_workers(config)} runs at a time")
    n_tuned = sum(state_of(run.job.folder) in KEPT for run in tuning)
    if tuning:
        print(
            f"tuning: {n_rates} learning rates × {len(sweep.tune_seeds)} seeds each, {len(tuning)} runs, {n_tuned} done"
        )
    n_done = 0
    if n_tuned == len(tuning):
        final = _final(config, cells, _choose(cells, tuning, list(sweep.lr_factors))[0], runs_dir)
        n_done = sum(state_of(run.job.folder) in KEPT for run in final)
    rates = "" if tuning else f"{n_rates} learning rates × "
    print(f"result: {rates}{n_seeds} seeds each, {n_final} runs, {n_done} done", flush=True)


def _workers(config: DictConfig) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return config.workers or max(cores // config.threads, 1)


def _train(runs: list[Run], config: DictConfig, n_before: int, n_total: int) -> None:
    """Train what is not done yet; a bar on a terminal, otherwise a line for each run that ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    wanted: dict[Path, Run] = {}  # two runs of the same folder are one job
    for run in runs:
        if state_of(run.job.folder) not in KEPT:
            wanted.setdefault(run.job.folder, run)
    done, workers, console = n_before + len(runs) - len(wanted), _workers(config), Console()
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    seconds = 0.0
    with (
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar,
        closing(run_jobs([run.job for run in wanted.values()], workers, config.threads)) as ended,
    ):
        task = bar.add_task("", total=n_total, completed=done)
        for n, end in enumerate(ended, 1):
            bar.advance(task)
            seconds += end.seconds
            left = f", {seconds / n * (len(wanted) - n) / workers / 60:.0f} min left" if n >= 2 * workers else ""
            said = _outcome(end)
            if not console.is_terminal:
                print(f"{done + n}/{n_total} {_label(wanted[end.job.folder])}: {said}{left}", flush=True)
            elif not said.startswith("val"):
                bar.print(f"{_label(wanted[end.job.folder])}: {said}", highlight=False)


def _problem(run: Run) -> str | None:
    """Why a run is no result, in words; None where it is one."""
    status = row_of(run)["status"]
    if status in KEPT:
        return None
    if status != "unreadable":
        return f"{_label(run)} {status}"
    read = RunFolder(run.job.folder)
    why = "lacks val/accuracy or test/accuracy" if read.summary else "is not there"
    why = read.problems.get("summary.json", why)
    return f"{_label(run)}: {run.job.folder}/summary.json {why} (move the folder away, and it runs again)"


def _label(run: Run) -> str:
    return f"{run.arm} {run.condition} lr×{run.factor:g} seed {run.seed}"


def _outcome(end: Ended) -> str:
    state = state_of(end.job.folder)
    if state == "finished":
        accuracy = RunFolder(end.job.folder).summary.get("val/accuracy")
        return f"val {100 * accuracy:.1f} % {end.seconds:.0f} s" if accuracy is not None else "val not known"
    if state == "diverged":
        return f"diverged {end.seconds:.0f} s"
    if end.exit_code < 0:
        return f"killed by {name_of_signal(-end.exit_code)}"
    return f"{state}, see {end.job.folder / 'output.log'}"


def _choose(cells: list[Cell], tuning: list[Run], factors: list[float]) -> tuple[list[Choice], list[str]]:
    """A choice for each cell whose grid is whole, and why the others have none."""
    choices, problems = [], []
    for cell in cells if tuning else []:
        here = [run for run in tuning if (run.condition, run.arm) == (cell.condition, cell.arm)]
        rows = [row_of(run) for run in here]
        lost = next(filter(None, map(_problem, here)), None)
        best = choose(rows)
        if lost:
            problems.append(f"{lost}, so {cell.arm} is not tuned")
        elif best is None:
            problems.append(f"{cell.arm} {cell.condition}: diverged at every learning rate; lower sweep.lr_factors")
        else:
            choices.append(choice_of(best, factors))
    return choices, problems


def _write(config: DictConfig, runs: list[Run], choices: list[Choice], runs_dir: Path) -> None:
    """Everything that is known by now; each file is whole or as it was before."""
    out = Path(config.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for run in runs if (row := row_of(run))["status"] != "absent"]
    declared: dict[str, Any] = {key: config[key] for key in ("sweep", "scale", "overrides", "threads")}
    edges = [f"{c.arm} under {c.condition} ({c.edge})" for c in choices if c.edge]
    table = [f"# {config.sweep.name} on {config.scale.name}", config.sweep.question]
    table += [markdown_table(rows, config.scale.level)]
    table += [f"Chosen at the edge of the grid: {', '.join(edges)}."] if edges else []
    table += [f"Code: {', '.join(commits(run.job.folder for run in runs)) or 'unknown'}."]
    files = {
        "study.yaml": OmegaConf.to_yaml(OmegaConf.create(declared), resolve=False),
        "runs.csv": csv_text(rows),
        "chosen.csv": csv_text([choice._asdict() for choice in choices], Choice._fields),
        "table.md": "\n\n".join(part.strip() for part in table) + "\n",
    }
    for name, text in files.items():
        with whole_file(out / name) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    try:
        _write_analysis(config, rows, runs_dir, out)
    except Exception as error:  # a study is not lost for want of a picture
        print(f"statistics and figures: not all of them written ({first_line(error)})", flush=True)
    print(f"written to {out}", flush=True)


def _write_analysis(config: DictConfig, rows: list[Row], runs_dir: Path, out: Path) -> None:
    from hqcnn_lab.analysis.comparison import study_statistics
    from hqcnn_lab.figures.study import study_figures

    level = config.scale.level
    text = study_statistics(rows, runs_dir, level, reference=next(iter(config.sweep.arms)))
    with whole_file(out / "statistics.md") as scratch:
        scratch.write_text(text, encoding="utf-8")
    (out / "figures").mkdir(exist_ok=True)
    for name, figure in study_figures(rows, runs_dir, level).items():
        with whole_file(out / "figures" / f"{name}.png") as scratch:
            figure.savefig(scratch, format="png", dpi=120)


if __name__ == "__main__":
    main()
