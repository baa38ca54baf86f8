"""Any number of run folders as one table, a row a run; whatever state they were left in."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hqcnn_lab.analysis.metrics import by_epoch, series_in
from hqcnn_lab.analysis.offline import find_offline, read_offline
from hqcnn_lab.analysis.row import Row, as_mapping, described
from hqcnn_lab.record.plain_file import Unusable, read_table
from hqcnn_lab.record.run_folder import RunFolder, Status, flat
from hqcnn_lab.record.whole_file import is_running

# Any one of these makes a folder that of a run: a job that is killed at once leaves only its log.
_MARKS = {"status.json", "summary.json", "environment.json", "output.log"}
_ASIDE = re.compile(r"\.(interrupted|failed)-\d+$")
_IN_STUDY = ("condition", "arm", "stage")
_LONGEST_ERROR = 500  # characters of the line


def load_runs(paths: str | Path | Iterable[str | Path], asides: bool = False) -> list[Row]:
    """Read run folders, or all that lie under a folder (`runs/`, `multirun/…`, a study's), into a row each.

    Use it for tables and plots of one's own: `pandas.DataFrame(load_runs("multirun"))` makes a data frame. Rows have
    different keys: a figure that a run does not have is left out. Not for curves: `read_metrics(row["folder"])`.

    Always there: `folder` (as given, with what lies under it), `state` (finished, diverged, failed, interrupted, or
    running: on this machine, now), `error` (one line, or None), `name`, `dataset`, `model`, `optim`, `seed`,
    `overrides` (a list, or None), `commit`, `changed` (whether tracked files differed from it), `started`, `ended`
    (ISO, UTC), `torn`: files that are there and cannot be used, or not all of them, and `problems`: why, a line each.
    Then the flat keys of `summary.json` as they are; for a run without one, `last/epochs` and the last `last/<metric>`
    that it logged; the resolved configuration as `config/<key>`; and `versions/<package>`, `device`, `python`. A
    study's folder stands for the runs that its `runs.csv` lists, with their `condition`, `arm` and `stage`; where that
    cannot be read there is a row that says so. A W&B offline folder that is not part of a run folder is read too.

    A file may hold anything: a row has values of the kinds that a run writes, and lacks what is of another kind.

    What was moved aside as an older attempt (`.failed-1`) is left out unless `asides`, or given itself. Runs come in
    the order of paths, and by name under each, numbers as numbers; none twice. Raises FileNotFoundError for a path that
    is not there.
    """
    rows: dict[Path, Row] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: there is no such folder; give run folders, or a folder above them")
        for folder, place in _find(Path(path), asides):
            if (key := folder.resolve()) not in rows:
                offline = find_offline(folder)
                rows[key] = (read_offline(offline) if offline else place if "state" in place else _read(folder)) | place
    return list(rows.values())


def _find(top: Path, asides: bool) -> Iterator[tuple[Path, Row]]:
    """Run folders under `top`, each with its place in a study."""
    for path, folders, files in os.walk(top):
        folder = Path(path)
        if folder != top and _ASIDE.search(folder.name) and not asides:
            folders.clear()
        elif find_offline(folder) or _MARKS & {*files, *folders}:
            folders.clear()  # what lies under a run is its own
            yield folder, {}
        else:
            folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_natural)
            if {"runs.csv", "study.yaml"} <= set(files):
                yield from _in_study(folder)


def _in_study(folder: Path) -> Iterator[tuple[Path, Row]]:
    try:
        lines = read_table(folder / "runs.csv")
        _, head = next(lines, (0, []))
        rows = [dict(zip(head, cells, strict=False)) for _, cells in lines]
        if "run" not in head:
            raise Unusable("has no column called run")
    except (Unusable, FileNotFoundError) as error:
        yield folder, _lost_study(folder, str(error))
        return
    runs = {path.name: path for path in (folder.parent / "runs").glob("*") if path.is_dir()}
    for row in rows:
        if run := runs.get(row.get("run", "")):
            yield run, {key: row[key] for key in _IN_STUDY if row.get(key)}


def _lost_study(folder: Path, why: str) -> Row:
    """A row for a study that does not say which its runs are."""
    error = f"runs.csv {why}; give the folder of its runs instead, or start the study again"
    return {
        "folder": str(folder),
        "state": "failed",
        "error": error,
        **described({}, None, folder.name),
        **_code(None),
        **dict.fromkeys(("started", "ended")),
        **_torn({"runs.csv": why}),
    }


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read(folder: Path) -> Row:
    run = RunFolder(folder)
    status, environment = run.status, run.environment
    row = {
        "folder": str(folder),
        "state": "running" if status.status == "running" and _is_alive(status) else status.state,
        "error": " ".join(status.error.split("\n\n")[0].split())[:_LONGEST_ERROR] if status.error else None,
        **described(run.config, environment.get("overrides"), folder.name),
        **_code(environment.get("git")),
        "started": status.started.isoformat() if status.started else None,
        "ended": status.ended.isoformat() if status.ended else None,
        **_torn({}),
    }
    row |= {key: value for key, value in run.summary.items() if key not in row}
    if not run.summary:
        row |= _last_logged(run)
    for package, version in as_mapping(environment.get("versions")).items():
        row[f"versions/{package}"] = version
    row |= {key: environment[key] for key in ("device", "python") if key in environment}
    return row | {f"config/{key}": value for key, value in flat(run.config)} | _torn(run.problems)


def _torn(problems: Mapping[str, str]) -> Row:
    return {"torn": list(problems), "problems": [f"{name} {why}" for name, why in problems.items()]}


def _code(git: Any) -> Row:
    return {"commit": as_mapping(git).get("commit"), "changed": as_mapping(git).get("changed")}


def _is_alive(status: Status) -> bool:
    """Whether the process that wrote this still runs, and is not a later one with the same number."""
    if not status.process or not is_running(status.process) or status.started is None:
        return False
    try:
        ticks = int(Path(f"/proc/{status.process}/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # no such files on this system
        return True
    age = datetime.now().astimezone() - status.started
    return up > age.total_seconds() - 5  # clocks are read one after the other


def _last_logged(run: RunFolder) -> Row:
    """How far a run without a summary got."""
    try:
        metrics = series_in(run.folder / "metrics.csv")
    except FileNotFoundError:
        return {}
    except Unusable as error:
        run.problems["metrics.csv"] = str(error)
        return {}
    row: Row = {f"last/{name}": float(metrics[name][1][-1]) for name in metrics if name.startswith(("train/", "val/"))}
    epochs, _ = by_epoch(metrics, "train/loss")
    return row | ({"last/epochs": int(epochs[-1])} if len(epochs) else {})
