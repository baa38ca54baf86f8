"""Test images made worse by a given amount, to see how much of its accuracy a network keeps."""

from collections.abc import Callable

import numpy as np

Corruption = Callable[[np.ndarray, float, int], np.ndarray]
"""Images float `[N, H, W]` in [0, 1], an amount, a seed → as many images, float32 in [0, 1]. Amount 0 changes none."""


def noise(images: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Gaussian noise, cut to [0, 1]; white is a deviation of 1. `seed` draws it, the same for every amount."""
    grain = np.random.default_rng(seed).standard_normal(images.shape, dtype=np.float32)
    return (images.astype(np.float32) + np.float32(deviation) * grain).clip(0, 1)


def blur(images: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """A Gaussian filter of standard deviation `sigma`, in pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images.astype(np.float32), (0, sigma, sigma))


def rotation(images: np.ndarray, degrees: float, seed: int) -> np.ndarray:
    """Turned about the centre; what moves in from outside is black, as the background of an MR slice is."""
    from scipy.ndimage import rotate

    images = images.astype(np.float32)
    return images if degrees == 0 else rotate(images, degrees, axes=(1, 2), reshape=False, order=1).clip(0, 1)


CORRUPTIONS: dict[str, Corruption] = {"noise": noise, "blur": blur, "rotation": rotation}
