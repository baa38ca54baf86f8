"""What the phantom is painted with: random numbers, coordinates, distances and coverage, for a block of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

# Random numbers are drawn for a block of this many images, and always for all of them, so image i depends on (seed, i)
# alone, bit for bit, however many images are asked for. Changing it changes every image.
BLOCK = 32

_FAR = 9.0  # a distance outside every picture, for an image that has no such part
_HALF = torch.tensor(0.5)

Ellipse = tuple[int, int, int, int, int]  # centre x, y, radius x, y in hundredths, tilt in degrees


@cache
def ellipse_table(views: tuple[tuple[Ellipse, ...], ...]) -> Tensor:
    """The ellipses of each view as one tensor `[view, part, 5]`; where a view has fewer, circles far away fill it."""
    width = max(len(parts) for parts in views)
    padded = [[*parts, *[(900, 900, 10, 10, 0)] * (width - len(parts))] for parts in views]
    return torch.tensor(padded) * torch.tensor([0.01, 0.01, 0.01, 0.01, math.pi / 180])


@cache
def _smoothing(cells: int, size: int) -> Tensor:
    """Weights `[size, cells + 3]` that make a smooth curve of unit variance from independent normal numbers."""
    knots = cells + 3
    position = torch.linspace(1.0, knots - 2.0, size)
    weight = torch.exp(-1.2 * (position[:, None] - torch.arange(knots)) ** 2)
    return weight / weight.norm(dim=1, keepdim=True)


class Draws:
    """The random numbers of a block: drawn for all its images, in one order, and given for the images in `rows`."""

    def __init__(self, rng: np.random.Generator, size: int, rows: Tensor | None = None) -> None:
        self.rng, self.size, self.rows = rng, size, rows

    def of(self, values: Tensor) -> Tensor:
        """Of values for the whole block, those of these images."""
        return values if self.rows is None else values.index_select(0, self.rows)

    def uniform(self, low: float, high: float) -> Tensor:
        return self.of(torch.from_numpy(self.rng.random((BLOCK, 1, 1), dtype=np.float32))) * (high - low) + low

    def chance(self, probability: float) -> Tensor:
        return (self.uniform(0.0, 1.0) < probability).float()

    def lottery(self) -> Tensor:
        """A number in [0, 1) for every pixel, of which `Canvas.spot` takes the highest."""
        return self.of(torch.from_numpy(self.rng.random((BLOCK, self.size, self.size), dtype=np.float32)))

    def noise(self) -> Tensor:
        return self.of(torch.from_numpy(self.rng.standard_normal((BLOCK, self.size, self.size), dtype=np.float32)))

    def field(self, cells: int) -> Tensor:
        """A smooth random field of unit variance with about `cells` bumps across the picture, whatever its size."""
        weight = _smoothing(cells, self.size)
        knots = weight.shape[1]
        values = torch.from_numpy(self.rng.standard_normal((BLOCK, knots, knots), dtype=np.float32))
        columns = self.of(values @ weight.T)
        return torch.bmm(weight.expand(len(columns), -1, -1), columns)


class Canvas(Draws):
    """Images of a block, with the coordinates `x` and `y` `[n, size, size]` of their pixels, and rules of painting."""

    def __init__(
        self, rng: np.random.Generator, x: Tensor, y: Tensor, plane: Tensor, rows: Tensor | None = None
    ) -> None:
        super().__init__(rng, x.shape[-1], rows)
        self.x, self.y = x, y
        self._plane = plane  # x, y and 1 of every pixel, `[n, 3, size²]`
        self._plane_of_view: dict[int, Tensor] = {}

    def where(self, mask: Tensor) -> Canvas:
        """The images of the block where `mask` `[n, 1, 1]` is not 0: the others are spared what they do not show.

        All images where the pixels of one do not fill the processor's vectors: torch computes what is left over in
        another way, and how much is left over would depend on the number of images.
        """
        rows = mask.flatten().nonzero()[:, 0] if self.size % 8 == 0 else torch.arange(len(mask))
        plane = self._plane.index_select(0, rows)
        x, y = (plane[:, i].view(-1, self.size, self.size) for i in range(2))
        return Canvas(self.rng, x, y, plane, rows)

    def paint(self, pictures: Tensor, mine: Tensor) -> None:
        """Put the pictures of these images, which are some of a block (`where`), among all of it."""
        assert self.rows is not None
        pictures.index_copy_(0, self.rows, mine)

    def union(self, ellipses: Tensor, view: Tensor, n_parts: Sequence[int]) -> Tensor:
        """Approximate signed distance, negative inside, to the union of ellipses `[image, part, 5]`.

        An image of view v has `n_parts[v]` of them. In an ellipse's own axes, scaled to a unit circle, the coordinates
        are affine in x and y: one matrix product.
        """
        cx, cy, rx, ry, tilt = ellipses.unbind(2)
        c, s = torch.cos(tilt), torch.sin(tilt)
        along = torch.stack((c / rx, s / rx, -(c * cx + s * cy) / rx), 2)
        across = torch.stack((-s / ry, c / ry, (s * cx - c * cy) / ry), 2)
        least = torch.minimum(rx, ry)[:, :, None]
        distance = torch.full_like(self.x, _FAR)
        for number, n in enumerate(n_parts):
            rows = (view == number).nonzero()[:, 0]
            if n == 0 or len(rows) == 0:
                continue
            if number not in self._plane_of_view:  # the same images every time
                self._plane_of_view[number] = self._plane.index_select(0, rows)
            matrix = torch.cat((along[:, :n], across[:, :n]), 1).index_select(0, rows)
            of_view = self._distance(matrix, least[:, :n].index_select(0, rows), self._plane_of_view[number])
            distance.index_copy_(0, rows, of_view)
        return distance

    def blob(self, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
        """The distance to one upright ellipse an image; centres and radii `[n, 1, 1]`."""
        zero = torch.zeros_like(cx)
        along, across = torch.cat((1 / rx, zero, -cx / rx), 2), torch.cat((zero, 1 / ry, -cy / ry), 2)
        return self._distance(torch.cat((along, across), 1), torch.minimum(rx, ry), self._plane)

    def _distance(self, matrix: Tensor, least: Tensor, plane: Tensor) -> Tensor:
        n = least.shape[1]
        squared = torch.bmm(matrix, plane).square_()
        scaled = squared[:, :n].add_(squared[:, n:]).sqrt_().sub_(1.0).mul_(least)
        return (scaled.amin(1) if n > 1 else scaled).view(-1, self.size, self.size)

    def inside(self, distance: Tensor, softness: Tensor | float = 0.0) -> Tensor:
        """Coverage of a pixel: 1 inside, 0 outside, a ramp one and a half pixels (plus `softness`) wide between."""
        ramp = distance / (3.0 / self.size + softness)
        return torch.sub(_HALF, ramp, out=ramp).clamp_(0.0, 1.0)

    def spot(self, allowed: Tensor, lottery: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates `[n, 1, 1]` of one random pixel per image among those `allowed`."""
        winner = torch.from_numpy((lottery + allowed).flatten(1).numpy().argmax(1))[:, None]
        x, y = (a.flatten(1).gather(1, winner)[:, :, None] for a in (self.x, self.y))
        return x, y


def posed_canvas(rng: np.random.Generator, size: int) -> Canvas:
    """The canvas of a new block: every head turned, scaled, moved, perhaps mirrored, and bent a little."""
    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    x, y = axis.expand(BLOCK, size, size), axis[:, None].expand(BLOCK, size, size)
    draws = Draws(rng, size)
    angle, scale, aspect = draws.uniform(-0.2, 0.2), draws.uniform(0.9, 1.12), draws.uniform(0.93, 1.07)
    dx, dy = x - draws.uniform(-0.07, 0.07), y - draws.uniform(-0.07, 0.07)
    c, s = torch.cos(angle), torch.sin(angle)
    # The warp bends every outline a little, so that no two heads are similar and no head is symmetric.
    mirror = 2.0 * draws.chance(0.5) - 1.0
    warp_x, warp_y = (0.022 * draws.field(4) for _ in range(2))
    x = mirror * (c * dx + s * dy) / (scale * aspect) + warp_x
    y = (c * dy - s * dx) * aspect / scale + warp_y
    return Canvas(rng, x, y, torch.stack((x, y, torch.ones_like(x)), 1).flatten(2))


def smoothed(pictures: Tensor) -> Tensor:
    """The mean of 3×3 pixels, black beyond the edge; as `avg_pool2d` has it, to the bit, in a tenth of its time."""
    n, height, width = pictures.shape
    padded = torch.zeros(n, height + 2, width + 2)
    padded[:, 1:-1, 1:-1] = pictures
    total = torch.zeros_like(pictures)
    for row in range(3):
        for column in range(3):
            total += padded[:, row : row + height, column : column + width]
    return total.div_(9)
