"""How far another draw of test images could move an accuracy, or the difference of two."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BootstrapInterval:
    """An accuracy, or a difference of two, and the 2.5th and 97.5th percentile of its resamples."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class BootstrapDifference(BootstrapInterval):
    """`share_at_most_0` of the resamples did not favour a: one-sided, and no p-value under a null hypothesis."""

    share_at_most_0: float


def bootstrap_accuracy(
    correct: np.ndarray, groups: np.ndarray | None = None, n_resamples: int = 10_000, seed: int = 0
) -> BootstrapInterval:
    """The 95 % percentile interval of an accuracy when whole groups of images are drawn again.

    `correct` is bool `[n_images]`, or `[n_runs, n_images]` for the mean of several runs, whose images are drawn
    jointly; `groups` `[n_images]` names each image's patient or group of copies, an image without copies being a group
    of its own (None: all are). Says nothing of other seeds. Not for a handful of groups, where it is too narrow, nor
    for an accuracy of 1, where it has no width: `wilson_interval` has. Raises ValueError for other shapes or one group.
    """
    n_runs, right = _right_per_image(correct, "correct")
    estimate, resamples = _resample(right, groups, n_resamples, seed)
    return BootstrapInterval(estimate / n_runs, *_percentiles(resamples / n_runs))


def bootstrap_difference(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    groups: np.ndarray | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> BootstrapDifference:
    """The 95 % percentile interval of accuracy a − accuracy b on the same images, whole groups drawn again.

    Arguments as in `bootstrap_accuracy`; a and b may have different numbers of runs. Narrower than two intervals by
    themselves, because what is hard for one is mostly hard for the other. Answers whether these networks differ on
    other images, not whether the settings do on other seeds: `compare_paired`.
    """
    (runs_a, right_a), (runs_b, right_b) = (
        _right_per_image(correct_a, "correct_a"),
        _right_per_image(correct_b, "correct_b"),
    )
    if len(right_a) != len(right_b):
        raise ValueError(f"a and b have to be scored on the same images, but have {len(right_a)} and {len(right_b)}")
    # brought to one denominator, so that sums stay integers and 0 is 0
    estimate, resamples = _resample(right_a * runs_b - right_b * runs_a, groups, n_resamples, seed)
    scale = runs_a * runs_b
    return BootstrapDifference(estimate / scale, *_percentiles(resamples / scale), float((resamples <= 0).mean()))


def _right_per_image(correct: np.ndarray, name: str) -> tuple[int, np.ndarray]:
    """The number of runs, and in how many of them each image is right."""
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim not in (1, 2) or correct.size == 0:
        raise ValueError(
            f"{name} has to be bool [n_images] or [n_runs, n_images], but is {correct.dtype} {correct.shape}"
        )
    correct = np.atleast_2d(correct)
    return len(correct), correct.sum(0)


def _resample(values: np.ndarray, groups: np.ndarray | None, n_resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """The mean of integers `[n_images]`, and the means `[n_resamples]` over as many groups drawn with replacement.

    Groups of the same sum and size are interchangeable. So a resample only says how often each such kind is drawn: a
    multinomial over a few kinds instead of one over all groups.
    """
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if groups.shape != values.shape:
        raise ValueError(f"groups has to name one group for each of {len(values)} images, but has shape {groups.shape}")
    members = np.unique(groups, return_inverse=True)[1].ravel()
    sizes = np.bincount(members)
    if len(sizes) < 2:
        raise ValueError("all images are in one group, so there is nothing to draw from: give 2 groups or more")
    sums = np.zeros(len(sizes), dtype=np.int64)
    np.add.at(sums, members, values)
    kinds, n_groups = np.unique(np.stack([sums, sizes], 1), axis=0, return_counts=True)
    counts = np.random.default_rng(seed).multinomial(len(sizes), n_groups / len(sizes), size=n_resamples)
    resampled_sums, resampled_sizes = (counts @ kinds).T
    return float(values.mean()), resampled_sums / resampled_sizes


def _percentiles(resamples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resamples, [2.5, 97.5])
    return float(low), float(high)
