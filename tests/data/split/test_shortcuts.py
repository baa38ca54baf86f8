"""A feature scores what a table of it scores, and what holds no hint scores no more than the majority."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hqcnn_lab.data.decode.reading import read_image
from hqcnn_lab.data.source.layout import find_images
from hqcnn_lab.data.split.shortcuts import shortcut_accuracy


def _blank(n: int) -> np.ndarray:
    return np.zeros((n, 8, 8), dtype=np.float16)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2)), min_size=6, max_size=60))
def test_size_and_aspect_equal_a_table(rows: list[tuple[int, int, int]]) -> None:
    heights, widths, labels = np.array(rows).T
    train, test = np.arange(len(rows) // 2), np.arange(len(rows) // 2, len(rows))
    scores = shortcut_accuracy(_blank(len(rows)), heights, widths, labels, train, test)

    def most_common(candidates: list[int]) -> int:
        counts = Counter(candidates)
        return min(counts, key=lambda label: (-counts[label], label))

    overall = most_common([rows[i][2] for i in train])
    for name, value in (("majority", lambda r: 0), ("size", lambda r: r[:2]), ("aspect", lambda r: r[1] / r[0])):
        right = 0
        for i in test:
            alike = [rows[j][2] for j in train if value(rows[j]) == value(rows[i])]
            right += (most_common(alike) if alike else overall) == rows[i][2]
        assert scores[name] == pytest.approx(right / len(test))
    assert scores["border"] == scores["black"] == scores["majority"]  # all borders are the same
    assert scores["together"] == scores["size"]


def test_the_border_gives_padding_away_and_the_middle_does_not() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    middle = rng.random((2000, 8, 8)).astype(np.float32)
    padded = middle.copy()
    padded[labels == 1, 0] = 0  # a bar at the top
    square = np.full(2000, 8)
    for images, low, high in ((padded, 0.9, 1), (middle, 0.4, 0.6)):
        scores = shortcut_accuracy(images, square, square, labels, np.arange(1000), np.arange(1000, 2000))
        assert low <= scores["black"] <= high
        assert low <= scores["together"] <= high
    middle[:, 1:-1, 1:-1] = labels[:, None, None]
    scores = shortcut_accuracy(middle, square, square, labels, np.arange(1000), np.arange(1000, 2000))
    assert scores["border"] < 0.6


def test_bins_are_learned_from_training_images_alone() -> None:
    # 16 bins cut 0 … 1 finely; were the test images' values among them, the training images would share one bin.
    labels = np.tile([0, 1], 100)
    images = np.zeros((200, 8, 8))
    images[:100] = np.linspace(0, 1, 100)[:, None, None] * 0.001 + labels[:100, None, None] * 0.001
    images[100:] = 0.5 + np.linspace(0, 0.5, 100)[:, None, None]
    square, train, test = np.full(200, 8), np.arange(100), np.arange(100, 200)
    scores = shortcut_accuracy(images, square, square, labels, train, train)
    assert scores["border"] > 0.7
    assert shortcut_accuracy(images, square, square, labels, train, test)["border"] == 0.5


@pytest.mark.slow
def test_real_images_are_told_by_their_shape(real_kaggle_root: Path) -> None:
    files = find_images(real_kaggle_root)[::4]
    images = np.stack([read_image(real_kaggle_root / file.name, 64) for file in files])
    sizes = []
    for file in files:
        with Image.open(real_kaggle_root / file.name) as image:
            sizes.append(image.size)
    widths, heights = np.array(sizes).T
    is_clear = np.array([file.label == 2 for file in files]).astype(int)  # no tumour
    order = np.random.default_rng(0).permutation(len(files))
    scores = shortcut_accuracy(images, heights, widths, is_clear, order[:1200], order[1200:])
    assert scores["size"] > scores["majority"] + 0.1
    assert scores["together"] > scores["majority"] + 0.1
