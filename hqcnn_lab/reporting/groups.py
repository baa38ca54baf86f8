"""Runs that differ only in their seed form a group; a group is named by what differs from the other groups."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from hqcnn_lab.analysis.row import Row

# Keys that say where a run was written and how it was watched, and change nothing that it computed.
_SEEDS = {"seed", "dataset.seed", "callbacks.epoch_seed.seed"}
_ASIDE = {"name", "ckpt_path", "resume", "figures", "test_after", "trainer.default_root_dir"}
_ASIDE |= {"dataset.cache_dir", "dataset.workers"}
_ASIDE_RE = re.compile(r"paths\.|logger\.|logger$|callbacks\.(progress|\w+\.dirpath)")
_NEWER = {"trainer.strategy": "auto"}  # keys that older runs lack, with the value that they stood for
_PLACES = {"dataset.root", "dataset.manifest", "dataset.clinical"}  # compared by their last part: one may be absolute
_FIRST = ("condition", "arm", "dataset", "model", "optim", "stage")


@dataclass
class Group:
    """Runs of one setting: `runs` holds all, `finished` the last finished run of each seed that is usable, by seed."""

    id: str
    name: str
    runs: list[Row]
    settings: dict[str, Any]
    family: str = ""
    finished: list[Row] = field(default_factory=list)

    @property
    def label(self) -> dict[str, Any]:
        """What the filters of the page ask for."""
        return {key: self.runs[0].get(key) for key in ("dataset", "model", "optim")}

    def values(self, key: str) -> list[float]:
        """A figure of the finished runs, in their seeds' order; runs without it are left out."""
        return [row[key] for row in self.finished if isinstance(row.get(key), int | float)]


@dataclass
class Family:
    """Groups to compare with each other: they have one data set, split and condition."""

    id: str
    name: str
    groups: list[Group]

    @property
    def results(self) -> list[Group]:
        """The groups that are compared: not those of a study's tuning, whose seeds are others than the result's."""
        final = [group for group in self.groups if group.settings.get("stage") != "tune"]
        return final or self.groups


def make_families(rows: Sequence[Row]) -> list[Family]:
    """Group the rows, name the groups by what differs within their family, in the order that runs come in."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(_identity(row), []).append(row)
    groups = [Group(f"g{n}", "", of_one, settings(of_one[0])) for n, of_one in enumerate(members.values())]
    families: dict[tuple, list[Group]] = {}
    for group in groups:
        last = {row["seed"]: row for row in sorted(group.runs, key=_standing) if row["state"] == "finished"}
        group.finished = sorted(last.values(), key=_seed)
        families.setdefault(_place(group), []).append(group)
    made = []
    for n, (place, of_one) in enumerate(families.items()):
        family = Family(f"f{n}", ", ".join(part for part in place if part), of_one)
        for group, name in zip(of_one, _names(of_one), strict=True):
            group.family, group.name = family.id, name
        made.append(family)
    return made


def settings(row: Row) -> dict[str, Any]:
    """What a run had to compute, without its seed; and how its parts are called (`optim`, `arm`, …)."""
    kept = {}
    for name, value in row.items():
        key = name.removeprefix("config/")
        if key == name or key in _SEEDS | _ASIDE or _ASIDE_RE.match(key) or _NEWER.get(key, ...) == value:
            continue
        kept[key] = PurePath(str(value)).name if key in _PLACES and value is not None else value
    return {key: row[key] for key in _FIRST if row.get(key) is not None} | kept


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Every setting that is not the same in all groups, with its value in each (None: it has no such setting)."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    values = {key: [group.settings.get(key) for group in groups] for key in keys}
    return {key: of_key for key, of_key in values.items() if len({_text(value) for value in of_key}) > 1}


def _identity(row: Row) -> str:
    identity = settings(row)
    if not any(key.startswith("config/") for key in row):  # its configuration is lost: a row of its own
        identity["folder"] = row["folder"]
    return json.dumps(identity, sort_keys=True, default=str)


def _place(group: Group) -> tuple[str, ...]:
    kind = group.settings.get("dataset.split")
    return (
        group.settings.get("condition", ""),
        group.settings.get("dataset", "data set not known"),
        f"{kind} split" if kind else "",
    )


def _standing(row: Row) -> tuple[bool, bool, str]:
    """Of runs of one setting and seed the last counts; but one that has a score, and whose files are whole, first."""
    return isinstance(row.get("test/accuracy"), int | float), not row["torn"], str(row.get("started") or "")


def _seed(row: Row) -> tuple[bool, int]:
    """A run whose configuration is lost may have none."""
    return row["seed"] is None, row["seed"] or 0


def _names(groups: Sequence[Group]) -> list[str]:
    """The fewest settings that tell all groups apart: those that people chose by name first, then the others."""
    differing = differences(groups)
    typed = {
        line.lstrip("+").split("=")[0] for group in groups for row in group.runs for line in row["overrides"] or []
    }

    def rank(key: str) -> tuple:
        last = key.rpartition(".")[2]
        return (
            _FIRST.index(key) if key in _FIRST else len(_FIRST),
            key not in typed,
            key.startswith("model.circuit."),  # the circuit's own, once more
            last not in ("lr", "kernel"),
            last == "_target_",
        )

    chosen: list[str] = []
    n_distinct = 1
    for key in sorted(differing, key=rank):
        kinds = {tuple(_text(differing[name][i]) for name in (*chosen, key)) for i in range(len(groups))}
        if len(kinds) > n_distinct or key == "arm":
            chosen.append(key)
            n_distinct = len(kinds)
    short = {key: key.rpartition(".")[2] for key in chosen}
    if len(set(short.values())) < len(short):
        short = {key: key for key in chosen}
    names = []
    for i, group in enumerate(groups):
        parts = [
            _text(differing[key][i]) if key in _FIRST else f"{short[key]} {_text(differing[key][i])}"
            for key in chosen
            if differing[key][i] not in (None, "final")
        ]
        fallback = group.settings.get("arm") or group.settings.get("optim") or group.runs[0]["name"]
        names.append(", ".join(parts) or str(fallback))
    seen: dict[str, int] = {}
    for i, name in enumerate(names):  # a lost configuration leaves nothing to tell it by
        seen[name] = seen.get(name, 0) + 1
        if names.count(name) > 1:
            names[i] = f"{name} ({PurePath(groups[i].runs[0]['folder']).name})"
    return names


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
