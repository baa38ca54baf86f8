"""A run's `metrics.csv`, as arrays."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hqcnn_lab.record.plain_file import Unusable, read_table

_MOST_STEPS = 2**53  # all that a float can count

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
    try:
        return series_in(path)
    except Unusable as error:
        raise ValueError(f"{path}: not a table of metrics by step: it {error}; give the folder of a run") from None


def series_in(path: Path, growing: bool = True) -> dict[str, Series]:
    """As `read_metrics`, of the file itself; raises `Unusable`, which says no more than why.

    A run that has finished (not `growing`) has logged something.
    """
    rows = read_table(path, growing=True)
    _, names = next(rows, (0, []))
    if not names and growing:
        return {}
    if not names:
        raise Unusable("has no line that is whole")
    if "step" not in names or len(set(names)) < len(names):
        raise Unusable("has no header that names step and each metric once")
    at = names.index("step")
    logged: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in names}
    columns = [(i, *logged[name]) for i, name in enumerate(names) if i != at]
    for line, cells in rows:
        try:
            step = int(cells[at])
            for i, steps, values in columns:
                if cells[i]:
                    steps.append(step)
                    values.append(float(cells[i]))
        except (IndexError, ValueError):
            raise Unusable(f"has a line that is no step with its metrics ({line})") from None
        if not 0 <= step < _MOST_STEPS or len(cells) > len(names):
            raise Unusable(f"has a line that is no step with its metrics ({line})")
    series = {n: (np.array(steps, dtype=np.int64), np.array(values)) for n, (steps, values) in logged.items() if steps}
    if "epoch" in series and not all(0 <= epoch < _MOST_STEPS and epoch % 1 == 0 for epoch in series["epoch"][1]):
        raise Unusable("has an epoch that is no whole number from 0 on")
    return series


def by_epoch(metrics: Mapping[str, Series], name: str) -> Series:
    """What was logged at the ends of epochs, by the number of the epoch, from 1: also of a run that was continued.

    For metrics that are logged once an epoch. Empty where it, or the epoch, was not logged.
    """
    steps, values = metrics.get(name, (np.array([], dtype=np.int64), np.array([])))
    epoch = dict(zip(*metrics.get("epoch", ((), ())), strict=True))
    has_epoch = np.array([step in epoch for step in steps], dtype=bool)
    return np.array([int(epoch[step]) + 1 for step in steps[has_epoch]], dtype=np.int64), values[has_epoch]
