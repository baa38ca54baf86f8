"""The jobs of a sweep as they are now: a row each, `jobs.csv`, and what of it is said in a few words."""

import re
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hqcnn_lab.record.csv_text import csv_of_mappings
from hqcnn_lab.record.environment import code_version
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import KEPT, state_of
from hqcnn_lab.record.whole_file import whole_file

_COLUMNS = ("job", "state", "reason", "seconds", "val/accuracy", "test/accuracy", "overrides")


def job_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each job in a sweep's folder, by name."""
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
            row |= {"state": "refused", "reason": of_other_code(run.code, now)}
        elif state != "finished":
            row["reason"] = error_of(run)
        elif run.problems:
            row["reason"] = "; ".join(f"{name} {problem}" for name, problem in run.problems.items())
        rows.append(row)
    return rows


def write_jobs(folder: Path, n_planned: int = 0) -> set[str]:
    """Write `jobs.csv`, and print what is in it; return the states that jobs are in.

    Of `n_planned` jobs, those without a row count as not started.
    """
    rows = job_rows(folder)
    try:
        with whole_file(folder / "jobs.csv") as scratch:
            scratch.write_text(csv_of_mappings(rows, _COLUMNS), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print(f"error: {folder / 'jobs.csv'}: not written ({error.strerror})", file=sys.stderr)
    counts = Counter(row["state"] for row in rows)
    if n_planned > len(rows):
        counts["not started"] = n_planned - len(rows)
    summary = ", ".join(f"{n} {state}" for state, n in counts.most_common()) or "no job"
    print(f"sweep: {summary}; table in {as_seen_from_here(folder / 'jobs.csv')}", flush=True)
    for row in rows:
        if row["reason"]:
            print(f"  {row['state']}: {row['job']}: {row['reason']}", flush=True)
    return set(counts)


def error_of(run: RunFolder) -> str:
    """Why a run failed, as its status says, in one line."""
    error = run.status.error or run.problems.get("status.json", "")
    return " ".join(error.split()) or "ended without a word"


def of_other_code(then: str, now: str) -> str:
    """Why a result that is there is not taken."""
    return f"holds a result of other code ({then}, now {now}), which stays; choose another hydra.sweep.dir"


def as_seen_from_here(path: Path) -> str:
    """Relative to the folder that the user is in, where it is below."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
