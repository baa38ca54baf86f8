"""The tables of what was run: at what budget, in which state, on which versions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hqcnn_lab.analysis.row import Row
from hqcnn_lab.analysis.spread import spread
from hqcnn_lab.reporting.groups import Family, Group, differences
from hqcnn_lab.reporting.problems import Problems
from hqcnn_lab.reporting.score_tables import Table
from hqcnn_lab.reporting.scores import SCORE
from hqcnn_lab.reporting.wording import NONE, listed, mean_std, number, place_of, public

_REASONS = {
    "interrupted": "told to end, or killed; its process is gone",
    "running": "going on at the time of this report",
    "failed": "not known",
    "diverged": "not known",
}


def budget(family: Family) -> Table:
    table = Table(["setting", "runs", "learning rate", "epochs", "optimizer steps", "training images", "test images"])
    table.head += ["parameters: quantum", "classical"]
    for group in family.results:
        of = {
            key: listed(row.get(key) for row in group.finished)
            for key in ("epochs", "steps", "images/train", "images/test", "params/quantum", "params/classical")
        }
        rates = [group.settings.get("optim.lr"), group.settings.get("optim.quantum_lr")]
        rate = NONE if rates[0] is None else f"{rates[0]:g}" + (f" (quantum {rates[1]:g})" if rates[1] else "")
        table.add(group.id, group.name, str(len(group.runs)), rate, *of.values())
    table.caption = "What each setting was given. A comparison is fair where these agree, but for what is compared."
    rates = _rates(family)
    if len(rates) > 1 and len(set(rates.values())) == 1:
        table.caption += f" Learning rates tried by each of {', '.join(rates)}: {next(iter(rates.values()))}."
    return table


def unequal(family: Family) -> list[str]:
    """What makes the comparison unfair, a line each."""
    lines = []
    n_runs = {len({row["seed"] for row in group.runs}) for group in family.results}
    if len(n_runs) > 1:
        lines.append(f"Unequal numbers of seeds a setting: {min(n_runs)} to {max(n_runs)}.")
    for key, words in (
        ("epochs", "epochs"),
        ("images/train", "training images"),
        ("params/quantum", "quantum parameters"),
        ("params/classical", "classical parameters"),
    ):
        values = {row[key] for group in family.results for row in group.finished if row.get(key) is not None}
        if len(values) > 1:
            lines.append(f"Unequal {words}: {min(values):,} to {max(values):,}.")
    rates = _rates(family)
    if len(set(rates.values())) > 1:
        tried = ", ".join(f"{label} {n}" for label, n in rates.items())
        lines.append(f"Unequal numbers of learning rates tried: {tried}.")
    return lines


def _rates(family: Family) -> dict[str, int]:
    """How many learning rates each arm, or optimizer, was run at, tuning included."""
    rates: dict[str, set] = {}
    for group in family.groups:
        label = group.settings.get("arm") or group.settings.get("optim") or NONE
        rates.setdefault(str(label), set()).add(group.settings.get("optim.lr"))
    return {label: len(of_one) for label, of_one in rates.items()}


def tuning(family: Family) -> Table | None:
    tuning = [group for group in family.groups if group.settings.get("stage") == "tune"]
    if not tuning or family.results is family.groups:
        return None
    table = Table(["setting", "seeds", "validation %", "validation loss"])
    table.caption = "Runs that chose the learning rates, on seeds kept for that. Test scores play no part."
    for group in tuning:
        cells = mean_std(spread(group.values("val/accuracy"))), mean_std(spread(group.values("val/loss")), 1, 3)
        table.add(group.id, group.name, str(len(group.finished)), *cells)
    return table


def differing(family: Family) -> Table | None:
    values = differences(family.results)
    if not values:
        return None
    table = Table(["setting", *values], n_left=1 + len(values))
    for i, group in enumerate(family.results):
        table.add(group.id, group.name, *(public(NONE if v[i] is None else str(v[i])) for v in values.values()))
    table.caption = "Every key of the resolved configurations that is not the same in all settings; seeds left out."
    return table


def lost(rows: Sequence[Row], tops: Sequence[str | Path], group_of: Mapping[str, Group]) -> Table:
    table = Table(["run", "setting", "seed", "state", "epochs", "reason"], n_left=6)
    for row in rows:
        if row["state"] == "finished":
            continue
        planned = row.get("config/trainer.max_epochs")
        epochs = f"{row.get('last/epochs', 0)}" + (f" of {planned}" if planned else "")
        reason = row["error"] if row["error"] not in (None, "interrupted") else _REASONS.get(row["state"], NONE)
        torn = f" (not readable: {', '.join(row['torn'])})" if row["torn"] else ""
        group = group_of[row["folder"]]
        cells = place_of(row, tops), group.name, str(row["seed"]), row["state"], epochs, public(reason) + torn
        table.add(group.id, *cells, mark=row["state"])
    return table


def unusable(problems: Problems, tops: Sequence[str | Path], group_of: Mapping[str, Group]) -> Table:
    table = Table(["run", "setting", "file", "why it, or a part of it, is left out: it"], n_left=4)
    for folder, of_one in problems.found.items():
        group = group_of[folder]
        for name, why in of_one.items():
            table.add(group.id, place_of({"folder": folder}, tops), group.name, name, public(why))
    return table


def all_runs(rows: Sequence[Row], tops: Sequence[str | Path], group_of: Mapping[str, Group]) -> Table:
    table = Table(
        ["run", "setting", "state", "seed", "test %", "validation %", "training loss", "epochs", "seconds"], n_left=3
    )
    for row in rows:
        group = group_of[row["folder"]]
        table.add(
            group.id,
            place_of(row, tops),
            group.name,
            row["state"],
            NONE if row["seed"] is None else str(row["seed"]),
            *(number(row.get(key), 100, 2) for key in (SCORE, "val/accuracy")),
            number(row.get("train/loss", row.get("last/train/loss")), 1, 3),
            str(row.get("epochs", row.get("last/epochs", NONE))),
            number(row.get("seconds/training"), 1, 1),
            mark="" if row["state"] == "finished" else row["state"],
        )
    return table


def versions(rows: Sequence[Row]) -> Table:
    table = Table(["what", "versions (runs)"], n_left=2)
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("versions/"))
    for key in ("python", "device", *keys):
        counts = Counter(str(row[key]) for row in rows if row.get(key) is not None)
        if counts:
            table.add(
                "", key.removeprefix("versions/"), ", ".join(f"{value} ({n})" for value, n in counts.most_common())
            )
    commits = Counter(code_version(row) for row in rows)
    table.add("", "code", ", ".join(f"{commit} ({n})" for commit, n in commits.most_common()))
    return table


def code_version(row: Row) -> str:
    return "unknown" if not row["commit"] else str(row["commit"])[:12] + " with changes" * bool(row["changed"])
