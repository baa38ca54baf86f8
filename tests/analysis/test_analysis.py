"""The baseline and the interval against brute force and published numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.analysis.interval import wilson_interval
from hqcnn_lab.data.split.neighbour import nearest_neighbour_right


@given(st.integers(0, 2**31))
def test_nearest_neighbour_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = rng.random((40, 8, 8)), rng.integers(0, 3, 40)
    train, test = np.split(rng.permutation(40)[:35], [20])
    right = []
    for i in test:
        distances = [((images[i] - images[j]).astype(np.float32) ** 2).sum() for j in train]
        right.append(labels[train[int(np.argmin(distances))]] == labels[i])
    assert nearest_neighbour_right(images, labels, train, test, side=8).tolist() == right


def test_nearest_neighbour_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    known = rng.random((95, 8, 8)), rng.integers(0, 3, 95), np.arange(50), np.arange(50, 95)
    whole = nearest_neighbour_right(*known, side=4)
    monkeypatch.setattr("hqcnn_lab.data.split.neighbour._BLOCK", 7)
    np.testing.assert_array_equal(nearest_neighbour_right(*known, side=4), whole)


def test_nearest_neighbour_compares_thumbnails() -> None:
    fine = np.indices((8, 8)).sum(0) % 2  # its 4×4 thumbnail is flat
    flat, bright = np.full((8, 8), 0.5), np.ones((8, 8))
    images, labels = np.stack([flat, bright, fine]), np.array([0, 1, 0])
    assert nearest_neighbour_right(images, labels, np.array([0, 1]), np.array([2]), side=4).tolist() == [True]


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    # Newcombe 1998, table I, method 3 (Wilson, 95 %): 81/263, 15/148, 0/20, 1/29
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(n_right: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(n_right, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
