"""A run's figures from what W&B left offline, where that is all there is of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def find_offline(folder: Path) -> Path | None:
    """The `run-<id>.wandb` of a folder `offline-run-…`, or None."""
    return next(iter(sorted(folder.glob("run-*.wandb"))), None) if folder.name.startswith("offline-run-") else None


def read_offline(path: Path) -> dict[str, Any]:
    """A row as of `load_runs`, of an offline file `run-<id>.wandb`: the figures that W&B's summary holds.

    Use it where the run folder is lost; the folder knows more (predictions, the split, overrides, the error). Takes a
    second a file: W&B's own reader is a program. A file that it cannot read gives a row with `torn`.
    """
    from hqcnn_lab.analysis.runs import described, flat

    whole = _inspect(path, "--summary")
    try:
        content = json.loads(whole)
    except ValueError:
        content = {}
    records = [_record(line) for line in _inspect(path).splitlines()]
    run = next((record["run"] for record in records if isinstance(record.get("run"), dict)), {})
    config, summary, exit_code = content.get("config") or {}, content.get("summary") or {}, content.get("exit_code")
    config.pop("_wandb", None)
    return {
        "folder": str(path.parent),
        "state": "interrupted" if exit_code is None else "failed" if exit_code else "finished",
        "error": None,
        **described(config, None, content.get("name") or path.parent.name),
        "commit": (run.get("git") or {}).get("commit"),
        "changed": None,
        "started": content.get("start_time"),
        "ended": content.get("last_write"),
        "torn": [] if config and summary else [path.name],
        **{key: value for key, value in summary.items() if not key.startswith("_")},
        **{f"config/{key}": value for key, value in flat(config)},
    }


def _inspect(path: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(path)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
