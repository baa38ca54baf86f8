"""The tables that a study comes to: a row for each run, and the final stage in Markdown."""

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hqcnn_lab.analysis.measure import ACCURACY, Measure
from hqcnn_lab.record.run_folder import RunFolder, is_number
from hqcnn_lab.record.state import state_of
from hqcnn_lab.sweep.declaration import Run

Row = dict[str, Any]


def row_of(run: Run) -> Row:
    """What is known of a run: its place in the comparison, its state, and the figures of its summary.

    `unreadable` is one that has finished, and whose summary does not say how well.
    """
    row: Row = {"condition": run.condition, "arm": run.arm, "stage": run.stage, "factor": run.factor, "lr": run.lr}
    row |= {"seed": run.seed, "status": state_of(run.job.folder)}
    summary: Row = {}
    if row["status"] == "finished":
        summary = RunFolder(run.job.folder).summary
        if not all(is_number(summary.get(name)) for name in ("val/accuracy", "test/accuracy")):
            row["status"] = "unreadable"
        elif summary.get("val/loss") is None:  # not a number, and only in the last epoch's validation
            row["status"] = "diverged"
    names = ["train/loss", "val/accuracy", "val/loss", "test/accuracy", "test/loss"]
    names += [name for name in summary if name.startswith("convergence/")]
    row |= {name: summary.get(name) for name in [*names, "seconds/training"]}
    return row | {"run": run.job.folder.name}


def markdown_table(rows: list[Row], level: float, measure: Measure = ACCURACY) -> str:
    """The final stage: a line for each condition, arm and learning rate; mean ± standard deviation over seeds."""
    reach = f"convergence/epochs_to_{100 * level:g}"
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        if row["stage"] == "final":
            groups.setdefault((row["condition"], row["arm"], row["factor"]), []).append(row)
    losses = ["validation loss", "test loss"] * measure.falls
    head = ["condition", "arm", "lr", "seeds", "training loss", *losses, "validation %", "test %"]
    head += [f"epochs to {100 * level:g} %", "seconds"]
    lines = [head, ["---"] * len(head)]
    for (condition, arm, factor), group in groups.items():
        whole = [row for row in group if row["status"] == "finished"]
        lost = [f"{n} {state}" for state in ("diverged", "failed", "unreadable") if (n := _count(group, state))]
        reached = [row[reach] for row in whole if row.get(reach) is not None]
        seconds = [row["seconds/training"] for row in whole if row.get("seconds/training") is not None]
        epochs = f"{statistics.median(reached):g} ({len(reached)} of {len(whole)})" if reached else "never"
        lines.append(
            [
                *(condition, arm, f"{group[0]['lr']:g} (×{factor:g})", ", ".join([str(len(whole)), *lost])),
                _spread(whole, "train/loss", scale=1, digits=3),
                *(_spread(whole, name, scale=1, digits=4) for name in ("val/loss", "test/loss") if measure.falls),
                *(_spread(whole, name) for name in ("val/accuracy", "test/accuracy")),
                epochs if whole else "–",
                f"{statistics.fmean(seconds):.1f}" if seconds else "–",
            ]
        )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _count(rows: list[Row], state: str) -> int:
    return sum(row["status"] == state for row in rows)


def _spread(rows: list[Row], name: str, scale: float = 100, digits: int = 2) -> str:
    values = [scale * row[name] for row in rows if row.get(name) is not None]
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "–"
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def commits(folders: Iterable[Path]) -> Iterator[str]:
    """The versions of the code that the runs are of: more than one is worth knowing."""
    names = set()
    for folder in folders:
        if environment := RunFolder(folder).environment:
            git = environment.get("git") or {}
            commit = git.get("commit")
            names.add("unknown" if commit is None else commit[:12] + (" with changes" if git.get("changed") else ""))
    yield from sorted(names)
