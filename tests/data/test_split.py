"""Splits are disjoint, complete, stratified, and depend on their seed alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.data.split import split_images, stratified

labels_of = st.lists(st.integers(0, 3), min_size=8, max_size=300).map(lambda x: np.array([0, 0, 1, 1, 2, 2, 3, 3, *x]))


@given(labels=labels_of, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**31))
def test_stratified_draws_its_share_of_every_class(labels: np.ndarray, fraction: float, seed: int) -> None:
    mask = stratified(labels, fraction, seed)
    np.testing.assert_array_equal(mask, stratified(labels, fraction, seed))
    for label in range(4):
        n, drawn = (labels == label).sum(), mask[labels == label].sum()
        assert 1 <= drawn <= n - 1
        assert abs(drawn - fraction * n) <= 1


@given(labels=labels_of, fraction=st.floats(0.05, 0.5), seed=st.integers(0, 2**31), test_seed=st.integers(0, 99))
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


def test_another_seed_is_another_split() -> None:
    labels = np.repeat(np.arange(4), 50)
    assert (stratified(labels, 0.2, 0) != stratified(labels, 0.2, 1)).any()
