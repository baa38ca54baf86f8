"""Training the runs of a study's stage, several at a time, and saying how far that is."""

from contextlib import closing
from pathlib import Path

from omegaconf import DictConfig

from hqcnn_lab.distributed import cores
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import KEPT, state_of
from hqcnn_lab.sweep.declaration import Run
from hqcnn_lab.sweep.jobs import Ended, name_of_signal, run_jobs


def workers_of(config: DictConfig) -> int:
    """How many runs at a time."""
    return config.workers or max(cores() // config.threads, 1)


def train_runs(runs: list[Run], config: DictConfig, n_before: int, n_total: int) -> None:
    """Train what is not done yet; a bar on a terminal, otherwise a line for each run that ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    wanted: dict[Path, Run] = {}  # two runs of the same folder are one job
    for run in runs:
        if state_of(run.job.folder) not in KEPT:
            wanted.setdefault(run.job.folder, run)
    done, workers, console = n_before + len(runs) - len(wanted), workers_of(config), Console()
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
            label, outcome = wanted[end.job.folder].label, _outcome(end)
            if not console.is_terminal:
                print(f"{done + n}/{n_total} {label}: {outcome}{left}", flush=True)
            elif not outcome.startswith("val"):
                bar.print(f"{label}: {outcome}", highlight=False)


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
