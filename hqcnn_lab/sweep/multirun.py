"""A sweep's jobs (`-m`): each in a process of its own, none done twice, whatever launcher calls them."""

import csv
import io
import json
import logging
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.compose import compose_sweep
from hqcnn_lab.config.override import as_override, n_jobs
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.environment import code_version
from hqcnn_lab.record.run_folder import RunFolder, flat
from hqcnn_lab.record.state import KEPT, state_of, sweep_up
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.sweep.jobs import Ended, Job, name_of_signal, run_jobs

_COLUMNS = ("job", "state", "reason", "seconds", "val/accuracy", "test/accuracy", "overrides")
_RECENT = 50  # run folders that are looked at for how long a job takes


def run_job(config: DictConfig) -> float | None:
    """Train one job of a sweep into `<hydra.sweep.dir>/<name>_<digest>`; return the monitored validation metric.

    The folder is named by what it computes, so that a sweep that is started again in the same `hydra.sweep.dir` finds
    its results, also with jobs added. A result of the same code is not computed again; one of other code is refused,
    as it cannot be overwritten. A job that failed, or was killed, is moved aside and runs again. The job has a process
    of its own: whatever becomes of it, the launcher that called goes on with the next, and None is returned, which a
    search takes for a failed trial.
    """
    hydra = HydraConfig.instance().cfg
    folder = Path(hydra.hydra.sweep.dir).absolute() / f"{config.name}_{digest(config)}"
    label = f"[{hydra.hydra.job.num}] {folder.name}"
    was_there = state_of(folder) in KEPT
    if was_there and (then := RunFolder(folder).code) != (now := code_version()):
        print(f"error: {label}: {_other_code(then, now)}", file=sys.stderr, flush=True)
        return None
    if not was_there:
        print(f"{label}: starts, prints to {_relative(folder)}/output.log", flush=True)
        config.paths.output_dir = str(folder)
        OmegaConf.resolve(config)  # in its process, Hydra's resolvers are not at hand
        # Without the types that a launcher gives its part of the configuration: another process may not know them.
        untyped = OmegaConf.create(OmegaConf.to_container(hydra))
        job = Job(folder, tuple(hydra.hydra.overrides.task), (config, untyped))
        with closing(run_jobs([job], workers=1, threads=None)) as ended:
            reason = _reason(next(ended))
        if reason is not None:
            print(f"error: {label}: {reason}", file=sys.stderr, flush=True)
            return None
    run, again = RunFolder(folder), " (was there)" if was_there else ""
    if state_of(folder) == "diverged":
        print(f"error: {label}: {_error(run)}{again}", file=sys.stderr, flush=True)
        return None
    summary = run.summary
    for name, problem in run.problems.items():
        print(f"error: {label}: {name} {problem}", file=sys.stderr, flush=True)
    # A search chooses by validation, and whoever watches it should have no other figure to choose by.
    shown = ["val/accuracy"] if _is_search(hydra) else ["val/accuracy", "test/accuracy"]
    said = [f"{name} {100 * summary[name]:.1f} %" for name in shown if summary.get(name) is not None]
    print(f"{label}: {', '.join(said) or 'finished'}{again}", flush=True)
    if _is_search(hydra) and summary.get(config.monitor) is None:
        print(f"error: {label}: never came to {config.monitor}, which the search goes by", file=sys.stderr, flush=True)
    return summary.get(config.monitor)


def _is_search(hydra: DictConfig) -> bool:
    return not str(hydra.hydra.sweeper.get("_target_")).startswith("hydra._internal.")  # its own takes what it is given


def _other_code(then: str, now: str) -> str:
    return f"holds a result of other code ({then}, now {now}), which stays; choose another hydra.sweep.dir"


def _reason(end: Ended) -> str | None:
    """Why a job came to no result; noted in its folder where the process could not do so itself."""
    folder = end.job.folder
    run = RunFolder(folder)
    if state_of(folder) in KEPT:
        return None
    if run.status.status == "failed":
        return _error(run)
    how = f"killed by {name_of_signal(-end.exit_code)}" if end.exit_code < 0 else _last_line(folder / "output.log")
    reason = how or f"ended with status {end.exit_code} and left no word; is the disk full?"
    with suppress(OSError), whole_file(folder / "status.json") as scratch:
        scratch.write_text(json.dumps(run.status.as_json() | {"status": "failed", "error": reason}, indent=2))
    return reason


def _error(run: RunFolder) -> str:
    said = run.status.error or run.problems.get("status.json", "")
    return " ".join(said.split()) or "ended without a word"


def run_sweep(overrides: Sequence[str], start: Callable[[], None]) -> None:
    """Say what is about to run, run it, and leave `jobs.csv` in the sweep's folder, however it ends.

    `start` hands the command line over to Hydra. Exits with status 1 where a job has come to no result.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # lists its plugins where Optuna keeps its trials
    config = compose_sweep(overrides)
    # The folder may be named by the time: settled here, it is the same before and after.
    if not any(line.startswith("hydra.sweep.dir=") for line in overrides):
        sys.argv.append(as_override("hydra.sweep.dir", config.hydra.sweep.dir))
    folder = Path(config.hydra.sweep.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)  # a search keeps its trials there
    sweep_up(folder)
    _print_plan(overrides, config, folder)
    n_planned = n_jobs(overrides, config)
    try:
        start()
        n_planned = 0  # all were started; two that compute the same share a folder
    finally:
        states = _write_summary(folder, n_planned)
        if not states or not states <= set(KEPT):
            again = [line for line in overrides if not line.startswith("hydra.sweep.dir=")]
            command = shlex.join([*again, f"hydra.sweep.dir={_relative(folder)}"])
            print(f"to run what is missing: python -m hqcnn_lab.train -m {command}", flush=True)
    if states != {"finished"}:
        sys.exit(1)


def _print_plan(overrides: Sequence[str], config: DictConfig, folder: Path) -> None:
    n, workers = n_jobs(overrides, config), _workers(config)
    done = sum(row["state"] in KEPT for row in _job_rows(folder))
    text = f"sweep: {n} jobs, {workers} at a time, into {_relative(folder)}"
    if done:
        text += f"; it holds {done} result{'s' if done > 1 else ''}, kept as they are"
    seconds = _seconds_of_last(config, folder)
    if seconds is not None and n > done:
        text += f"; about {_duration(seconds * -(-(n - done) // workers))}, by the last run of the kind"
    print(text, flush=True)


def _workers(config: DictConfig) -> int:
    launcher = config.hydra.launcher
    if "n_jobs" not in launcher:
        return int(launcher.get("array_parallelism") or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if launcher.n_jobs < 0 else launcher.n_jobs


def _seconds_of_last(config: DictConfig, sweep: Path) -> float | None:
    """How long the newest finished run with this network, data and number of epochs took, if there is one."""
    places = {sweep, Path(config.paths.runs_dir).absolute(), Path(config.paths.sweeps_dir).absolute()}
    keys = ("dataset._target_", "model._target_", "trainer.max_epochs")
    wanted = [OmegaConf.select(config, key) for key in keys]
    for folder in _newest_first(places)[:_RECENT]:
        run = RunFolder(folder)
        if run.status.status == "finished" and run.status.seconds is not None:
            known = dict(flat(run.config))
            if [known.get(key) for key in keys] == wanted:
                return max(run.status.seconds, 0)
    return None


def _newest_first(places: Iterable[Path]) -> list[Path]:
    """The run folders in these folders, or one below."""
    found = {}
    for path in (path for place in places for at in ("*", "*/*") for path in place.glob(f"{at}/status.json")):
        with suppress(OSError):  # gone by now
            found[path.parent] = path.parent.stat().st_mtime
    return sorted(found, key=found.__getitem__, reverse=True)


def _job_rows(folder: Path) -> list[dict[str, Any]]:
    """A sweep's jobs as they are now, a row each, by name."""
    rows, now = [], code_version()
    for job in sorted(path for path in folder.glob("*") if path.is_dir()):
        is_earlier = re.search(r"\.(failed|interrupted)-\d+$", job.name)
        if is_earlier or not (re.search("_[0-9a-f]{12}$", job.name) or (job / "output.log").exists()):
            continue
        state, run = state_of(job), RunFolder(job)
        name = job.name.encode(errors="backslashreplace").decode()  # bytes that are no text
        row = {"job": name, "state": state, "reason": "", "seconds": run.status.seconds}
        row |= {name: run.summary.get(name) for name in ("val/accuracy", "test/accuracy")}
        row["overrides"] = " ".join(run.environment.get("overrides") or [])
        if state in KEPT and run.code != now:
            row |= {"state": "refused", "reason": _other_code(run.code, now)}
        elif state != "finished":
            row["reason"] = _error(run)
        elif run.problems:
            row["reason"] = "; ".join(f"{name} {problem}" for name, problem in run.problems.items())
        rows.append(row)
    return rows


def _write_summary(folder: Path, n_planned: int = 0) -> set[str]:
    """`jobs.csv`, and what is in it in a few words; returns the states that jobs are in."""
    rows = _job_rows(folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        with whole_file(folder / "jobs.csv") as scratch:
            scratch.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print(f"error: {folder / 'jobs.csv'}: not written ({error.strerror})", file=sys.stderr)
    counts = Counter(row["state"] for row in rows)
    if n_planned > len(rows):
        counts["not started"] = n_planned - len(rows)
    said = ", ".join(f"{n} {state}" for state, n in counts.most_common()) or "no job"
    print(f"sweep: {said}; table in {_relative(folder / 'jobs.csv')}", flush=True)
    for row in rows:
        if row["reason"]:
            print(f"  {row['state']}: {row['job']}: {row['reason']}", flush=True)
    return set(counts)


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 10_000, 0))
            return file.read().decode(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _relative(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
