"""Splits are disjoint, complete, stratified, cut no group in two, and depend on their seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.data.split.cut import SPLITS, Split, cut, folds, split_images, stratified

CLASSES = ("a", "b", "c", "d")
SEEDS = st.integers(0, 2**31)
labels_of = st.lists(st.integers(0, 3), min_size=8, max_size=300).map(lambda x: np.array([0, 0, 1, 1, 2, 2, 3, 3, *x]))


@st.composite
def grouped_images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of shuffled images: every class has 6 groups or more of one label, some of them huge."""
    sizes, labels = [], []
    for label in range(4):
        of_class = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 5, 40]), min_size=6, max_size=25))
        sizes += of_class
        labels += [label] * len(of_class)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(sum(sizes))
    return np.repeat(labels, sizes)[order], np.repeat(np.arange(len(sizes)), sizes)[order]


def _cut(kind: str, labels: np.ndarray, groups: np.ndarray, seed: int = 0, **more: object) -> Split:
    unknown = np.full(len(labels), "")
    # Halves that cut groups, as the published ones do.
    halves = np.where(np.arange(len(labels)) % 4 == 0, "Testing", "Training")
    arguments = {"patients": unknown, "halves": halves, "classes": CLASSES, "val_fraction": 0.1, **more}
    return cut(kind, labels, groups, seed=seed, **arguments)


def _straddling(groups: np.ndarray, one: np.ndarray, other: np.ndarray) -> set:
    return set(groups[one].tolist()) & set(groups[other].tolist())


@given(labels=labels_of, fraction=st.floats(0.01, 0.99), seed=SEEDS)
def test_stratified_draws_its_share_of_every_class(labels: np.ndarray, fraction: float, seed: int) -> None:
    mask = stratified(labels, fraction, seed)
    np.testing.assert_array_equal(mask, stratified(labels, fraction, seed))
    for label in range(4):
        n, drawn = (labels == label).sum(), mask[labels == label].sum()
        assert 1 <= drawn <= n - 1
        assert abs(drawn - fraction * n) <= 1


@given(images=grouped_images(), fraction=st.floats(0.01, 0.99), seed=SEEDS, n_kept=st.integers(1, 3))
def test_stratified_draws_whole_groups(
    images: tuple[np.ndarray, np.ndarray], fraction: float, seed: int, n_kept: int
) -> None:
    labels, groups = images
    mask = stratified(labels, fraction, seed, groups, n_kept)
    assert not _straddling(groups, mask, ~mask)
    for label in range(4):
        of_class = labels == label
        n, drawn = of_class.sum(), mask[of_class].sum()
        left = groups[of_class & ~mask]
        assert len(set(left)) >= n_kept
        assert drawn >= 1
        smallest = np.unique(left, return_counts=True)[1].min()
        largest_drawn = np.unique(groups[of_class & mask], return_counts=True)[1].max()
        # Too many only where the smallest group of all is more than the share; too few by less than what is left, or
        # because no more groups may be drawn.
        assert drawn <= fraction * n + 1 or (drawn == largest_drawn and drawn <= smallest)
        assert drawn > fraction * n - 1 - smallest or len(set(left)) == n_kept


@given(labels=labels_of, fraction=st.floats(0.05, 0.5), seed=SEEDS, test_seed=st.integers(0, 99))
def test_parts_cover_every_image_once_and_val_comes_from_training(
    labels: np.ndarray, fraction: float, seed: int, test_seed: int
) -> None:
    in_test = stratified(np.repeat(labels, 3), 0.2, test_seed)
    split = split_images(np.repeat(labels, 3), in_test, fraction, seed)
    together = np.concatenate(split)
    assert sorted(together) == list(range(3 * len(labels)))
    np.testing.assert_array_equal(split.test, np.flatnonzero(in_test))
    assert not in_test[split.val].any()
    assert set(np.repeat(labels, 3)[split.val]) == set(labels)


@given(images=grouped_images(), kind=st.sampled_from(SPLITS), seed=SEEDS)
def test_every_kind_is_complete_and_what_it_promises(
    images: tuple[np.ndarray, np.ndarray], kind: str, seed: int
) -> None:
    labels, groups = images
    patients = np.char.add("patient ", groups.astype(str)) if kind == "patient" else np.full(len(labels), "")
    split = _cut(kind, labels, groups, seed, patients=patients)
    assert sorted(np.concatenate(split)) == list(range(len(labels)))
    for part, again in zip(split, _cut(kind, labels, groups, seed, patients=patients), strict=True):
        np.testing.assert_array_equal(part, again)
        assert (np.diff(part) > 0).all()
        assert kind == "official" or set(labels[part]) == {0, 1, 2, 3}  # the halves are as they are
    if kind == "official":
        np.testing.assert_array_equal(split.test, np.arange(0, len(labels), 4))
    if kind != "random":
        assert not _straddling(groups, split.train, split.val)
    if kind not in ("random", "official"):
        assert not _straddling(groups, np.r_[split.train, split.val], split.test)


def test_random_is_by_image() -> None:
    labels, groups = np.repeat(np.arange(4), 100), np.arange(400) // 5
    split = _cut("random", labels, groups)
    assert [len(part) for part in split] == [288, 32, 80]
    assert _straddling(groups, split.train, split.val)
    assert _straddling(groups, split.train, split.test)


@pytest.mark.parametrize("kind", ["random", "grouped", "patient", "kfold"])
def test_another_seed_is_another_split(kind: str) -> None:
    labels, groups = np.repeat(np.arange(4), 100), np.arange(400) // 2
    one, other = (_cut(kind, labels, groups, seed, patients=groups.astype(str)) for seed in (0, 1))
    assert set(one.test) != set(other.test)
    assert set(one.val) != set(other.val)


@pytest.mark.parametrize("kind", ["grouped", "patient"])
def test_shares_hold_with_many_small_groups(kind: str) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 8, 1200)
    labels = np.repeat(rng.choice(4, 1200, p=[0.6, 0.2, 0.15, 0.05]), sizes)
    groups = np.repeat(np.arange(1200), sizes)
    split = _cut(kind, labels, groups, patients=groups.astype(str))
    for label in range(4):
        n = (labels == label).sum()
        assert abs((labels[split.test] == label).sum() - 0.2 * n) <= 1
        assert abs((labels[split.val] == label).sum() - 0.08 * n) <= 1


def test_a_huge_group_stays_in_training() -> None:
    # As with blank slices, all alike: 900 of 1,000 images of a class.
    labels = np.repeat(np.arange(4), [1000, 100, 100, 100])
    groups = np.r_[np.zeros(900, dtype=int), np.arange(1, 401)]
    for seed in range(5):
        split = _cut("grouped", labels, groups, seed)
        assert set(range(900)) <= set(split.train)
        assert [(labels[part] == 0).sum() for part in split] == [900, 1, 99]  # as near to 200 in test as can be
        assert (labels[split.test] == 1).sum() == 20


def test_a_group_of_mixed_labels_stays_whole() -> None:
    labels = np.tile(np.arange(4), 50)
    groups = np.arange(200)
    groups[:40] = 0
    split = _cut("grouped", labels, groups)
    assert sum(0 in groups[part] for part in split) == 1


@given(images=grouped_images(), seed=SEEDS, n_folds=st.integers(2, 6))
def test_folds_hold_every_image_once_and_every_class(
    images: tuple[np.ndarray, np.ndarray], seed: int, n_folds: int
) -> None:
    labels, groups = images
    number = folds(labels, groups, n_folds, seed)
    tests = [_cut("kfold", labels, groups, seed, fold=fold, n_folds=n_folds).test for fold in range(n_folds)]
    assert sorted(np.concatenate(tests)) == list(range(len(labels)))
    for fold, test in enumerate(tests):
        np.testing.assert_array_equal(test, np.flatnonzero(number == fold))
    for label in range(4):
        counts = np.bincount(number[labels == label], minlength=n_folds)
        largest = np.bincount(groups[labels == label]).max()
        assert counts.min() >= 1
        assert np.ptp(counts) <= largest


def test_folds_go_by_patient_where_patients_are_known() -> None:
    labels, patients = np.repeat(np.arange(4), 60), (np.arange(240) // 6).astype(str)
    split = _cut("kfold", labels, np.arange(240), patients=patients, fold=3)
    assert not _straddling(patients, split.train, split.val)
    assert not _straddling(patients, np.r_[split.train, split.val], split.test)


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("patient", {}, "240 of 240 images have no patient id"),
        ("patient", {"patients": np.array(["p"] * 239 + [""])}, "1 of 240 images have no patient id"),
        ("kfold", {"patients": np.array(["p"] * 239 + [""])}, "1 of 240 images have no patient id"),
        (
            "patient",
            {"patients": (np.arange(240) // 30).astype(str)},
            "class a has 2 patients, a split by patient needs 3 at least",
        ),
        ("kfold", {"n_folds": 61}, "class a has 60 groups of near-duplicates, 61 folds need 61 at least"),
        ("kfold", {"patients": (np.arange(240) // 30).astype(str), "n_folds": 2}, "2 patients, 2 folds need 3 at"),
        ("kfold", {"fold": 5}, "fold 5 of 5"),
        ("kfold", {"fold": -1}, "fold -1 of 5"),
        ("kfold", {"n_folds": 1}, "fold 0 of 1"),
        ("official", {"halves": np.full(240, "")}, "no published halves"),
        ("halves", {}, "no split 'halves'; one of official, random"),
    ],
)
def test_what_cannot_be_cut_is_refused(kind: str, more: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        _cut(kind, np.repeat(np.arange(4), 60), np.arange(240), **more)
    assert "\n" not in str(error.value)


def test_three_patients_a_class_are_enough() -> None:
    # One of them has most images: even then each part gets one.
    labels = np.repeat(np.arange(4), 102)
    patients = np.concatenate([np.repeat([f"{c}x", f"{c}y", f"{c}z"], [1, 1, 100]) for c in CLASSES])
    split = _cut("patient", labels, np.arange(408), patients=patients)
    assert [len(part) for part in split] == [400, 4, 4]


def test_a_hundred_thousand_images_are_no_burden() -> None:
    labels, groups = np.repeat(np.arange(50_000) % 4, 2), np.repeat(np.arange(50_000), 2)
    for kind in ("grouped", "kfold"):
        split = _cut(kind, labels, groups)
        assert abs(len(split.test) - 20_000) <= 8


def test_random_split_is_what_it_was() -> None:
    # Recorded before groups came: an image that moves makes old scores incomparable.
    mask = stratified(np.arange(40) % 4, 0.25, 7)
    assert np.flatnonzero(mask).tolist() == [0, 3, 9, 17, 18, 26, 32, 35]
