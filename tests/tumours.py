"""Phantom images with where their tumours are: for tests and benchmarks of what says where a network looks."""

import numpy as np
import torch
from torch import Tensor

from hqcnn_lab.data.phantom import generate as phantom


def phantom_tumours(n_images: int, seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images `[n, 1, size, size]` as `generate` makes them, labels `[n]`, and which pixels a tumour changed."""
    changes, add_tumours = [], phantom._add_tumours

    def watched(canvas, shade, label, picture: Tensor, *rest: Tensor) -> None:
        before = picture.clone()
        add_tumours(canvas, shade, label, picture, *rest)
        changes.append((picture - before).abs() > 0.05)

    phantom._add_tumours = watched
    try:
        images, labels = phantom.generate(n_images, seed, size)
    finally:
        phantom._add_tumours = add_tumours
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels), torch.cat(changes)[:n_images]


def share_inside(maps: Tensor, places: Tensor) -> np.ndarray:
    """Which share of each map's heat `[B, H, W]` lies in its place, `[B]`; 0 of a map that has none."""
    heat = maps.clamp(min=0)
    return ((heat * places).sum((1, 2)) / heat.sum((1, 2)).clamp(min=1e-9)).numpy()
