"""The tables of scores: each setting's own, its differences from the reference, its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hqcnn_lab.analysis.calibration import N_BINS, reliability
from hqcnn_lab.analysis.p_value import p_text
from hqcnn_lab.analysis.predictions import Predictions, auc, recalls
from hqcnn_lab.analysis.spread import spread
from hqcnn_lab.reporting.groups import Family, Group
from hqcnn_lab.reporting.scores import SCORE, Against, ImageGroups, level_of, on_images
from hqcnn_lab.reporting.wording import NONE, interval, mean_std, number

BASELINE = "baseline/nearest_neighbour_accuracy"


@dataclass
class Table:
    """Texts by row, under `head`; `groups` holds the id of each row's group, `marked` a word for rows that stand out.

    The first `n_left` columns are words, the others figures.
    """

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


def summary(
    family: Family,
    reference: Group | None,
    best: Group | None,
    tests: Mapping[str, Predictions],
    image_groups: ImageGroups,
) -> Table:
    level = level_of(family.results)
    to_level = f"epochs to {level.rpartition('_')[2]} %" if level else "epochs to a level"
    head = ["setting", "seeds", "test %", "95 % over seeds", "95 % over images", "validation %", "training loss"]
    table = Table([*head, to_level, "seconds"])
    differs = len(baselines(family.groups)) > 1
    table.head += ["nearest neighbour %"] * differs
    table.caption = (
        "Mean ± standard deviation over the finished seeds. Over seeds: where the mean of other seeds would lie (t). "
        "Over images: where these networks would score on other test images of the kind (bootstrap of whole groups of "
        "copies or patients). Epochs: median of the runs that reached that validation accuracy, with how many did. "
        "Seconds: of training, a run."
    )
    if differs:
        table.caption += " Nearest neighbour: the test accuracy of what learns nothing, on each setting's own images."
    for group in family.results:
        score, images = spread(group.values(SCORE)), on_images(group, tests, image_groups)
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
            *[mean_std(spread(group.values(BASELINE)))] * differs,
            mark=", ".join(marks),
        )
    return table


def baselines(groups: Sequence[Group]) -> list[float]:
    """The accuracies of a nearest neighbour that finished runs note, each once, the lowest first."""
    return sorted({round(value, 6) for group in groups for value in group.values(BASELINE)})


def _reached(group: Group, level: str | None) -> str:
    if level is None or not group.finished:
        return NONE
    times = [row[level] for row in group.finished if row.get(level) is not None]
    return f"{np.median(times):g} ({len(times)} of {len(group.finished)})" if times else "never"


def differences(reference: Group, against: Sequence[Against]) -> Table:
    head = [f"against {reference.name}", "seeds", "difference, points", "95 % over seeds", "Holm p: t", "Wilcoxon"]
    table = Table([*head, "permutation", "g", "seeds needed", "on other images (95 %)"])
    table.caption = (
        f"Each setting minus {reference.name}, seed by seed; above 0 it is better. The paired t is the primary test; "
        "p after Holm over all settings of this table; below 0.05 the setting is called better or worse. g is the mean "
        "difference in units of its scatter. On other images: the same difference if the test images were drawn again, "
        "networks as they are."
    )
    for one in against:
        seeds, images = one.seeds, one.images
        cells = [NONE] * 8
        if seeds is not None:
            pair = seeds.paired
            cells = [
                str(pair.n),
                number(pair.mean_difference, 100, 2, "+"),
                interval(pair.low, pair.high, sign="+"),
                *(p_text(p) for p in (seeds.holm_t, seeds.holm_wilcoxon, seeds.holm_permutation)),
                number(pair.hedges_g, 1, 2, "+"),
                NONE if pair.detectable_seeds is None else f"{pair.detectable_seeds:,}",
            ]
        on_others = NONE
        if images is not None:
            on_others = f"{number(images.estimate, 100, 2, '+')} ({interval(images.low, images.high, sign='+')})"
        table.add(one.group.id, one.group.name, *cells, on_others, mark=_verdict(one))
    return table


def _verdict(one: Against) -> str:
    if one.seeds is None or not one.seeds.holm_t < 0.05:
        return ""
    return "better" if one.seeds.paired.mean_difference > 0 else "worse"


def test_notes(reference: Group, against: Sequence[Against]) -> list[str]:
    counts = [one.seeds.paired.n for one in against if one.seeds is not None]
    notes = []
    if counts:
        n, most = min(counts), max(counts)
        least = min(len(counts) * 2 / 2**n, 1)
        fewest = ", the fewest of this table" if n < most else ""
        notes.append(
            f"With {n} seeds{fewest}, permutation and Wilcoxon cannot give a p below {2 / 2**n:.3g}, {least:.3g} after "
            f"Holm over {len(counts)}, whatever the data: there, a large p is no proof of a tie."
        )
    if left := [one.group.name for one in against if one.seeds is None]:
        more = f" and {len(left) - 4} more" if len(left) > 4 else ""
        notes.append(f"Not tested, for want of two seeds in common with {reference.name}: {'; '.join(left[:4])}{more}.")
    return notes


def class_scores(named: Mapping[str, str], by_group: Mapping[str, Sequence[Predictions]]) -> Table:
    classes = next(iter(by_group.values()))[0].classes
    table = Table(["setting", *(f"recall: {name}" for name in classes), *(f"AUC: {name}" for name in classes), "ECE %"])
    for id_, of_one in by_group.items():
        recall = np.array([recalls(test) for test in of_one])
        areas = np.array([[auc(t.labels == i, t.probabilities[:, i]) for i in range(len(classes))] for t in of_one])
        cells = [mean_std(spread(_finite(column)), 100, 1) for column in recall.T]
        cells += [mean_std(spread(_finite(column)), 1, 3) for column in areas.T]
        errors = [reliability(test.probabilities.max(1), test.correct).error for test in of_one]
        table.add(id_, named[id_], *cells, mean_std(spread(errors), 100, 1))
    table.caption = (
        "Mean ± standard deviation over seeds. Recall: the share of a class's test images, in percent, that is found. "
        "AUC: how often an image of the class gets a higher probability for it than one of another. ECE: the expected "
        f"gap between confidence and accuracy ({N_BINS} bins of equal width)."
    )
    return table


def _finite(values: np.ndarray) -> list[float]:
    return values[np.isfinite(values)].tolist()
