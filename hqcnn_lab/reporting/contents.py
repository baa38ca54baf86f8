"""Everything a report says, as plain data: the page and the Markdown say the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hqcnn_lab.analysis.predictions import Predictions, confusion, read_predictions
from hqcnn_lab.analysis.row import Row
from hqcnn_lab.analysis.spread import spread
from hqcnn_lab.figures.chart import Chart
from hqcnn_lab.reporting import finding, run_tables, score_tables
from hqcnn_lab.reporting.curves import LINE_COLOURS, metrics_of, scored_charts, training_charts
from hqcnn_lab.reporting.groups import Family, Group, make_families
from hqcnn_lab.reporting.optimizer_story import optimizer_stories
from hqcnn_lab.reporting.pictures import CircuitPicture, Gallery, Mistakes, circuits
from hqcnn_lab.reporting.problems import Problems
from hqcnn_lab.reporting.score_tables import Table
from hqcnn_lab.reporting.scores import (
    SCORE,
    best_of,
    compare,
    image_groups_of,
    reference_of,
)
from hqcnn_lab.reporting.wording import command, mean_std, public

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
    stories: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    rocs: list[Chart] = field(default_factory=list)
    zoomed: bool = False
    classes: Table | None = None
    confusions: list[Confusion] = field(default_factory=list)
    mistakes: list[Mistakes] = field(default_factory=list)


@dataclass
class Contents:
    """A report. `lost` are the runs that have not finished, `unusable` the files that could not be used, or not wholly;
    `commands` hold a group's id, its name and its command."""

    title: str
    states: dict[str, int]
    parts: list[Part]
    groups: dict[str, Group]
    circuits: list[CircuitPicture]
    lost: Table
    unusable: Table
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
    gallery, problems = Gallery(len(families)), Problems(rows)
    parts = [_part(family, reference, gallery, problems) for family in families]
    name_of = {row["folder"]: group for group in groups.values() for row in group.runs}
    pictures, undrawn = circuits(list(groups.values()))
    return Contents(
        title=Path(tops[0]).resolve().name,
        states=dict(Counter(row["state"] for row in rows).most_common()),
        parts=parts,
        groups=groups,
        circuits=pictures,
        lost=run_tables.lost(rows, tops, name_of),
        unusable=run_tables.unusable(problems, tops, name_of),
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
        notes=[*finding.notes(rows, problems), *undrawn],
    )


def _part(family: Family, reference_name: str | None, gallery: Gallery, problems: Problems) -> Part:
    tests = _predictions_of(family, problems)
    reference, best = reference_of(family, reference_name), best_of(family)
    image_groups = image_groups_of(family, tests, problems)
    against = compare(family, reference, tests, image_groups) if reference else []
    charted = _charted(family, reference, best)
    colours = {group.id: colour for group, colour in zip(charted, LINE_COLOURS, strict=False)}
    part = Part(
        family.id,
        family.name,
        finding.headline(reference, best, against),
        finding.leaks(family, problems),
        score_tables.summary(family, reference, best, tests, image_groups),
        budget=run_tables.budget(family),
        budget_notes=run_tables.unequal(family),
        tuning=run_tables.tuning(family),
        differing=run_tables.differing(family),
        colours=colours,
    )
    if best and len(score_tables.baselines(family.groups)) > 1:
        neighbour = mean_std(spread(best.values(score_tables.BASELINE)))
        part.headline.append(f"On its images a nearest neighbour, which learns nothing, comes to {neighbour} %.")
    if against and reference:
        part.tests, part.test_notes = (
            score_tables.differences(reference, against),
            score_tables.test_notes(reference, against),
        )
    logged = metrics_of(charted, problems)
    part.charts = training_charts(family.id, charted, colours, logged)
    part.stories = optimizer_stories(charted, logged)
    by_group = {g.id: [tests[row["folder"]] for row in g.finished if row["folder"] in tests] for g in charted}
    classes = _most_common([test.classes for of_one in by_group.values() for test in of_one])
    others = [g.name for g in charted if any(test.classes != classes for test in by_group[g.id])]
    by_group = {g.id: by_group[g.id] for g in charted if by_group[g.id] and g.name not in others}
    part.drawn_note = finding.drawn_note(len(charted), sum(bool(group.finished) for group in family.results), others)
    if by_group:
        calibration, part.rocs = scored_charts(family.id, charted, colours, by_group)
        part.charts[2:2] = calibration
        part.zoomed = part.rocs[0].zoomed
        named = {group.id: group.name for group in charted}
        part.classes = score_tables.class_scores(named, by_group)
        part.confusions = [
            Confusion(id_, named[id_], classes, confusion(of_one).tolist()) for id_, of_one in by_group.items()
        ]
        first = [group for group in (best, reference) if group is not None]
        part.mistakes = gallery.hang(list({g.id: g for g in [*first, *charted] if g.id in by_group}.values()), tests)
        for one in part.mistakes:
            one.note = public(one.note)
    return part


def _predictions_of(family: Family, problems: Problems) -> dict[str, Predictions]:
    """By folder, of the finished runs that have them."""
    tests = {}
    for folder in (row["folder"] for group in family.results for row in group.finished):
        with problems.noted(folder, "predictions.csv"):
            tests[folder] = read_predictions(folder)
    return {folder: test for folder, test in tests.items() if test is not None}


def _most_common(classes: Sequence[list[str]]) -> list[str]:
    """One run whose classes are others does not decide for all."""
    counts = Counter(map(tuple, classes))
    return list(counts.most_common(1)[0][0]) if counts else []


def _charted(family: Family, reference: Group | None, best: Group | None) -> list[Group]:
    """The reference and the best, then by validation; what never finished has no line."""

    def merit(group: Group) -> float:
        values = group.values("val/accuracy")
        return -float(np.mean(values)) if values else 1.0

    first = [group for group in (reference, best) if group is not None]
    rest = sorted((group for group in family.results if group.finished), key=merit)
    kept = list({group.id: group for group in [*first, *rest]}.values())[:N_DRAWN]
    return sorted(kept, key=family.groups.index)
