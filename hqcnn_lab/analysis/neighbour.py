"""The baseline that learns nothing: the nearest training image's label."""

import numpy as np
import torch

_BLOCK = 1024  # images compared with all training images at a time: with 100,000 of them, 400 MiB


def nearest_neighbour_accuracy(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, side: int = 32
) -> float:
    """Share of test images whose nearest training image (Euclidean, on `side`×`side` thumbnails) has their label.

    Put it beside every test score: where it is high, the split holds near-copies, and a model that does not beat it has
    shown nothing. Images `[n, H, W]`; ties go to the first neighbour.
    """
    train, test = _thumbnails(train_images, side), _thumbnails(test_images, side)
    norms = (train**2).sum(1)
    # argmin ‖a − b‖² over b needs no ‖a‖²
    nearest = torch.cat([torch.addmm(norms, block, train.T, alpha=-2).argmin(1) for block in test.split(_BLOCK)])
    return float((train_labels[nearest.numpy()] == test_labels).mean())


def _thumbnails(images: np.ndarray, side: int) -> torch.Tensor:
    blocks = (images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))
    stacks = (torch.from_numpy(block.astype(np.float32)).unsqueeze(1) for block in blocks)
    return torch.cat([torch.nn.functional.adaptive_avg_pool2d(stack, side).flatten(1) for stack in stacks])
