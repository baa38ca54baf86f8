"""A sweep (`-m`): each job in a process of its own, none done twice, whatever launcher calls them."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.compose import compose_sweep
from hqcnn_lab.config.override import as_override, n_jobs
from hqcnn_lab.distributed import cores
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.environment import code_version
from hqcnn_lab.record.run_folder import RunFolder, flat
from hqcnn_lab.record.state import KEPT, clean_up, state_of
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.sweep.job_table import as_seen_from_here, error_of, job_rows, of_other_code, write_jobs
from hqcnn_lab.sweep.jobs import Ended, Job, name_of_signal, run_jobs

_RECENT = 50  # run folders that are read to tell how long a job takes


def run_job(config: DictConfig) -> float | None:
    """Train one job of a sweep into `<hydra.sweep.dir>/<name>_<digest>`; return the monitored validation metric.

    The folder is named by what it computes, so that a sweep that is started again in the same `hydra.sweep.dir` finds
    its results, also with jobs added. A result of the same code is not computed again; one of other code is refused,
    as it cannot be overwritten. A job that failed, or was killed, is moved aside and runs again. The job has a process
    of its own: whatever becomes of it, the launcher that called goes on with the next, and None is returned, which a
    search takes for a failed trial.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.sweep.dir).absolute() / f"{config.name}_{digest(config)}"
    label = f"[{hydra.job.num}] {folder.name}"
    was_there = state_of(folder) in KEPT
    if was_there and (then := RunFolder(folder).code) != (now := code_version()):
        print(f"error: {label}: {of_other_code(then, now)}", file=sys.stderr, flush=True)
        return None
    if not was_there:
        print(f"{label}: starts, prints to {as_seen_from_here(folder)}/output.log", flush=True)
        config.paths.output_dir = str(folder)
        OmegaConf.resolve(config)  # the job's process does not have Hydra's resolvers
        # Without the types that a launcher gives its part of the configuration: another process may not know them.
        untyped = DictConfig({"hydra": OmegaConf.to_container(hydra)})
        job = Job(folder, tuple(hydra.overrides.task), (config, untyped))
        with closing(run_jobs([job], workers=1, threads=None)) as ended:
            reason = _why_no_result(next(ended))
        if reason is not None:
            print(f"error: {label}: {reason}", file=sys.stderr, flush=True)
            return None
    run, again = RunFolder(folder), " (was there)" if was_there else ""
    if state_of(folder) == "diverged":
        print(f"error: {label}: {error_of(run)}{again}", file=sys.stderr, flush=True)
        return None
    summary = run.summary
    for name, problem in run.problems.items():
        print(f"error: {label}: {name} {problem}", file=sys.stderr, flush=True)
    # A search chooses by validation. People who watch it should see no other figure to choose by.
    # Hydra's own sweeper tries what it is given, and chooses nothing.
    is_search = not str(hydra.sweeper.get("_target_")).startswith("hydra._internal.")
    shown = ["val/accuracy"] if is_search else ["val/accuracy", "test/accuracy"]
    scores = [f"{name} {100 * summary[name]:.1f} %" for name in shown if summary.get(name) is not None]
    print(f"{label}: {', '.join(scores) or 'finished'}{again}", flush=True)
    if is_search and summary.get(config.monitor) is None:
        print(f"error: {label}: never came to {config.monitor}, which the search goes by", file=sys.stderr, flush=True)
    return summary.get(config.monitor)


def _why_no_result(end: Ended) -> str | None:
    """None where there is one. Noted in the job's folder where its process could not do so itself."""
    folder = end.job.folder
    run = RunFolder(folder)
    if state_of(folder) in KEPT:
        return None
    if run.status.status == "failed":
        return error_of(run)
    how = f"killed by {name_of_signal(-end.exit_code)}" if end.exit_code < 0 else _last_line(folder / "output.log")
    reason = how or f"ended with status {end.exit_code} and left no word; is the disk full?"
    with suppress(OSError), whole_file(folder / "status.json") as scratch:
        scratch.write_text(json.dumps(run.status.as_json() | {"status": "failed", "error": reason}, indent=2))
    return reason


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 10_000, 0))
            return file.read().decode(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""


def run_sweep(overrides: Sequence[str], start: Callable[[], None]) -> None:
    """Say what is about to run, run it, and leave `jobs.csv` in the sweep's folder, however it ends.

    `start` hands the command line over to Hydra. Exits with status 1 where a job has come to no result.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it lists its plugins when Optuna opens its database
    config = compose_sweep(overrides)
    # The folder's name may hold the time. It is fixed here, so that it is the same before and after.
    if not any(line.startswith("hydra.sweep.dir=") for line in overrides):
        sys.argv.append(as_override("hydra.sweep.dir", config.hydra.sweep.dir))
    folder = Path(config.hydra.sweep.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)  # a search keeps its trials there
    clean_up(folder)
    n_planned = n_jobs(overrides, config)
    _print_plan(n_planned, config, folder)
    try:
        start()
        n_planned = 0  # all were started; two that compute the same share a folder
    finally:
        states = write_jobs(folder, n_planned)
        if not states or not states <= set(KEPT):
            again = [line for line in overrides if not line.startswith("hydra.sweep.dir=")]
            command = shlex.join([*again, f"hydra.sweep.dir={as_seen_from_here(folder)}"])
            print(f"to run what is missing: python -m hqcnn_lab.train -m {command}", flush=True)
    if states != {"finished"}:
        sys.exit(1)


def _print_plan(n: int, config: DictConfig, folder: Path) -> None:
    workers = _workers(config)
    n_done = sum(row["state"] in KEPT for row in job_rows(folder))
    text = f"sweep: {n} jobs, {workers} at a time, into {as_seen_from_here(folder)}"
    if n_done:
        text += f"; it holds {n_done} result{'s' if n_done > 1 else ''}, kept as they are"
    seconds = _seconds_of_last(config, folder)
    if seconds is not None and n > n_done:
        text += f"; about {_duration(seconds * -(-(n - n_done) // workers))}, by the last run of the kind"
    print(text, flush=True)


def _workers(config: DictConfig) -> int:
    launcher = config.hydra.launcher
    if "n_jobs" not in launcher:
        return int(launcher.get("array_parallelism") or 1)
    return cores() if launcher.n_jobs < 0 else launcher.n_jobs


def _seconds_of_last(config: DictConfig, sweep: Path) -> float | None:
    """How long the newest finished run with this network, data and number of epochs took, if there is one."""
    places = {sweep, Path(config.paths.runs_dir).absolute(), Path(config.paths.sweeps_dir).absolute()}
    keys = ("dataset._target_", "model._target_", "trainer.max_epochs")
    kind = [OmegaConf.select(config, key) for key in keys]
    for folder in _newest_first(places)[:_RECENT]:
        run = RunFolder(folder)
        if run.status.status == "finished" and run.status.seconds is not None:
            values = dict(flat(run.config))
            if [values.get(key) for key in keys] == kind:
                return max(run.status.seconds, 0)
    return None


def _newest_first(places: Iterable[Path]) -> list[Path]:
    """The run folders in these folders, or one below."""
    changed = {}
    for path in (path for place in places for at in ("*", "*/*") for path in place.glob(f"{at}/status.json")):
        with suppress(OSError):  # gone by now
            changed[path.parent] = path.parent.stat().st_mtime
    return sorted(changed, key=changed.__getitem__, reverse=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
