"""What a report says in sentences: the headline, what the data give away, and what to know of the runs."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hqcnn_lab.analysis.p_value import p_text
from hqcnn_lab.analysis.row import Row
from hqcnn_lab.analysis.spread import spread
from hqcnn_lab.record.plain_file import Unusable, read_mapping
from hqcnn_lab.reporting import run_tables, score_tables
from hqcnn_lab.reporting.groups import Family, Group, settings
from hqcnn_lab.reporting.problems import Problems
from hqcnn_lab.reporting.scores import SCORE, Against
from hqcnn_lab.reporting.wording import count, interval, listed, mean_std, number


def headline(reference: Group | None, best: Group | None, against: Sequence[Against]) -> list[str]:
    """Which setting is best on validation, its score, and whether more than chance separates it from the reference."""
    if best is None or reference is None:
        return [
            "No run has finished yet." if reference is None else "No run has a validation accuracy to be judged by."
        ]
    score = spread(best.values(SCORE))
    lines = [
        f"Best on validation: {best.name}, with a test accuracy of {mean_std(score)} % over "
        f"{count(len(best.values(SCORE)), 'seed')}."
    ]
    compared = next((one for one in against if one.group is best), None)
    if compared is None and against:
        lines.append(f"It is the reference: {count(len(against), 'other setting')} compared with it below.")
    if compared is not None and compared.seeds is None:
        lines.append(f"Not tested against {reference.name}: that takes two seeds that both finished.")
    if compared is not None and compared.seeds is not None:
        pair, holm_t = compared.seeds.paired, compared.seeds.holm_t
        better = "better" if pair.mean_difference > 0 else "worse"
        verdict = f"{better}, and by more than chance" if holm_t < 0.05 else "chance is not ruled out"
        lines.append(
            f"Against {reference.name}: {number(pair.mean_difference, 100, 2, '+')} points (95 % interval "
            f"{interval(pair.low, pair.high, sign='+')}; {pair.n} seeds; Holm p of t {p_text(holm_t)}): "
            f"{verdict}."
        )
    return lines


def leaks(family: Family, problems: Problems) -> list[str]:
    """What makes the scores of a family look better than they are, or not comparable: a line each."""
    groups = [group for group in family.groups if group.finished]
    rows = [row for group in groups for row in group.finished]
    noted: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(row.get("split/leak") for row in group.finished):
            noted.setdefault(note or "", []).append(group.name)
    lines = [
        f"Leakage{'' if len(noted) == 1 else f' ({_some(names)})'}: {note}." for note, names in noted.items() if note
    ]
    if conflicts := {_conflicts(row["folder"], problems) for row in _one_of_each_split(rows)} - {0}:
        most = ("up to " if len(conflicts) > 1 else "") + count(max(conflicts), "group")
        lines.append(f"The data: {most} of copies with labels that contradict each other.")
    if shares := score_tables.baselines(groups):
        share, where = f"{100 * shares[0]:.2f} %", ""
        if len(shares) > 1:
            share = f"{100 * shares[0]:.2f} to {100 * shares[-1]:.2f} %"
            where = "; the settings' images differ, and the table has each one's own"
        lines.append(f"For scale: a nearest neighbour, which learns nothing, has a test accuracy of {share}{where}.")
    if missing := [row["test/absent"] for row in rows if row.get("test/absent")]:
        names = listed(name for names in missing for name in names)
        lines.append(f"Of {names} no image was tested in {count(len(missing), 'run')}: scores are of other classes.")
    if len({row.get("split/manifest") for row in rows}) > 1:
        lines.append("Not all settings have the same split (split/manifest): accuracies are of different images.")
    return lines


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _one_of_each_split(rows: Sequence[Row]) -> list[Row]:
    return list({row.get("split/manifest") or row["folder"]: row for row in rows}.values())


def _conflicts(folder: str, problems: Problems) -> int:
    with problems.noted(folder, "audit.json"):
        conflicts = read_mapping(Path(folder) / "audit.json").get("conflicts") or []
        if not isinstance(conflicts, list):
            raise Unusable("says of conflicts what is not a list")
        return len(conflicts)
    return 0


def notes(rows: Sequence[Row], problems: Problems) -> list[str]:
    """What to know of all runs together: versions of the code, damaged files, runs that were repeated."""
    lines = []
    commits: dict[str, int] = Counter(run_tables.code_version(row) for row in rows)
    if len(commits) > 1:
        lines.append(f"The runs are of {len(commits)} versions of the code; at the end is which.")
    if problems.found:
        names = listed(name for of_one in problems.found.values() for name in of_one)
        runs = count(len(problems.found), "run")
        lines.append(f"{runs} with files that cannot be read, or not all of them: {names}. Below is why.")
    doubled = Counter(json.dumps([row["seed"], place], default=str) for row, place in _finished_places(rows))
    if n_doubled := sum(n - 1 for n in doubled.values()):
        lines.append(f"{count(n_doubled, 'run')} of a setting and seed that ran before: the last finished one counts.")
    return lines


def _finished_places(rows: Sequence[Row]) -> list[tuple[Row, Any]]:
    return [(row, settings(row)) for row in rows if row["state"] == "finished"]


def drawn_note(n_drawn: int, n_drawable: int, others: Sequence[str]) -> str:
    """Which settings the charts leave out; `others` have other classes than the rest."""
    lines = []
    if n_drawable > n_drawn:
        how_many = f"{n_drawn} of {n_drawable} settings"
        lines.append(f"Drawn, and told class by class, are {how_many}: the reference, and the best on validation.")
    if others:
        lines.append(f"Not told class by class, as its classes are others: {_some(others)}.")
    return " ".join(lines)
