"""Copies are found by the stated criterion, however many there are, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hqcnn_lab.data.split.duplicates import Twins, count_pairs, find_twins, group_alike, group_twins, has_twin


def _heads(n: int, seed: int) -> np.ndarray:
    """Distinct smooth images [n, 64, 64] in [0, 1]."""
    rng = np.random.default_rng(seed)
    knots = np.exp(-((np.linspace(0, 5, 64)[:, None] - np.arange(6)) ** 2))
    images = knots @ rng.standard_normal((n, 6, 6)) @ knots.T
    images -= images.min((1, 2), keepdims=True)
    return (images / images.max((1, 2), keepdims=True)).astype(np.float16)


def _thumbnail(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # Enlarged until the new pixels hold whole numbers of the old ones.
    large = image.astype(np.float64).repeat(height, axis=0).repeat(width, axis=1)
    return large.reshape(height, len(image), width, len(image)).mean((1, 3))


def _near_pairs(images: np.ndarray) -> set[tuple[int, int]]:
    """The criterion in float64, one pair of images and one pair of pixels at a time."""
    coarse = [np.round(255 * _thumbnail(image, 8, 9)).tolist() for image in images]
    fine = [_thumbnail(image, 32, 32).ravel() for image in images]
    pairs = set()
    for i, a in enumerate(coarse):
        for j, b in enumerate(coarse[:i]):
            distance = sum((a[r][c] < a[r][c + 1]) != (b[r][c] < b[r][c + 1]) for r in range(8) for c in range(8))
            if distance <= 2 and np.corrcoef(fine[i], fine[j])[0, 1] >= 0.99:
                pairs.add((j, i))
    return pairs


def _components(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Number of each node's component, by walking the graph."""
    beside: dict[int, set[int]] = {i: set() for i in range(n)}
    for a, b in pairs:
        beside[a].add(b)
        beside[b].add(a)
    number = [-1] * n
    for start in range(n):
        waiting = [start] if number[start] < 0 else []
        fresh = max(number) + 1
        while waiting:
            node = waiting.pop()
            if number[node] < 0:
                number[node] = fresh
                waiting += beside[node]
    return number


def _drifting(seed: int, most: float = 0.5) -> np.ndarray:
    """Six heads and copies of them that drift away step by step: some near, some beyond either limit; [30, 64, 64]."""
    rng = np.random.default_rng(seed)
    base, drift = (_heads(6, seed + i).astype(np.float32) for i in range(2))
    strength = rng.uniform(0, most, (4, 1, 1, 1)).astype(np.float32)
    return np.concatenate([base, (base + strength * drift).reshape(-1, 64, 64)])[rng.permutation(30)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_pairs_are_those_of_the_criterion(seed: int) -> None:
    images = _drifting(seed)
    twins = find_twins(images, np.arange(30).astype(str))
    expected = _near_pairs(images)
    assert {(int(a), int(b)) for a, b in twins.near} == expected
    assert len(twins.near) == len(expected)  # none twice


def _pairs_by(resample: Image.Resampling, images: np.ndarray) -> list[tuple[int, int]]:
    """The criterion on Pillow's own thumbnails, one pair at a time."""
    grays = [Image.fromarray(np.uint8(255 * image)) for image in images / images.max((1, 2), keepdims=True)]
    bits = [np.diff(np.asarray(gray.resize((9, 8), resample)).astype(int)) > 0 for gray in grays]
    fine = np.corrcoef([np.asarray(gray.resize((32, 32), resample)).ravel() for gray in grays])
    near = [(i, j) for i in range(len(grays)) for j in range(i) if fine[i, j] >= 0.99]
    return [(i, j) for i, j in near if (bits[i] != bits[j]).sum() <= 2]


def test_what_another_filter_takes_for_copies_is_kept_together() -> None:
    # Regression: the grouped split cut 11 groups of the Kaggle images that thumbnails by another filter make.
    beyond_the_criterion = 0
    for seed in range(10):
        images = _drifting(seed)
        twins = find_twins(images, np.arange(30))
        near, alike = group_twins(twins), group_alike(images, twins)
        for resample in Image.Resampling:
            pairs = _pairs_by(resample, images)
            assert [(i, j) for i, j in pairs if alike[i] != alike[j]] == []
            beyond_the_criterion += sum(near[i] != near[j] for i, j in pairs)
    assert beyond_the_criterion > 10


@pytest.mark.parametrize("block", [7, 4096])
def test_images_alike_are_those_that_correlate(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hqcnn_lab.data.split.duplicates._BLOCK", block)
    bars = 0.1 * np.random.default_rng(0).random((2, 8, 8)).repeat(8, 1).repeat(8, 2)  # alike but for their hashes
    bars[:, 16:48] += 0.9
    images = np.concatenate([_drifting(1, 1.5), bars, np.zeros((2, 64, 64)), np.ones((1, 64, 64))]).astype(np.float32)
    hashes = np.r_[np.arange(32), 32, 32, 33]  # two flat ones are the same, the third is like nothing
    fine = np.corrcoef([_thumbnail(image, 32, 32).ravel() for image in images[:32]])
    bits = np.stack([(np.diff(np.round(255 * _thumbnail(image, 8, 9))) > 0).ravel() for image in images[:32]])
    distance = (bits[:, None] != bits).sum(2)
    assert ((fine >= 0.975) & (distance > 16)).any()  # either bound counts
    assert ((fine < 0.975) & (distance <= 16)).any()
    pairs = [*np.argwhere((fine >= 0.975) & (distance <= 16)).tolist(), (32, 33)]
    groups = group_alike(images, find_twins(images, hashes))
    assert groups.tolist() == _components(35, pairs)
    assert max(groups) > 8


def test_copies_brighter_or_recompressed_are_near_and_shifted_ones_are_not() -> None:
    head = _heads(1, 0)[0].astype(np.float32)
    noisy = head + 0.01 * np.random.default_rng(0).standard_normal(head.shape).astype(np.float32)
    images = np.stack([head, 0.5 * head + 0.2, noisy, np.roll(head, 8, axis=1)])
    twins = find_twins(images, np.arange(4))
    assert group_twins(twins).tolist() == [0, 0, 0, 1]


def test_flat_images_are_no_copies_of_anything_but_identical_ones() -> None:
    images = np.stack([np.zeros((64, 64)), np.ones((64, 64)), np.zeros((64, 64)), *_heads(2, 1)])
    twins = find_twins(images, np.array(["zero", "one", "zero", "a", "b"]))
    assert twins.near.shape == (0, 2)
    assert group_twins(twins).tolist() == [0, 1, 0, 2, 3]


def test_many_identical_images_cost_nothing() -> None:
    heads = _heads(20, 3)
    images = np.concatenate([heads, np.repeat(heads[:1], 5000, axis=0)])
    hashes = np.array([str(i) for i in range(20)] + ["0"] * 5000)
    twins = find_twins(images, hashes)
    assert len(twins.near) == 0  # of 12 million identical pairs not one was compared
    everywhere = np.ones(5020, dtype=bool)
    assert count_pairs(twins, everywhere, everywhere) == 5001 * 5000 // 2
    assert (group_twins(twins) == np.r_[np.arange(20), np.zeros(5000, dtype=int)]).all()


def test_blocks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.concatenate([_heads(20, 4), _heads(20, 4) * np.float16(0.9), _heads(20, 4) * np.float16(0.8)])
    whole = find_twins(images, np.arange(60))
    monkeypatch.setattr("hqcnn_lab.data.split.duplicates._BLOCK", 7)
    monkeypatch.setattr("hqcnn_lab.data.split.duplicates._CORRELATED", 3)
    np.testing.assert_array_equal(find_twins(images, np.arange(60)).near, whole.near)
    assert len(whole.near) >= 60


@pytest.mark.parametrize("n", [0, 1])
def test_few_images(n: int) -> None:
    twins = find_twins(_heads(2, 0)[:n], np.arange(n))
    assert group_twins(twins).tolist() == list(range(n))
    assert has_twin(twins, np.ones(n, dtype=bool)).tolist() == [False] * n


@st.composite
def twins_of(draw: st.DrawFn) -> Twins:
    """Any graph of copies: identical ones and near pairs of the first of them."""
    hashes = draw(st.lists(st.integers(0, 20), min_size=1, max_size=30))
    first = sorted({hashes.index(h) for h in hashes})
    nodes = st.sampled_from(first)
    pairs = draw(st.sets(st.tuples(nodes, nodes).filter(lambda p: p[0] < p[1]), max_size=20)) if len(first) > 1 else []
    return Twins(np.array([hashes.index(h) for h in hashes]), np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2))


@given(twins=twins_of(), data=st.data())
def test_groups_twins_and_counts_equal_brute_force(twins: Twins, data: st.DataObject) -> None:
    n = len(twins.original)
    near = {tuple(pair) for pair in twins.near.tolist()}
    pairs = [
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if (a := twins.original[i]) == (b := twins.original[j]) or (min(a, b), max(a, b)) in near
    ]
    assert group_twins(twins).tolist() == _components(n, pairs)
    among = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    expected = [any((i == a and among[b]) or (i == b and among[a]) for a, b in pairs) for i in range(n)]
    assert has_twin(twins, among).tolist() == expected
    assert count_pairs(twins, among, among) == sum(among[a] and among[b] for a, b in pairs)
    assert count_pairs(twins, among, ~among) == sum(among[a] != among[b] for a, b in pairs)
