"""Cut a data set into training, validation and test parts. Seeds here are the data's, never the training's."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Indices of the images in each part."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a boolean mask that draws `fraction` of every class, at least one image of each that has two or more."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        n_drawn = min(max(round(fraction * len(members)), 1), len(members) - 1)
        mask[members[:n_drawn]] = True
    return mask


def split_images(labels: np.ndarray, in_test: np.ndarray, val_fraction: float, seed: int) -> Split:
    """Cut the validation part from the training side, class by class; the test side is taken as it is."""
    training = np.flatnonzero(~in_test)
    in_val = stratified(labels[training], val_fraction, seed)
    return Split(training[~in_val], training[in_val], np.flatnonzero(in_test))
