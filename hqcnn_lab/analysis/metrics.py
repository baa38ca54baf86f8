"""A run's `metrics.csv`, as arrays."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Series = tuple[np.ndarray, np.ndarray]
"""Optimizer steps (int64) and what was logged at them (float64), both `[n]`, in the order of the file."""


def read_metrics(folder: str | Path) -> dict[str, Series]:
    """Everything a run folder's `metrics.csv` holds, by metric: `steps, values = read_metrics(run)["val/accuracy"]`.

    Also of a run that is going on or was killed: a last line without its end is passed over, since a number cut short
    still reads as a number. A metric keeps the steps it was logged at, none are filled in; NaN stays. `epoch`, counted
    from 0, is one of the metrics. Raises FileNotFoundError where nothing was logged yet, ValueError for a file that is
    no `metrics.csv`.
    """
    path = Path(folder) / "metrics.csv"
    whole = path.read_bytes().rpartition(b"\n")[0].decode()
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in csv.DictReader(whole.splitlines()):
        try:
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    pairs.setdefault(name, []).append((step, float(value)))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a table of metrics by step ({error!r}); give the folder of a run") from None
    series = {}
    for name, logged in pairs.items():
        steps, values = np.array(logged).T
        series[name] = steps.astype(np.int64), values
    return series


def by_epoch(metrics: Mapping[str, Series], name: str) -> Series:
    """What was logged at the ends of epochs, by the number of the epoch, from 1: also of a run that was continued.

    For metrics that are logged once an epoch. Empty where it, or the epoch, was not logged.
    """
    steps, values = metrics.get(name, (np.array([], dtype=np.int64), np.array([])))
    epoch = dict(zip(*metrics.get("epoch", ((), ())), strict=True))
    known = np.array([step in epoch for step in steps], dtype=bool)
    return np.array([int(epoch[step]) + 1 for step in steps[known]], dtype=np.int64), values[known]
