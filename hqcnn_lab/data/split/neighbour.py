"""The baseline that learns nothing: the nearest training image's label."""

import numpy as np
import torch

_BLOCK = 256  # images compared with all training images at a time: with 100,000 of them, 100 MiB


def nearest_neighbour_right(
    images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, side: int = 32
) -> np.ndarray:
    """Whether the nearest training image (Euclidean, on `side`×`side` thumbnails) has the label of each test image.

    Put its mean, the accuracy, beside every test score: where it is high, the split holds near-copies, and a model that
    does not beat it has shown nothing. Images `[n, H, W]`, a memory map too; `train` and `test` are indices into them,
    the result is bool `[test]`. Ties go to the first neighbour.
    """
    thumbnails = _thumbnails(images, train, side)
    norms = (thumbnails**2).sum(1)
    blocks = _thumbnails(images, test, side).split(_BLOCK)
    # argmin ‖a − b‖² over b needs no ‖a‖²
    nearest = torch.cat([torch.addmm(norms, block, thumbnails.T, alpha=-2).argmin(1) for block in blocks])
    return labels[train][nearest.numpy()] == labels[test]


def _thumbnails(images: np.ndarray, chosen: np.ndarray, side: int) -> torch.Tensor:
    thumbnails = torch.empty(len(chosen), side * side)
    for start in range(0, len(chosen), _BLOCK):
        stack = torch.from_numpy(images[chosen[start : start + _BLOCK]]).float().unsqueeze(1)
        thumbnails[start : start + _BLOCK] = torch.nn.functional.adaptive_avg_pool2d(stack, side).flatten(1)
    return thumbnails
