"""Everything a report says, as plain data: the page and the Markdown say the same."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hqcnn_lab.analysis.runs import Row
from hqcnn_lab.reporting import run_tables, score_tables
from hqcnn_lab.reporting.curves import LINE_COLOURS, Chart, metrics_of, scored_charts, training_charts
from hqcnn_lab.reporting.groups import Family, Group, make_families, settings
from hqcnn_lab.reporting.pictures import CircuitPicture, Gallery, Mistakes, circuits
from hqcnn_lab.reporting.predictions import confusion, read_predictions
from hqcnn_lab.reporting.score_tables import Table
from hqcnn_lab.reporting.scores import SCORE, Against, best_of, compare, reference_of, spread
from hqcnn_lab.reporting.wording import command, count, interval, listed, mean_std, number, p_value, public

N_DRAWN = len(LINE_COLOURS)  # groups of a family in its charts: more cannot be told apart


class ReportError(ValueError):
    """No report can be made of what was asked for; the message is one line."""


@dataclass
class Confusion:
    """Of one group: images by true class (row) and predicted class."""

    group: str
    title: str
    classes: list[str]
    counts: list[list[int]]


@dataclass
class Part:
    """One family's part of the report."""

    id: str
    name: str
    headline: list[str]
    leak: list[str]
    summary: Table
    tests: Table | None = None
    test_notes: list[str] = field(default_factory=list)
    budget: Table | None = None
    budget_notes: list[str] = field(default_factory=list)
    tuning: Table | None = None
    differing: Table | None = None
    colours: dict[str, str] = field(default_factory=dict)
    drawn_note: str = ""
    charts: list[Chart] = field(default_factory=list)
    rocs: list[Chart] = field(default_factory=list)
    zoomed: bool = False
    classes: Table | None = None
    confusions: list[Confusion] = field(default_factory=list)
    mistakes: list[Mistakes] = field(default_factory=list)


@dataclass
class Contents:
    """A report. `lost` are the runs that have not finished; `commands` hold a group's id, its name and its command."""

    title: str
    states: dict[str, int]
    parts: list[Part]
    groups: dict[str, Group]
    circuits: list[CircuitPicture]
    lost: Table
    runs: Table
    commands: list[tuple[str, str, str]]
    versions: Table
    notes: list[str]


def make_contents(rows: Sequence[Row], tops: Sequence[str | Path], reference: str | None = None) -> Contents:
    """Make a report's contents of `load_runs(tops)`; `reference` is a part of the name of the group to compare with.

    Raises ReportError where there is no run, or no such group.
    """
    if not rows:
        raise ReportError(f"{', '.join(map(str, tops))}: holds no run; give run folders, or a folder above them")
    families = make_families(rows)
    if reference is not None and not any(reference_of(family, reference) for family in families):
        names = "; ".join(dict.fromkeys(g.name for family in families for g in family.results if g.values(SCORE)))
        raise ReportError(
            f"--reference {reference}: no finished group's name has that in it; there are: {names or 'none'}"
        )
    groups = {group.id: group for family in families for group in family.groups}
    gallery = Gallery(len(families))
    parts = [_part(family, reference, gallery) for family in families]
    name_of = {row["folder"]: group for group in groups.values() for row in group.runs}
    return Contents(
        title=Path(tops[0]).resolve().name,
        states=dict(Counter(row["state"] for row in rows).most_common()),
        parts=parts,
        groups=groups,
        circuits=circuits(list(groups.values())),
        lost=run_tables.lost(rows, tops, name_of),
        runs=run_tables.all_runs(rows, tops, name_of),
        commands=[
            (
                group.id,
                group.name,
                command(group) or "The overrides are not known; config.yaml holds the configuration.",
            )
            for family in families
            for group in family.results
        ],
        versions=run_tables.versions(rows),
        notes=_notes(rows),
    )


def _part(family: Family, asked: str | None, gallery: Gallery) -> Part:
    read = {row["folder"]: read_predictions(row["folder"]) for group in family.results for row in group.finished}
    tests = {folder: test for folder, test in read.items() if test is not None}
    reference, best = reference_of(family, asked), best_of(family)
    against = compare(family, reference, tests) if reference else []
    drawn = _drawn(family, reference, best)
    colours = {group.id: colour for group, colour in zip(drawn, LINE_COLOURS, strict=False)}
    part = Part(
        family.id,
        family.name,
        _headline(reference, best, against),
        _leaks(family),
        score_tables.summary(family, reference, best, tests),
        budget=run_tables.budget(family),
        budget_notes=run_tables.unequal(family),
        tuning=run_tables.tuning(family),
        differing=run_tables.differing(family),
        colours=colours,
    )
    if against and reference:
        part.tests, part.test_notes = (
            score_tables.differences(reference, against),
            score_tables.test_notes(reference, against),
        )
    n_drawable = sum(bool(group.finished) for group in family.results)
    if n_drawable > len(drawn):
        part.drawn_note = f"Drawn are {len(drawn)} of {n_drawable} settings: the reference, and the best on validation."
    part.charts = training_charts(family.id, drawn, colours, metrics_of(drawn))
    by_group = {g.id: [tests[row["folder"]] for row in g.finished if row["folder"] in tests] for g in drawn}
    classes = next((of_one[0].classes for of_one in by_group.values() if of_one), [])
    by_group = {id_: of_one for id_, of_one in by_group.items() if of_one and all(t.classes == classes for t in of_one)}
    if by_group:
        calibration, part.rocs = scored_charts(family.id, drawn, colours, by_group)
        part.charts[2:2] = calibration
        part.zoomed = part.rocs[0].zoomed
        named = {group.id: group.name for group in drawn}
        part.classes = score_tables.class_scores(named, by_group)
        part.confusions = [
            Confusion(id_, named[id_], classes, confusion(of_one).tolist()) for id_, of_one in by_group.items()
        ]
        first = [group for group in (best, reference) if group is not None]
        part.mistakes = gallery.hang(list({g.id: g for g in [*first, *drawn] if g.id in by_group}.values()), tests)
        for one in part.mistakes:
            one.note = public(one.note)
    return part


def _drawn(family: Family, reference: Group | None, best: Group | None) -> list[Group]:
    """The reference and the best, then by validation; what never finished has no line."""

    def merit(group: Group) -> float:
        values = group.values("val/accuracy")
        return -float(np.mean(values)) if values else 1.0

    first = [group for group in (reference, best) if group is not None]
    rest = sorted((group for group in family.results if group.finished), key=merit)
    kept = list({group.id: group for group in [*first, *rest]}.values())[:N_DRAWN]
    return sorted(kept, key=family.groups.index)


def _headline(reference: Group | None, best: Group | None, against: Sequence[Against]) -> list[str]:
    if best is None or reference is None:
        return [
            "No run has finished yet." if reference is None else "No run has a validation accuracy to be judged by."
        ]
    score = spread(best.values(SCORE))
    lines = [
        f"Best on validation: {best.name}, with a test accuracy of {mean_std(score)} % over "
        f"{count(len(best.values(SCORE)), 'seed')}."
    ]
    found = next((one for one in against if one.group is best), None)
    if found is None and against:
        lines.append(f"It is the reference: {count(len(against), 'other setting')} compared with it below.")
    if found is not None and found.paired is None:
        lines.append(f"Not tested against {reference.name}: that takes two seeds that both finished.")
    if found is not None and found.paired is not None:
        pair = found.paired
        better = "better" if pair.mean_difference > 0 else "worse"
        verdict = f"{better}, and by more than chance" if found.holm_t < 0.05 else "chance is not ruled out"
        lines.append(
            f"Against {reference.name}: {number(pair.mean_difference, 100, 2, '+')} points (95 % interval "
            f"{interval(pair.low, pair.high, sign='+')}; {pair.n} seeds; Holm p of t {p_value(found.holm_t)}): "
            f"{verdict}."
        )
    return lines


def _leaks(family: Family) -> list[str]:
    rows = [row for group in family.groups for row in group.finished]
    lines = [f"Leakage: {note}." for note in dict.fromkeys(row.get("split/leak") for row in rows) if note]
    if conflicts := max((_conflicts(row["folder"]) for row in _one_of_each_split(rows)), default=0):
        lines.append(f"The data: {count(conflicts, 'group')} of copies with labels that contradict each other.")
    baselines = sorted(
        {round(b, 6) for row in rows if isinstance(b := row.get("baseline/nearest_neighbour_accuracy"), float)}
    )
    if baselines:
        text = " or ".join(f"{100 * value:.2f} %" for value in baselines[:3])
        lines.append(f"For scale: a nearest neighbour, which learns nothing, has a test accuracy of {text}.")
    missing = [row["test/absent"] for row in rows if isinstance(row.get("test/absent"), list)]
    if missing:
        names = listed(name for names in missing for name in names)
        lines.append(f"Of {names} no image was tested in {count(len(missing), 'run')}: scores are of other classes.")
    if len({row.get("split/manifest") for row in rows}) > 1:
        lines.append("Not all settings have the same split (split/manifest): accuracies are of different images.")
    return lines


def _one_of_each_split(rows: Sequence[Row]) -> list[Row]:
    return list({row.get("split/manifest"): row for row in rows}.values())


def _conflicts(folder: str) -> int:
    try:
        audit = json.loads((Path(folder) / "audit.json").read_text(encoding="utf-8"))
        return len(audit.get("conflicts") or [])
    except (OSError, ValueError, AttributeError, TypeError):
        return 0


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    commits: dict[str, int] = Counter(run_tables.code_version(row) for row in rows)
    if len(commits) > 1:
        notes.append(f"The runs are of {len(commits)} versions of the code; at the end is which.")
    if n_torn := sum(bool(row["torn"]) for row in rows):
        notes.append(
            f"{count(n_torn, 'run')} with files that cannot be read: {listed(n for row in rows for n in row['torn'])}."
        )
    doubled = Counter(json.dumps([row["seed"], place], default=str) for row, place in _finished_places(rows))
    if n_doubled := sum(n - 1 for n in doubled.values()):
        notes.append(f"{count(n_doubled, 'run')} of a setting and seed that ran before: the last finished one counts.")
    return notes


def _finished_places(rows: Sequence[Row]) -> list[tuple[Row, Any]]:
    return [(row, settings(row)) for row in rows if row["state"] == "finished"]
