"""Cut a data set into training, validation and test parts. Seeds here are the data's, never the training's."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hqcnn_lab.data.limits import SPLITS

TEST_FRACTION = 0.2  # of the paper's random split, and of ours by group and by patient


class Split(NamedTuple):
    """Indices of the images in each part."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def cut(
    kind: str,
    labels: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    halves: np.ndarray,
    classes: Sequence[str],
    val_fraction: float,
    seed: int,
    fold: int = 0,
    n_folds: int = 5,
) -> Split:
    """Cut the images, given by `labels`, `groups` of copies, `patients` ("" unknown) and `halves`, each `[n]`.

    `official`: the published halves; copies may sit on both sides. `random`: the paper's stratified 80/20 by image, the
    only one whose validation part is cut by image too. `grouped`: 80/20 with no group on two sides, the halves pooled.
    `patient`: 80/20 with no patient on two sides. `kfold`: fold `fold` of `n_folds` is the test part, by patient where
    patients are known and by group where not; over the folds every image is in test once.
    Raises `ValueError`, one line, where a class has too few groups or patients for that.
    """
    if kind == "random":
        return split_images(labels, stratified(labels, TEST_FRACTION, seed), val_fraction, seed)
    if kind == "official":
        if not {"Training", "Testing"} <= set(halves.tolist()):
            raise ValueError("this data set has no published halves, Training and Testing, to split by")
        return split_images(labels, halves == "Testing", val_fraction, seed, groups)
    if kind not in SPLITS:
        raise ValueError(f"there is no split {kind!r}; one of {', '.join(SPLITS)}")
    by_patient = kept_together(kind, patients) == "patient"
    if by_patient and (patients == "").any():
        raise ValueError(
            f"{(patients == '').sum()} of {len(patients)} images have no patient id, a split by patient needs all"
        )
    units, name = (patients, "patients") if by_patient else (groups, "groups of near-duplicates")
    if kind == "kfold":
        if n_folds < 2 or not 0 <= fold < n_folds:
            raise ValueError(f"fold {fold} of {n_folds}: there have to be 2 folds at least, and they count from 0")
        n_needed, purpose = max(n_folds, 3), f"{n_folds} folds need {max(n_folds, 3)}"
    else:
        n_needed, purpose = 3, f"a split by {'patient' if by_patient else 'group'} needs 3"
    unit_labels = _by_group(labels, units)[2]
    for label, class_name in enumerate(classes):
        if (n := (unit_labels == label).sum()) < n_needed:
            raise ValueError(f"class {class_name} has {n} {name}, {purpose} at least: one or more for each part")
    if kind == "kfold":
        in_test = folds(labels, units, n_folds, seed) == fold
    else:
        in_test = stratified(labels, TEST_FRACTION, seed, units, n_kept=2)
    return split_images(labels, in_test, val_fraction, seed, units)


def kept_together(kind: str, patients: np.ndarray) -> str:
    """What a split of this kind cuts nowhere: "patient", "group" of copies, or "" where it promises neither."""
    if kind == "kfold":
        return "patient" if (patients != "").any() else "group"
    return {"patient": "patient", "grouped": "group"}.get(kind, "")


def stratified(
    labels: np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None, n_kept: int = 1
) -> np.ndarray:
    """Return a boolean mask that draws `fraction` of the images of every class, in whole `groups` where given.

    A group counts for the class most of its images have. Each class gives one group at least and keeps `n_kept` where
    it can; a class of a single group keeps that. The share is met to within the smallest group left over. Groups larger
    than the share are passed over while others fit, so they tend to stay undrawn.
    """
    rng = np.random.default_rng(seed)
    inverse, sizes, group_labels = _by_group(labels, np.arange(len(labels)) if groups is None else groups)
    is_drawn = np.zeros(len(sizes), dtype=bool)
    for label in np.unique(group_labels):
        members = rng.permutation(np.flatnonzero(group_labels == label))
        if len(members) > 1:
            n_images = sizes[members].sum()
            n_drawn = min(max(round(fraction * n_images), 1), n_images - 1)
            is_drawn[members[_fill(sizes[members], n_drawn, max(len(members) - n_kept, 1))]] = True
    return is_drawn[inverse]


def folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Deal whole `groups` into folds, int64 `[n]`, class by class: the largest group left goes to the emptiest fold.

    Of a class, two folds differ by its largest group at most.
    """
    rng = np.random.default_rng(seed)
    inverse, sizes, group_labels = _by_group(labels, groups)
    fold = np.zeros(len(sizes), dtype=np.int64)
    for label in np.unique(group_labels):
        members = rng.permutation(np.flatnonzero(group_labels == label))
        members = members[np.argsort(-sizes[members], kind="stable")]
        heap = [(0, place, int(number)) for place, number in enumerate(rng.permutation(n_folds))]
        for member in members.tolist():
            n_images, place, number = heap[0]
            fold[member] = number
            heapq.heapreplace(heap, (n_images + int(sizes[member]), place, number))
    return fold[inverse]


def split_images(
    labels: np.ndarray, in_test: np.ndarray, val_fraction: float, seed: int, groups: np.ndarray | None = None
) -> Split:
    """Cut the validation part from the training side, class by class and by whole `groups` where they are given.

    The test side is taken as it is. By image, copies of training images make a validation score too good.
    """
    training = np.flatnonzero(~in_test)
    in_val = stratified(labels[training], val_fraction, seed, None if groups is None else groups[training])
    return Split(training[~in_val], training[in_val], np.flatnonzero(in_test))


def _by_group(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's group, 0 …, and each group's size and most frequent label (the first of several)."""
    inverse = np.unique(groups, return_inverse=True)[1]
    n_labels = int(labels.max(initial=0)) + 1
    counts = np.bincount(inverse * n_labels + labels, minlength=n_labels * (int(inverse.max(initial=-1)) + 1))
    counts = counts.reshape(-1, n_labels)
    return inverse, counts.sum(1), counts.argmax(1)


def _fill(sizes: np.ndarray, n_images: int, n_most: int) -> np.ndarray:
    """Return a mask of up to `n_most` groups, in the order given, that fills `n_images` as far as fits; never empty."""
    taken = np.zeros(len(sizes), dtype=bool)
    while len(fitting := np.flatnonzero(~taken & (sizes <= n_images - sizes[taken].sum()))[: n_most - taken.sum()]):
        room = n_images - sizes[taken].sum()
        taken[fitting[np.cumsum(sizes[fitting]) <= room]] = True  # the first fits, so this ends
    if not taken.any():
        taken[sizes.argmin()] = True
    return taken
