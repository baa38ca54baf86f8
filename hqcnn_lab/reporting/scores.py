"""The figures of each group, and what they say against the reference."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hqcnn_lab.analysis.arms import holm
from hqcnn_lab.analysis.bootstrap import (
    BootstrapDifference,
    BootstrapInterval,
    bootstrap_accuracy,
    bootstrap_difference,
)
from hqcnn_lab.analysis.comparison import read_groups
from hqcnn_lab.analysis.paired import PairedComparison, compare_paired
from hqcnn_lab.reporting.groups import Family, Group
from hqcnn_lab.reporting.predictions import Predictions
from hqcnn_lab.reporting.problems import Problems

SCORE = "test/accuracy"

ImageGroups = dict[str, np.ndarray | None]
"""By a group's id, which of its test images are drawn together `[n_images]`; None: each alone."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds: mean, standard deviation (NaN for one seed), and the t interval of the mean."""

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Against:
    """A group against the reference: seed by seed (None: no two seeds in common), and on other images (None: of other
    images, or without predictions)."""

    group: Group
    paired: PairedComparison | None
    holm_t: float
    holm_wilcoxon: float
    holm_permutation: float
    images: BootstrapDifference | None


def spread(values: Sequence[float]) -> Spread | None:
    """None where there is no value."""
    if not values:
        return None
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Spread(n, mean, math.nan, math.nan, math.nan)
    std = statistics.stdev(values)
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Spread(n, mean, std, mean - half, mean + half)


def reference_of(family: Family, asked: str | None) -> Group | None:
    """The group whose name is, or holds, what was asked for; otherwise the first that two seeds finished of, or one."""
    with_score = [group for group in family.results if group.values(SCORE)]
    if asked is not None:
        holding = [group for group in with_score if asked in group.name]
        return next((group for group in holding if group.name == asked), holding[0] if holding else None)
    return next((g for g in with_score if len(g.values(SCORE)) > 1), with_score[0] if with_score else None)


def best_of(family: Family) -> Group | None:
    """The highest mean accuracy on validation: test images have no say. Ties go to the first."""
    known = [group for group in family.results if group.values("val/accuracy") and group.values(SCORE)]
    return max(known, key=lambda group: round(statistics.fmean(group.values("val/accuracy")), 9), default=None)


def level_of(groups: Sequence[Group]) -> str | None:
    """`convergence/epochs_to_<level>` of the highest level that half of the finished runs reached, or the lowest."""
    runs = [row for group in groups for row in group.finished]
    keys = sorted(
        {key for row in runs for key in row if re.fullmatch(r"convergence/epochs_to_\d+(\.\d+)?", key)},
        key=lambda key: float(key.rpartition("_")[2]),
    )
    reached = [key for key in keys if 2 * sum(row.get(key) is not None for row in runs) >= len(runs)]
    return reached[-1] if reached else keys[0] if keys else None


def image_groups_of(family: Family, tests: Mapping[str, Predictions], problems: Problems) -> ImageGroups:
    """Of each result of which it is known."""
    known: ImageGroups = {}
    for group in family.results:
        folder = group.finished[0]["folder"] if group.finished else None
        if folder in tests:
            with problems.noted(folder, "split_manifest.csv"):
                known[group.id] = read_groups(folder, tests[folder].files)
    return known


def on_images(group: Group, tests: Mapping[str, Predictions], drawn: ImageGroups) -> BootstrapInterval | None:
    """How far other test images could move the group's mean accuracy."""
    try:
        _, right = _correct(group, tests)
        return bootstrap_accuracy(right, drawn[group.id])
    except (KeyError, ValueError):
        return None


def compare(family: Family, reference: Group, tests: Mapping[str, Predictions], drawn: ImageGroups) -> list[Against]:
    """Every other result of the family against the reference, with Holm over all that could be paired."""
    mine = {row["seed"]: row[SCORE] for row in reference.finished if _is_score(row.get(SCORE))}
    paired: dict[str, PairedComparison] = {}
    others = [group for group in family.results if group is not reference]
    for group in others:
        theirs = {row["seed"]: row[SCORE] for row in group.finished if _is_score(row.get(SCORE))}
        seeds = [seed for seed in mine if seed in theirs]
        if len(seeds) > 1:
            paired[group.id] = compare_paired([theirs[s] for s in seeds], [mine[s] for s in seeds])
    adjusted = {
        test: holm({key: getattr(comparison, test) for key, comparison in paired.items()})
        for test in ("p_t", "p_wilcoxon", "p_permutation")
    }
    return [
        Against(
            group,
            paired.get(group.id),
            *(adjusted[test].get(group.id, math.nan) for test in ("p_t", "p_wilcoxon", "p_permutation")),
            _difference_on_images(group, reference, tests, drawn),
        )
        for group in others
    ]


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _correct(group: Group, tests: Mapping[str, Predictions]) -> tuple[list[str], np.ndarray]:
    read = [tests[row["folder"]] for row in group.finished if row["folder"] in tests]
    if not read or len(read) < len(group.finished):
        raise KeyError(group.id)
    images = list(zip(read[0].files, read[0].labels.tolist(), strict=True))
    if any(list(zip(test.files, test.labels.tolist(), strict=True)) != images for test in read):
        raise ValueError("other images")
    return read[0].files, np.stack([test.correct for test in read])


def _difference_on_images(
    group: Group, reference: Group, tests: Mapping[str, Predictions], drawn: ImageGroups
) -> BootstrapDifference | None:
    try:
        (files, right), (known, expected) = _correct(group, tests), _correct(reference, tests)
        if files != known:
            return None
        return bootstrap_difference(right, expected, drawn[reference.id])
    except (KeyError, ValueError):
        return None
