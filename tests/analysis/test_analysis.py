"""The baseline and the interval against brute force and published numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.analysis.interval import wilson_interval
from hqcnn_lab.analysis.neighbour import nearest_neighbour_accuracy


@given(st.integers(0, 2**31))
def test_nearest_neighbour_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, test = rng.random((20, 8, 8)), rng.random((15, 8, 8))
    train_labels, test_labels = rng.integers(0, 3, 20), rng.integers(0, 3, 15)
    right = 0
    for image, label in zip(test, test_labels, strict=True):
        distances = [((image - other).astype(np.float32) ** 2).sum() for other in train]
        right += train_labels[int(np.argmin(distances))] == label
    accuracy = nearest_neighbour_accuracy(train, train_labels, test, test_labels, side=8)
    assert accuracy == pytest.approx(right / 15)


def test_nearest_neighbour_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((50, 8, 8)), rng.integers(0, 3, 50), rng.random((45, 8, 8)), rng.integers(0, 3, 45)
    whole = nearest_neighbour_accuracy(*images, side=4)
    monkeypatch.setattr("hqcnn_lab.analysis.neighbour._BLOCK", 7)
    assert nearest_neighbour_accuracy(*images, side=4) == whole


def test_nearest_neighbour_compares_thumbnails() -> None:
    fine = np.indices((8, 8)).sum(0) % 2  # its 4×4 thumbnail is flat
    flat, bright = np.full((8, 8), 0.5), np.ones((8, 8))
    train, labels = np.stack([flat, bright]), np.array([0, 1])
    assert nearest_neighbour_accuracy(train, labels, fine[None].astype(float), np.array([0]), side=4) == 1


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    # Newcombe 1998, table I, method 3 (Wilson, 95 %): 81/263, 15/148, 0/20, 1/29
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(n_right: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(n_right, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
