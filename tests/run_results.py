"""What a run or a sweep has left in its folder, read plainly."""

import csv
import json
from pathlib import Path

import torch


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def best_epoch(run: Path) -> int:
    return torch.load(run / "checkpoints/best.ckpt", weights_only=True)["epoch"]


def status_of(run: Path) -> dict[str, str]:
    return json.loads((run / "status.json").read_text())


def jobs_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "jobs.csv").open() as file:
        return list(csv.DictReader(file))
