"""The audit counts what is there: on made-up sets with known copies, on the real images against independent code."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from hqcnn_lab.data.decode.reading import read_image
from hqcnn_lab.data.source.layout import CLASSES, PUBLISHED, find_images
from hqcnn_lab.data.split.audit import Audit, audit, describe, leak_note
from hqcnn_lab.data.split.cut import Split, cut
from hqcnn_lab.data.split.duplicates import Twins, find_twins, group_alike, group_twins, has_twin

pytestmark = pytest.mark.slow

N = 20


def _audit(split: Split, pairs: dict[int, int] | None = None, **more: object) -> Audit:
    """Of 20 distinct images, of two classes by turns; `pairs` says which image is pixel for pixel which earlier one."""
    original = np.arange(N)
    for copy, first in (pairs or {}).items():
        original[copy] = first
    images = np.random.default_rng(0).random((N, 16, 16))[original]
    arguments = {
        "labels": np.arange(N) % 2,
        "halves": np.full(N, ""),
        "patients": np.full(N, ""),
        "heights": np.full(N, 100),
        "widths": np.full(N, 120),
        "files": [f"{i}.jpg" for i in range(N)],
        "twins": Twins(original, np.empty((0, 2), dtype=np.int64)),
        "kind": "random",
        "classes": ("a", "b"),
        **more,
    }
    return audit(images, split=split, **arguments)


SPLIT = Split(np.arange(10), np.arange(10, 14), np.arange(14, 20))


def test_a_clean_set_has_nothing_to_note() -> None:
    found = _audit(SPLIT)
    assert leak_note(found) is None
    assert found.copies == found.exact
    assert (found.copies.pairs, found.copies.test_in_training, found.groups, found.largest_group) == (0, 0, 0, 1)
    assert found.parts == {"train": {"a": 5, "b": 5}, "val": {"a": 2, "b": 2}, "test": {"a": 3, "b": 3}}
    assert found.nearest_neighbour == found.neighbour_of_twinless
    assert describe(found)[-1] == "random split: no test image has a twin in training"


def test_copies_are_counted_where_they_are() -> None:
    # 2 = 0 within train, 10 = 1 from val to train, 14 = 3 and 15 = 3 from test to train, 16 = 11 from test to val.
    halves = np.where(np.arange(N) < 14, "Training", "Testing")
    found = _audit(SPLIT, {2: 0, 10: 1, 14: 3, 15: 3, 16: 11}, halves=halves)
    exact = found.exact
    assert (exact.pairs, exact.images) == (1 + 1 + 3 + 1, 2 + 2 + 3 + 2)
    assert exact.pairs_within == {"train": 1, "val": 0, "test": 1}
    assert (exact.test_in_training, exact.val_in_train) == (3, 1)
    assert (exact.pairs_across_halves, exact.testing_in_training) == (3, 3)
    assert (found.groups, found.largest_group) == (4, 3)
    # Images are of two classes by turns.
    assert found.conflicts == [["1.jpg", "10.jpg"], ["3.jpg", "14.jpg", "15.jpg"], ["11.jpg", "16.jpg"]]
    assert leak_note(found) == "random split: 50 % of test images have a twin in training"


def test_near_copies_count_beside_the_exact_ones() -> None:
    original = np.arange(N)
    original[14] = 3
    found = _audit(SPLIT, {14: 3}, twins=Twins(original, np.array([[3, 15], [4, 16], [5, 6]])))
    assert (found.exact.pairs, found.exact.test_in_training) == (1, 1)
    assert (found.copies.pairs, found.copies.test_in_training) == (5, 3)  # 3 and its copy 14 both with 15
    assert found.copies.pairs_within == {"train": 1, "val": 0, "test": 1}


def test_the_nearest_neighbour_knows_copies() -> None:
    # A copy always has its own label here; the others' nearest neighbours are chance.
    found = _audit(SPLIT, {14: 4, 15: 5, 16: 6, 17: 7, 18: 8, 19: 9})
    assert found.nearest_neighbour == 1
    assert found.neighbour_of_twinless is None
    half = _audit(SPLIT, {14: 4, 15: 5, 16: 6})
    assert half.nearest_neighbour == pytest.approx((3 + 3 * half.neighbour_of_twinless) / 6)


def test_patients_on_two_sides_are_counted_and_not_named() -> None:
    patients = np.array([f"secret{i // 2}" for i in range(N)])  # seven in training and validation, three in test
    clean = _audit(SPLIT, patients=patients, kind="patient")
    assert clean.patients == {"train": 5, "val": 2, "test": 3}
    assert clean.shared_patients == {"val": 0, "test": 0}
    assert leak_note(clean) is None
    patients[[14, 16]], patients[10] = ["secret0", "secret6"], "secret1"
    patients[19] = ""
    found = _audit(SPLIT, {15: 1}, patients=patients)
    assert found.shared_patients == {"val": 1, "test": 2}
    assert leak_note(found) == (
        "random split: 17 % of test images have a twin in training, 2 of 5 test patients are also in training"
    )
    assert "secret" not in json.dumps(asdict(found)) + "".join(describe(found))


def test_counts_stand_beside_the_published_ones_and_all_is_json() -> None:
    halves = np.where(np.arange(N) < 14, "Training", "Testing")
    found = _audit(
        SPLIT,
        halves=halves,
        published={"Training": {"a": 7, "b": 8}, "Testing": {"a": 3, "b": 3}},
        modes=["L"] * 19 + ["RGB"],
        widths=np.array([100] * 3 + [120] * 17),
        kind="official",
    )
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
    lines = describe(found)
    assert "Training: a 7 of 7, b 7 of 8 published" in lines
    assert "sizes: 2, most often 120×100 17, 100×100 3" in lines
    assert "pixel formats: L 19, RGB 1" in lines
    assert lines[-1].startswith("official split: no test image")


class Real(NamedTuple):
    """The real images, as the lab holds them, and what independent code says of the files."""

    images: np.ndarray
    labels: np.ndarray
    halves: np.ndarray
    sizes: np.ndarray
    names: list[str]
    hashes: np.ndarray
    grays: list[Image.Image]
    twins: Twins
    alike: np.ndarray


@pytest.fixture(scope="module")
def real(real_kaggle_root: Path) -> Real:
    files = find_images(real_kaggle_root)
    images = np.stack([read_image(real_kaggle_root / file.name, 64) for file in files]).astype(np.float16)
    hashes, sizes, grays = [], [], []
    for file in files:
        with Image.open(real_kaggle_root / file.name) as image:
            pixels = np.asarray(image)
            grays.append(image.convert("L"))
            sizes.append(pixels.shape[:2])
            hashes.append(hashlib.sha1(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest())
    labels, halves = np.array([file.label for file in files]), np.array([file.half for file in files])
    names, hashed = [file.name for file in files], np.array(hashes)
    twins = find_twins(images, hashed)
    return Real(images, labels, halves, np.array(sizes), names, hashed, grays, twins, group_alike(images, twins))


def _cut(real: Real, kind: str) -> Split:
    unknown = np.full(len(real.labels), "")
    groups = real.alike if kind == "grouped" else group_twins(real.twins)
    return cut(kind, real.labels, groups, unknown, real.halves, CLASSES, 0.1, 0)


def _audit_real(real: Real, kind: str) -> Audit:
    unknown, (heights, widths) = np.full(len(real.labels), ""), real.sizes.T
    known = (real.images, real.labels, real.halves, unknown, heights, widths, real.names)
    return audit(*known, real.twins, _cut(real, kind), kind, CLASSES, PUBLISHED)


def test_real_copies_across_the_halves_are_all_found(real: Real) -> None:
    found = _audit_real(real, "official")
    training = real.hashes[real.halves == "Training"].tolist()
    testing = real.hashes[real.halves == "Testing"].tolist()
    assert found.exact.testing_in_training == sum(h in set(training) for h in testing)
    assert found.exact.pairs_across_halves == sum(training.count(h) for h in testing)
    # Measured on the full files: 480 of 1,311 images of Testing have a twin, 37 %, and no group mixes labels.
    share = found.copies.testing_in_training / len(testing)
    assert 0.35 < share < 0.4
    assert found.conflicts == []
    assert found.copies.val_in_train == 0
    assert leak_note(found) == "official split: 38 % of test images have a twin in training"
    # With and without the images that have a twin; 96.9 % and 95.2 % on the full files.
    assert found.nearest_neighbour == pytest.approx(0.969, abs=0.01)
    assert found.neighbour_of_twinless == pytest.approx(0.952, abs=0.01)
    assert found.shortcuts["size"] > found.shortcuts["majority"] + 0.1


def test_real_twins_are_of_the_classes_that_were_measured(real: Real) -> None:
    training = real.halves == "Training"
    per_class = np.bincount(real.labels[has_twin(real.twins, training) & ~training], minlength=4)
    # On the full files 0, 109, 366 and 5 of 1,311. Half of them are here, and shrunk to 128 pixels.
    assert per_class[0] == 0
    assert 50 <= per_class[1] <= 62
    assert 178 <= per_class[2] <= 195
    assert per_class[3] <= 4


def _near_by_brute_force(images: np.ndarray, some: np.ndarray, others: np.ndarray) -> set[tuple[int, int]]:
    """Pairs by the criterion, in float64: every hash with every other, eight bytes at a time by a table."""
    exact = images.astype(np.float64)
    rows = exact.reshape(len(exact), 8, 8, 64).mean(2)
    coarse = np.round(255 * rows.repeat(9, axis=2).reshape(len(exact), 8, 9, 64).mean(3))
    hashes = np.packbits((np.diff(coarse, axis=2) > 0).reshape(-1, 64), axis=1)
    ones = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
    small = exact.reshape(len(exact), 32, 2, 32, 2).mean((2, 4)).reshape(len(exact), -1)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    pairs = set()
    for i in some:
        distance = ones[hashes[others] ^ hashes[i]].sum(1)
        candidates = others[distance <= 2]
        correlation = (small[candidates] @ small[i]) / small.shape[1]
        pairs |= {(int(i), int(j)) for j in candidates[correlation >= 0.99]}
    return pairs


def test_real_grouped_split_has_no_twin_on_two_sides(real: Real) -> None:
    split = _cut(real, "grouped")
    training = np.concatenate([split.train, split.val])
    assert _near_by_brute_force(real.images, split.test, training) == set()
    assert _near_by_brute_force(real.images, split.val, split.train) == set()
    assert not set(real.hashes[split.test]) & set(real.hashes[training])
    assert leak_note(_audit_real(real, "grouped")) is None
    for label in range(4):
        share = (real.labels[split.test] == label).sum() / (real.labels == label).sum()
        assert share == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize("name", ["BOX", "BILINEAR", "LANCZOS"])
def test_real_grouped_split_cuts_no_copies_by_other_filters(name: str, real: Real) -> None:
    # Regression: groups computed apart, by another resize filter, stood on both sides. Here straight from the files.
    coarse, small = (
        np.stack([np.asarray(gray.resize(size, Image.Resampling[name]), np.float32) for gray in real.grays])
        for size in ((9, 8), (32, 32))
    )
    bits, small = np.where(np.diff(coarse) > 0, 1, -1).reshape(-1, 64).astype(np.float32), small.reshape(-1, 1024)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    split = _cut(real, "grouped")
    some, others = np.r_[split.test, split.val], np.r_[split.train, split.val]
    i, j = np.nonzero(bits[some] @ bits[others].T >= 60)  # 64 bits less twice the distance
    i, j = some[i], others[j]
    near = np.einsum("pk,pk->p", small[i], small[j]) / small.shape[1] >= 0.99
    part = np.zeros(len(real.labels))
    part[split.val], part[split.test] = 1, 2
    assert near.sum() >= len(split.val)  # each with itself
    assert (part[i[near]] == part[j[near]]).all()


def test_real_random_split_shares_what_brute_force_finds(real: Real) -> None:
    split, found = _cut(real, "random"), _audit_real(real, "random")
    training = np.concatenate([split.train, split.val])
    near = {i for i, _ in _near_by_brute_force(real.images, split.test, training)}
    seen = set(real.hashes[training])
    exact = {int(i) for i in split.test if real.hashes[i] in seen}
    assert found.copies.test_in_training == len(near | exact)
