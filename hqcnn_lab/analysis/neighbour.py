"""The baseline that learns nothing: the nearest training image's label."""

import numpy as np
import torch


def nearest_neighbour_accuracy(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, side: int = 32
) -> float:
    """Share of test images whose nearest training image (Euclidean, on `side`×`side` thumbnails) has their label.

    Put it beside every test score: where it is high, the split holds near-copies, and a model that does not beat it has
    shown nothing. Images `[n, H, W]`; ties go to the first neighbour.
    """
    train, test = _thumbnails(train_images, side), _thumbnails(test_images, side)
    # argmin ‖a − b‖² over b needs no ‖a‖²
    scores = (train**2).sum(1) - 2 * test @ train.T
    nearest = scores.argmin(1).numpy()
    return float((train_labels[nearest] == test_labels).mean())


def _thumbnails(images: np.ndarray, side: int) -> torch.Tensor:
    stack = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
    return torch.nn.functional.adaptive_avg_pool2d(stack, side).flatten(1)
