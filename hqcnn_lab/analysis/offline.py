"""A run's figures from what W&B left offline, where that is all there is of it."""

import subprocess
from pathlib import Path
from typing import Any

from hqcnn_lab.analysis.row import Row, as_mapping, described
from hqcnn_lab.record.plain_file import Unusable, parse_json
from hqcnn_lab.record.run_folder import flat, usable
from hqcnn_lab.wandb_private import inspect_command

_PATIENCE = 30  # seconds for W&B's reader, which takes one


def find_offline(folder: Path) -> Path | None:
    """The `run-<id>.wandb` of a folder `offline-run-…`, or None."""
    return next(iter(sorted(folder.glob("run-*.wandb"))), None) if folder.name.startswith("offline-run-") else None


def read_offline(path: Path) -> Row:
    """A row as of `load_runs`, of an offline file `run-<id>.wandb`: the figures that W&B's summary holds.

    Use it where the run folder is lost; the folder knows more (predictions, the split, overrides, the error). Takes a
    second a file: W&B's own reader is a program. A file that it cannot read gives a row with `torn`.
    """
    content = _names_with_values(_inspect(path, "--summary"))
    records = map(_names_with_values, _inspect(path).splitlines())
    run = next((record["run"] for record in records if isinstance(record.get("run"), dict)), {})
    ours = {key: value for key, value in as_mapping(content.get("config")).items() if key != "_wandb"}
    config, wrong = usable("config.yaml", ours)
    logged = {key: value for key, value in as_mapping(content.get("summary")).items() if not key.startswith("_")}
    figures = {key: value for key, value in logged.items() if not isinstance(value, dict | str)}  # not its pictures
    summary, wrong_figures = usable("summary.json", figures)
    config = {} if wrong else config
    problem = wrong or wrong_figures or (None if config and summary else "does not hold a configuration and a summary")
    status, _ = usable("status.json", {"started": content.get("start_time"), "ended": content.get("last_write")})
    git, _ = usable("environment.json", {"git": run.get("git")})
    exit_code, name = content.get("exit_code"), content.get("name")
    return {
        "folder": str(path.parent),
        "state": "interrupted" if exit_code is None else "failed" if exit_code else "finished",
        "error": None,
        **described(config, None, name if isinstance(name, str) else path.parent.name),
        "commit": as_mapping(git.get("git")).get("commit"),
        "changed": None,
        "started": status.get("started"),
        "ended": status.get("ended"),
        "torn": [path.name] if problem else [],
        "problems": [f"{path.name} {problem}"] if problem else [],
        **summary,
        **{f"config/{key}": value for key, value in flat(config)},
    }


def _inspect(path: Path, *options: str) -> str:
    try:
        run = subprocess.run(inspect_command(path, *options), capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.decode(errors="replace")


def _names_with_values(text: str) -> dict[str, Any]:
    try:
        content = parse_json(text)
    except Unusable:
        return {}
    return content if isinstance(content, dict) else {}
