"""Random affine augmentation of a whole batch at once, on whatever device the batch is."""

import torch
from torch import Tensor
from torch.nn import functional as F


class RandomAffine:
    """Mirror, rotate, shift and scale every image of a batch by its own random amount.

    For training only. What moves in from outside is black, as the background of an MR slice is. Each amount is uniform:
    `degrees` in ±degrees, `shift` in ± that share of the side, `scale` in 1 ± scale; `flip` is the probability of a
    left-right mirror image.
    """

    def __init__(self, flip: float = 0.5, degrees: float = 15, shift: float = 0.08, scale: float = 0.12) -> None:
        self.flip, self.degrees, self.shift, self.scale = flip, degrees, shift, scale

    def __call__(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same; randomness from torch's global generator of the batch's device."""
        angle, shift_x, shift_y, zoom = 2 * torch.rand(4, len(images), device=images.device) - 1
        mirror = 1 - 2 * (torch.rand(len(images), device=images.device) < self.flip).to(images.dtype)
        angle = torch.deg2rad(angle * self.degrees)
        zoom = 1 / (1 + zoom * self.scale)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        # affine_grid's coordinates run from -1 to 1, so a share of the side counts twice.
        rows = [cos * mirror, -sin, 2 * self.shift * shift_x, sin * mirror, cos, 2 * self.shift * shift_y]
        grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)
