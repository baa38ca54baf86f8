"""Everything a report says, as plain data: the page and the Markdown say the same."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hqcnn_lab.analysis.runs import Row
from hqcnn_lab.reporting.curves import LINE_COLOURS, Chart, metrics_of, scored_charts, training_charts
from hqcnn_lab.reporting.groups import Family, Group, differences, make_families
from hqcnn_lab.reporting.pictures import CircuitPicture, Gallery, Mistakes, circuits
from hqcnn_lab.reporting.predictions import Predictions, auc, calibration_error, confusion, read_predictions, recalls
from hqcnn_lab.reporting.scores import SCORE, Against, best_of, compare, level_of, on_images, reference_of, spread
from hqcnn_lab.reporting.wording import (
    NONE,
    command,
    count,
    interval,
    listed,
    mean_std,
    number,
    p_value,
    place_of,
    public,
)

N_DRAWN = len(LINE_COLOURS)  # groups of a family in its charts: more cannot be told apart


class ReportError(ValueError):
    """No report can be made of what was asked for; the message is one line."""


@dataclass
class Table:
    """Texts by row, under `head`; `groups` holds the id of each row's group. `n_left` columns are words, not figures."""

    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    caption: str = ""
    n_left: int = 1
    marked: dict[int, str] = field(default_factory=dict)

    def add(self, group: str, *cells: str, mark: str = "") -> None:
        if mark:
            self.marked[len(self.rows)] = mark
        self.rows.append(list(cells))
        self.groups.append(group)


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
        raise ReportError(f"--reference {reference}: no finished group's name has that in it; there are: {names or 'none'}")
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
        lost=_lost(rows, tops, name_of),
        runs=_runs(rows, tops, name_of),
        commands=[
            (group.id, group.name, command(group) or "The overrides are not known; config.yaml holds the configuration.")
            for family in families
            for group in family.results
        ],
        versions=_versions(rows),
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
        _summary(family, reference, best, tests),
        budget=_budget(family),
        budget_notes=_unequal(family),
        tuning=_tuning(family),
        differing=_differing(family),
        colours=colours,
    )
    if against and reference:
        part.tests, part.test_notes = _tests(reference, against), _test_notes(reference, against)
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
        part.classes = _classes(named, by_group)
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
        return ["No run has finished yet." if reference is None else "No run has a validation accuracy to be judged by."]
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
        verdict = "more than chance" if found.holm_t < 0.05 else "chance is not ruled out"
        lines.append(
            f"Against {reference.name}: {number(pair.mean_difference, 100, 2, '+')} points (95 % interval "
            f"{interval(pair.low, pair.high, sign='+')}; {pair.n} seeds; Holm p of t {p_value(found.holm_t)}): {verdict}."
        )
    return lines


def _leaks(family: Family) -> list[str]:
    rows = [row for group in family.groups for row in group.finished]
    lines = [f"Leakage: {note}." for note in dict.fromkeys(row.get("split/leak") for row in rows) if note]
    if conflicts := max((_conflicts(row["folder"]) for row in _one_of_each_split(rows)), default=0):
        lines.append(f"The data: {count(conflicts, 'group')} of copies with labels that contradict each other.")
    baselines = sorted({round(b, 6) for row in rows if isinstance(b := row.get("baseline/nearest_neighbour_accuracy"), float)})
    if baselines:
        text = " or ".join(f"{100 * value:.2f} %" for value in baselines[:3])
        lines.append(f"For scale: a nearest neighbour, which learns nothing, has a test accuracy of {text}.")
    if not rows:
        return []
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


def _summary(family: Family, reference: Group | None, best: Group | None, tests: Mapping[str, Predictions]) -> Table:
    level = level_of(family.results)
    to_level = f"epochs to {level.rpartition('_')[2]} %" if level else "epochs to a level"
    head = ["setting", "seeds", "test %", "95 % over seeds", "95 % over images", "validation %", "training loss"]
    table = Table([*head, to_level, "seconds"])
    table.caption = (
        "Mean ± standard deviation over the finished seeds. Over seeds: where the mean of other seeds would lie (t). Over "
        "images: where these networks would score on other test images of the kind (bootstrap of whole groups of copies "
        "or patients). Epochs: median of the runs that reached that validation accuracy, with how many did. Seconds: of "
        "training, a run."
    )
    for group in family.results:
        score, images = spread(group.values(SCORE)), on_images(group, tests)
        lost = len({row["seed"] for row in group.runs} - {row["seed"] for row in group.finished})
        marks = ["reference"] * (group is reference) + ["best on validation"] * (group is best)
        table.add(
            group.id,
            group.name,
            str(len(group.finished)) + (f" of {len(group.finished) + lost}" if lost else ""),
            mean_std(score),
            interval(score.low, score.high) if score else NONE,
            interval(images.low, images.high) if images else NONE,
            mean_std(spread(group.values("val/accuracy"))),
            mean_std(spread(group.values("train/loss")), 1, 3),
            _reached(group, level),
            mean_std(spread(group.values("seconds/training")), 1, 1),
            mark=", ".join(marks),
        )
    return table


def _reached(group: Group, level: str | None) -> str:
    if level is None or not group.finished:
        return NONE
    times = [row[level] for row in group.finished if row.get(level) is not None]
    return f"{np.median(times):g} ({len(times)} of {len(group.finished)})" if times else "never"


def _tests(reference: Group, against: Sequence[Against]) -> Table:
    head = [f"against {reference.name}", "seeds", "difference, points", "95 % over seeds", "Holm p: t", "Wilcoxon"]
    table = Table([*head, "permutation", "g", "seeds needed", "on other images (95 %)"])
    table.caption = (
        f"Each setting minus {reference.name}, seed by seed; above 0 it is better. The paired t is the primary test; p "
        "after Holm over all settings of this table. g is the mean difference in units of its scatter. On other images: "
        "the same difference if the test images were drawn again, networks as they are."
    )
    for one in against:
        pair, images = one.paired, one.images
        cells = [NONE] * 8
        if pair is not None:
            cells = [
                str(pair.n),
                number(pair.mean_difference, 100, 2, "+"),
                interval(pair.low, pair.high, sign="+"),
                *(p_value(p) for p in (one.holm_t, one.holm_wilcoxon, one.holm_permutation)),
                number(pair.hedges_g, 1, 2, "+"),
                NONE if pair.detectable_seeds is None else f"{pair.detectable_seeds:,}",
            ]
        on_others = NONE
        if images is not None:
            on_others = f"{number(images.estimate, 100, 2, '+')} ({interval(images.low, images.high, sign='+')})"
        table.add(one.group.id, one.group.name, *cells, on_others, mark="more than chance" * (one.holm_t < 0.05))
    return table


def _test_notes(reference: Group, against: Sequence[Against]) -> list[str]:
    paired = [one for one in against if one.paired is not None]
    notes = []
    if paired:
        n = min(one.paired.n for one in paired)
        least = min(len(paired) * 2 / 2**n, 1)
        notes.append(
            f"With {n} seeds, permutation and Wilcoxon cannot give a p below {2 / 2**n:.3g}, {least:.3g} after Holm over "
            f"{len(paired)}, whatever the data: there, a large p is no proof of a tie."
        )
    if left := [one.group.name for one in against if one.paired is None]:
        more = f" and {len(left) - 4} more" if len(left) > 4 else ""
        notes.append(f"Not tested, for want of two seeds in common with {reference.name}: {'; '.join(left[:4])}{more}.")
    return notes


def _budget(family: Family) -> Table:
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


def _unequal(family: Family) -> list[str]:
    """What makes the comparison unfair, in lines."""
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


def _tuning(family: Family) -> Table | None:
    tuning = [group for group in family.groups if group.settings.get("stage") == "tune"]
    if not tuning or family.results is family.groups:
        return None
    table = Table(["setting", "seeds", "validation %", "validation loss"])
    table.caption = "Runs that chose the learning rates, on seeds kept for that. Test scores play no part."
    for group in tuning:
        cells = mean_std(spread(group.values("val/accuracy"))), mean_std(spread(group.values("val/loss")), 1, 3)
        table.add(group.id, group.name, str(len(group.finished)), *cells)
    return table


def _differing(family: Family) -> Table | None:
    found = differences(family.results)
    if not found:
        return None
    table = Table(["setting", *(key for key in found)], n_left=1 + len(found))
    for i, group in enumerate(family.results):
        table.add(group.id, group.name, *(public(NONE if v[i] is None else str(v[i])) for v in found.values()))
    table.caption = "Every key of the resolved configurations that is not the same in all settings; seeds left out."
    return table


def _classes(named: Mapping[str, str], by_group: Mapping[str, Sequence[Predictions]]) -> Table:
    classes = next(iter(by_group.values()))[0].classes
    table = Table(["setting", *(f"recall: {name}" for name in classes), *(f"AUC: {name}" for name in classes), "ECE %"])
    for id_, of_one in by_group.items():
        recall = np.array([recalls(test) for test in of_one])
        areas = np.array([[auc(t.labels == i, t.probabilities[:, i]) for i in range(len(classes))] for t in of_one])
        cells = [mean_std(spread(_finite(column)), 100, 1) for column in recall.T]
        cells += [mean_std(spread(_finite(column)), 1, 3) for column in areas.T]
        table.add(id_, named[id_], *cells, mean_std(spread([calibration_error(test) for test in of_one]), 100, 1))
    table.caption = (
        "Mean ± standard deviation over seeds. Recall: the share of a class's test images, in percent, that is found. AUC: "
        "how often an image of the class gets a higher probability for it than one of another. ECE: the expected gap "
        "between confidence and accuracy (10 bins of equal width)."
    )
    return table


def _finite(values: np.ndarray) -> list[float]:
    return values[np.isfinite(values)].tolist()


_REASONS = {
    "interrupted": "told to end, or killed; its process is gone",
    "running": "going on at the time of this report",
    "failed": "not known",
    "diverged": "not known",
}


def _lost(rows: Sequence[Row], tops: Sequence[str | Path], group_of: Mapping[str, Group]) -> Table:
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


def _runs(rows: Sequence[Row], tops: Sequence[str | Path], group_of: Mapping[str, Group]) -> Table:
    table = Table(["run", "setting", "state", "seed", "test %", "validation %", "training loss", "epochs", "seconds"], n_left=3)
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


def _versions(rows: Sequence[Row]) -> Table:
    table = Table(["what", "versions (runs)"], n_left=2)
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("versions/"))
    for key in ("python", "device", *keys):
        counts = Counter(str(row[key]) for row in rows if row.get(key) is not None)
        if counts:
            table.add("", key.removeprefix("versions/"), ", ".join(f"{value} ({n})" for value, n in counts.most_common()))
    commits = Counter(_commit(row) for row in rows)
    table.add("", "code", ", ".join(f"{commit} ({n})" for commit, n in commits.most_common()))
    return table


def _commit(row: Row) -> str:
    return "unknown" if not row["commit"] else str(row["commit"])[:12] + " with changes" * bool(row["changed"])


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    commits: dict[str, int] = Counter(_commit(row) for row in rows)
    if len(commits) > 1:
        notes.append(f"The runs are of {len(commits)} versions of the code; at the end is which.")
    if n_torn := sum(bool(row["torn"]) for row in rows):
        notes.append(f"{count(n_torn, 'run')} with files that cannot be read: {listed(n for row in rows for n in row['torn'])}.")
    doubled = Counter(json.dumps([row["seed"], place], default=str) for row, place in _finished_places(rows))
    if n_doubled := sum(n - 1 for n in doubled.values()):
        notes.append(f"{count(n_doubled, 'run')} of a setting and seed that ran before: the last finished one counts.")
    return notes


def _finished_places(rows: Sequence[Row]) -> list[tuple[Row, Any]]:
    from hqcnn_lab.reporting.groups import settings

    return [(row, settings(row)) for row in rows if row["state"] == "finished"]
