"""The tables that a study comes to: a row for each run, and the final stage in Markdown."""

import statistics
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hqcnn_lab.analysis.measure import ACCURACY, Measure
from hqcnn_lab.analysis.metrics import by_epoch, read_metrics
from hqcnn_lab.analysis.study import Block, blocks
from hqcnn_lab.record.run_folder import RunFolder, is_number
from hqcnn_lab.record.state import KEPT, state_of
from hqcnn_lab.sweep.declaration import Run

Row = dict[str, Any]


def row_of(run: Run) -> Row:
    """What is known of a run: its place in the comparison, its state, and the figures of its summary.

    `unreadable` is one that has finished, and whose summary does not say how well.
    """
    row: Row = {"condition": run.condition, "arm": run.arm}
    row |= {} if run.epochs is None else {"epochs": run.epochs, "of_epochs": run.epochs}
    row |= {"stage": run.stage, "factor": run.factor, "lr": run.lr}
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


def rows_of(run: Run) -> list[Row]:
    """A row for each length that a run is read at: the shorter ones on its way, and its end.

    What a reading has no figure of is None; of a run that diverged or failed every reading is lost.
    """
    end = row_of(run)
    return [*(_reading(end, run.job.folder, epochs) for epochs in run.read_at), end]


def _reading(end: Row, folder: Path, epochs: int) -> Row:
    row = end | {"epochs": epochs, "seconds/training": None}
    row |= dict.fromkeys(("train/loss", "val/accuracy", "val/loss", "test/accuracy", "test/loss"))
    for name in [name for name in end if name.startswith("convergence/epochs_to_")]:
        if end[name] is None or end[name] > epochs:
            row |= {name.replace("epochs_to", f"{unit}_to"): None for unit in ("epochs", "steps", "seconds")}
    if row["status"] != "finished":
        return row
    summary = RunFolder(folder).summary
    row |= {f"test/{score}": summary.get(f"test_after/{epochs}/{score}") for score in ("accuracy", "loss")}
    if not is_number(row["test/accuracy"]):
        row["status"] = "unreadable"
    with suppress(OSError, ValueError):
        metrics = read_metrics(folder)
        for name in ("train/loss", "val/accuracy", "val/loss"):
            row[name] = dict(zip(*(column.tolist() for column in by_epoch(metrics, name)), strict=True)).get(epochs)
    return row


def problem_of(run: Run) -> str | None:
    """Why a run is no result, in words; None where it is one."""
    lost = next((row for row in rows_of(run) if row["status"] not in KEPT), None)
    if lost is None:
        return None
    if lost["status"] != "unreadable":
        return f"{run.label} {lost['status']}"
    read = RunFolder(run.job.folder)
    test = "test/accuracy" if lost.get("epochs") == run.epochs else f"test_after/{lost['epochs']}/accuracy"
    why = f"lacks val/accuracy or {test}" if read.summary else "is not there"
    why = read.problems.get("summary.json", why)
    return f"{run.label}: {run.job.folder}/summary.json {why} (move the folder away, and it runs again)"


def markdown_table(rows: list[Row], level: float, measure: Measure = ACCURACY) -> str:
    """The final stage: a line for each condition, length, arm and learning rate, mean ± standard deviation."""
    reach = f"convergence/epochs_to_{100 * level:g}"
    losses = ["validation loss", "test loss"] * measure.falls
    final = [row for row in rows if row["stage"] == "final"]
    by_length = any(row.get("epochs") is not None for row in final)
    head = [
        "condition",
        *["epochs"] * by_length,
        "arm",
        "lr",
        "seeds",
        "training loss",
        *losses,
        "validation %",
        "test %",
    ]
    head += [f"epochs to {100 * level:g} %", "seconds"]
    lines = [head, ["---"] * len(head)]
    for block, arm, factor, group in _settings(final):
        length = (
            f"{block.epochs} of {group[0]['of_epochs']}" if by_length and not block.is_end(group) else f"{block.epochs}"
        )
        whole = [row for row in group if row["status"] == "finished"]
        lost = [f"{n} {state}" for state in ("diverged", "failed", "unreadable") if (n := _count(group, state))]
        reached = [row[reach] for row in whole if row.get(reach) is not None]
        seconds = [row["seconds/training"] for row in whole if row.get("seconds/training") is not None]
        epochs = f"{statistics.median(reached):g} ({len(reached)} of {len(whole)})" if reached else "never"
        lines.append(
            [
                *(
                    block.condition,
                    *[length] * by_length,
                    arm,
                    f"{group[0]['lr']:g} (×{factor:g})",
                    ", ".join([str(len(whole)), *lost]),
                ),
                _spread(whole, "train/loss", scale=1, digits=3),
                *(_spread(whole, name, scale=1, digits=4) for name in ("val/loss", "test/loss") if measure.falls),
                *(_spread(whole, name) for name in ("val/accuracy", "test/accuracy")),
                epochs if whole else "–",
                f"{statistics.fmean(seconds):.1f}" if seconds else "–",
            ]
        )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _settings(rows: list[Row]) -> Iterator[tuple[Block, str, float, list[Row]]]:
    """The rows of each arm at each of its learning rates, block by block."""
    for block in blocks(rows):
        groups: dict[tuple[str, float], list[Row]] = {}
        for row in block.rows:
            groups.setdefault((row["arm"], row["factor"]), []).append(dict(row))
        for (arm, factor), group in groups.items():
            yield block, arm, factor, group


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
