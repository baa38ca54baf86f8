"""The figures of each group, and what they say against the reference."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hqcnn_lab.analysis.arms import ArmComparison, correct_all
from hqcnn_lab.analysis.bootstrap import (
    BootstrapDifference,
    BootstrapInterval,
    bootstrap_accuracy,
    bootstrap_difference,
)
from hqcnn_lab.analysis.paired import compare_paired
from hqcnn_lab.analysis.predictions import Predictions, read_groups
from hqcnn_lab.analysis.row import is_figure
from hqcnn_lab.reporting.groups import Family, Group
from hqcnn_lab.reporting.problems import Problems

SCORE = "test/accuracy"

ImageGroups = dict[str, np.ndarray | None]
"""By a group's id: the group of copies, or the patient, of each test image `[n_images]`; None: each image alone."""


@dataclass(frozen=True)
class Against:
    """A group against the reference: seed by seed (None: no two seeds in common), and on other images (None: of other
    images, or without predictions)."""

    group: Group
    seeds: ArmComparison | None
    images: BootstrapDifference | None


def reference_of(family: Family, name: str | None) -> Group | None:
    """The group whose name is, or holds, `name`; otherwise the first that two seeds finished of, or one."""
    with_score = [group for group in family.results if group.values(SCORE)]
    if name is not None:
        holding = [group for group in with_score if name in group.name]
        return next((group for group in holding if group.name == name), holding[0] if holding else None)
    return next((g for g in with_score if len(g.values(SCORE)) > 1), with_score[0] if with_score else None)


def best_of(family: Family) -> Group | None:
    """The group with the highest mean accuracy on validation, never on test. Of equal groups, the first."""
    scored = [group for group in family.results if group.values("val/accuracy") and group.values(SCORE)]
    return max(scored, key=lambda group: round(statistics.fmean(group.values("val/accuracy")), 9), default=None)


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
    """For every result whose split manifest can be read."""
    image_groups: ImageGroups = {}
    for group in family.results:
        folder = group.finished[0]["folder"] if group.finished else None
        if folder is not None and folder in tests:
            with problems.noted(folder, "split_manifest.csv"):
                image_groups[group.id] = read_groups(folder, tests[folder].files)
    return image_groups


def on_images(group: Group, tests: Mapping[str, Predictions], image_groups: ImageGroups) -> BootstrapInterval | None:
    """How far other test images could move the group's mean accuracy."""
    try:
        _, right = _correct(group, tests)
        return bootstrap_accuracy(right, image_groups[group.id])
    except (KeyError, ValueError):
        return None


def compare(
    family: Family, reference: Group, tests: Mapping[str, Predictions], image_groups: ImageGroups
) -> list[Against]:
    """Every other result of the family against the reference, with Holm over all that could be paired."""
    others = [group for group in family.results if group is not reference]
    reference_scores = _scores_by_seed(reference)
    paired = {}
    for group in others:
        scores = _scores_by_seed(group)
        common = [seed for seed in reference_scores if seed in scores]
        if len(common) > 1:
            paired[group.id] = compare_paired(
                [scores[seed] for seed in common], [reference_scores[seed] for seed in common]
            )
    compared = {one.arm: one for one in correct_all(paired, reference.id)}
    return [
        Against(group, compared.get(group.id), _difference_on_images(group, reference, tests, image_groups))
        for group in others
    ]


def _scores_by_seed(group: Group) -> dict[int, float]:
    return {row["seed"]: row[SCORE] for row in group.finished if is_figure(row.get(SCORE))}


def _correct(group: Group, tests: Mapping[str, Predictions]) -> tuple[list[str], np.ndarray]:
    read = [tests[row["folder"]] for row in group.finished if row["folder"] in tests]
    if not read or len(read) < len(group.finished):
        raise KeyError(group.id)
    images = list(zip(read[0].files, read[0].labels.tolist(), strict=True))
    if any(list(zip(test.files, test.labels.tolist(), strict=True)) != images for test in read):
        raise ValueError("other images")
    return read[0].files, np.stack([test.correct for test in read])


def _difference_on_images(
    group: Group, reference: Group, tests: Mapping[str, Predictions], image_groups: ImageGroups
) -> BootstrapDifference | None:
    try:
        (files, right), (reference_files, reference_right) = _correct(group, tests), _correct(reference, tests)
        if files != reference_files:
            return None
        return bootstrap_difference(right, reference_right, image_groups[reference.id])
    except (KeyError, ValueError):
        return None
