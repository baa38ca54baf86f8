"""Random augmentation of a whole batch at once, on whatever device the batch is."""

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn import functional as F

from hqcnn_lab.data.limits import AUGMENT
from hqcnn_lab.limit import check_limits


class Augment:
    """Change every image of a batch by its own random amount: place, intensity, noise, an erased square, a mixture.

    For training only. The steps are taken in this order, and one whose amounts are 0 is left out: it costs nothing and
    draws nothing.

    - `flip` is the probability of a left-right mirror image; rotation is uniform in ±`degrees`, shift in ± that share
      of the side, zoom in 1 ± `scale`. What moves in from outside is black, as the background of an MR slice is.
    - `intensity`: pixel x becomes gain · x^gamma, both uniform in 1 ± `intensity`; black stays black.
    - `noise`: Gaussian, its standard deviation uniform from 0 to `noise`. After these two steps values are cut to
      [0, 1], so in black only the noise's upper half is left.
    - `cutout`: a black square (DeVries & Taylor 2017) whose side is that share of the image's; all of it lies inside.
    - `mixup`: an image becomes share · itself + (1 − share) · another of the batch (Zhang et al. 2018), and the loss
      mixes those of the two labels alike. The share is max(λ, 1 − λ) with λ ~ Beta(`mixup`, `mixup`): in a shuffled
      batch that makes the same mixtures, and an image's own label remains the better answer.
    """

    def __init__(
        self,
        flip: float = 0.5,
        degrees: float = 15,
        shift: float = 0.08,
        scale: float = 0.12,
        intensity: float = 0,
        noise: float = 0,
        cutout: float = 0,
        mixup: float = 0,
    ) -> None:
        check_limits(AUGMENT, locals(), "Augment: ")
        self.flip, self.degrees, self.shift, self.scale = flip, degrees, shift, scale
        self.intensity, self.noise, self.cutout, self.mixup = intensity, noise, cutout, mixup

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A new batch with another `image` `[B, C, H, W]`; randomness from torch's global generator of its device.

        With mixup also `share [B]` in [0.5, 1], that of the image's own `label`, and `mixed_label [B]` of the rest.
        """
        images = batch["image"]
        if self.flip or self.degrees or self.shift or self.scale:
            images = self._move(images)
        if self.intensity:
            gain, gamma = 1 + self.intensity * (2 * torch.rand(2, len(images), 1, 1, 1, device=images.device) - 1)
            images = gain * images**gamma
        if self.noise:
            deviation = self.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
            images = torch.addcmul(images, deviation, torch.randn_like(images))
        if self.intensity or self.noise:
            images = images.clamp(0, 1)
        if self.cutout:
            images = self._cut_out(images)
        if not self.mixup:
            return batch | {"image": images}
        # Batches are shuffled, so the neighbour is as random as any other image, and never the image itself.
        other, label = images.roll(1, 0), batch["label"].roll(1, 0)
        share = self._shares(images)
        images = torch.lerp(other, images, share.view(-1, 1, 1, 1))
        return batch | {"image": images, "share": share, "mixed_label": label}

    def _move(self, images: Tensor) -> Tensor:
        angle, shift_x, shift_y, zoom = 2 * torch.rand(4, len(images), device=images.device) - 1
        mirror = 1 - 2 * (torch.rand(len(images), device=images.device) < self.flip).to(images.dtype)
        angle = torch.deg2rad(angle * self.degrees)
        zoom = 1 / (1 + zoom * self.scale)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        # affine_grid's coordinates run from -1 to 1, so a share of the side counts twice.
        rows = [cos * mirror, -sin, 2 * self.shift * shift_x, sin * mirror, cos, 2 * self.shift * shift_y]
        grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    def _cut_out(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        side = max(1, round(self.cutout * min(height, width)))

        def inside(length: int) -> Tensor:
            """Which of `length` rows (or columns) the square of each image covers, `[B, length]`."""
            start = torch.randint(length - side + 1, (n, 1), device=images.device)
            position = torch.arange(length, device=images.device)
            return (start <= position) & (position < start + side)

        rows, columns = inside(height), inside(width)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    def _shares(self, images: Tensor) -> Tensor:
        # In float64: of a small exponent, float32 draws two zeros that leave no ratio. Checking the arguments would
        # make the host wait for the device.
        alpha = torch.full((len(images),), self.mixup, dtype=torch.float64, device=images.device)
        share = Beta(alpha, alpha, validate_args=False).sample()
        return torch.maximum(share, 1 - share).to(images.dtype)
