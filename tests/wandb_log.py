"""What W&B's own reader finds in the offline run of a run folder."""

import json
from pathlib import Path
from typing import Any

import warm


def inspect_wandb(run: Path, *options: str) -> str:
    """What it prints: a line of JSON for each record, or one for all with `--summary`."""
    [log] = run.glob("wandb/offline-run-*/run-*.wandb")
    said = warm.run("-m", "wandb", "leet", "inspect", "--json", *options, str(log))
    assert said.returncode == 0, said.stderr
    return said.stdout


def wandb_records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in inspect_wandb(run).splitlines()]


def wandb_history(run: Path) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in wandb_records(run) if record["type"] == "history"]
