"""Texture: local binary patterns, grey-level co-occurrence, and the co-occurrence of the patterns (LBGLCM)."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Right, down and the two diagonals: with both directions of each counted, all eight neighbours.
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))
HARALICK_FEATURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM")


def local_binary_pattern(images: Tensor) -> Tensor:
    """Which of its eight neighbours are at least as bright as each pixel (Ojala et al. 1996).

    Use it for texture that is to survive any monotone change of intensity. Not on unquantized noise, where a flat area
    is all texture: round to the scanner's grey levels first.

    Neighbour k of the 3×3 square, read row by row without the middle, adds 2^k to the code where neighbour ≥ middle:

        1   2   4
        8   ·  16
        32 64 128

    Args:
        images: `[B, H, W]`, real. Outside the image lie copies of its border.

    Returns codes `[B, H, W]`, int64, from 0 to 255; 255 where an area is flat.
    """
    height, width = images.shape[1:]
    padded = F.pad(images.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1)
    codes = torch.zeros_like(images, dtype=torch.uint8)
    corners = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    for k, (row, column) in enumerate(corners):
        neighbour = padded[:, row : row + height, column : column + width]
        codes += (neighbour >= images).to(torch.uint8) * 2**k
    return codes.long()


def glcm(levels: Tensor, n_levels: int, offsets: tuple[tuple[int, int], ...] = OFFSETS) -> Tensor:
    """How often two grey levels lie at an offset from each other: co-occurrence matrices (Haralick et al. 1973).

    Use few levels for small images: a matrix has n_levels² entries to estimate from at most H·W pairs.

    Args:
        levels: `[B, H, W]`, integers from 0 to n_levels − 1.
        n_levels: grey levels.
        offsets: (rows down, columns to the right) from a pixel to its partner.

    Returns `[B, n_offsets, n_levels, n_levels]`, float32: symmetric (a pair counts both ways) and of sum 1, as
    `skimage.feature.graycomatrix(symmetric=True, normed=True)`. Raises ValueError for levels out of range and for an
    offset that leaves no pair.
    """
    if levels.numel() and not 0 <= levels.min() <= levels.max() < n_levels:
        raise ValueError(
            f"levels from {levels.min()} to {levels.max()}: must be from 0 to n_levels − 1 = {n_levels - 1}"
        )
    return _co_occurrence(levels, n_levels, offsets)


def lbglcm(images: Tensor, n_levels: int = 16) -> Tensor:
    """Co-occurrence of local binary patterns (LBGLCM): which micro-textures lie beside which.

    Use it for texture by itself: neither brightness nor contrast changes it. Not for tissues told apart by intensity,
    which co-occurrence of the grey levels, `glcm`, sees.

    The 256 codes of `local_binary_pattern` are cut to their leading bits. 16 levels keep the comparisons with the right
    and the three lower neighbours, each pair of opposite neighbours once.

    Args:
        images: `[B, H, W]`, real.
        n_levels: levels of the quantized codes, at most 256.

    Returns `[B, n_offsets, n_levels, n_levels]` for the offsets right, down and both diagonals. Raises ValueError for
    other `n_levels`.
    """
    return banded_lbglcm(images, n_bands=1, n_levels=n_levels).squeeze(1)


def banded_lbglcm(images: Tensor, n_bands: int, n_levels: int = 16) -> Tensor:
    """`lbglcm` of each of `n_bands` horizontal bands of equal height, top to bottom.

    Codes are those of the whole image, so only the pairs, not the patterns, end at a band's edge.

    Returns `[B, n_bands, n_offsets, n_levels, n_levels]`. Raises ValueError where H is not a multiple of `n_bands`, or
    a band has less than two rows.
    """
    if not 2 <= n_levels <= 256:
        raise ValueError(f"n_levels={n_levels} must be from 2 to 256, the number of codes")
    if images.shape[1] % n_bands:
        raise ValueError(f"the height {images.shape[1]} must be a multiple of n_bands={n_bands}")
    levels = local_binary_pattern(images) * n_levels // 256
    bands = levels.unflatten(1, (n_bands, -1)).flatten(0, 1)
    return _co_occurrence(bands, n_levels, OFFSETS).unflatten(0, (-1, n_bands))


def haralick(matrices: Tensor) -> Tensor:
    """Six numbers that sum up a co-occurrence matrix (Haralick et al. 1973), named in `HARALICK_FEATURES`.

    With p_ij the matrix and μ, σ the mean and standard deviation of its margins:

        contrast Σ p (i − j)²,  dissimilarity Σ p |i − j|,  homogeneity Σ p / (1 + (i − j)²),
        energy √ASM,  correlation Σ p (i − μ_i)(j − μ_j) / (σ_i σ_j),  ASM Σ p².

    Use them where matrices are too sparse to be features themselves. On LBGLCM i − j compares codes, whose leading bits
    weigh most, so contrast has no unit of intensity there.

    Args:
        matrices: `[..., n_levels, n_levels]`, each of sum 1.

    Returns `[..., 6]`, as `skimage.feature.graycoprops`; the correlation of a constant image is 1.
    """
    level = torch.arange(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    difference = (level[:, None] - level).abs()
    weights = torch.stack([difference.square(), difference, 1 / (1 + difference.square())], -1)
    contrast, dissimilarity, homogeneity = (matrices.flatten(-2) @ weights.flatten(0, 1)).unbind(-1)
    asm = matrices.flatten(-2).square().sum(-1)
    rows, columns = (_deviations(matrices.sum(axis), level) for axis in (-1, -2))
    covariance = ((matrices @ columns[0].unsqueeze(-1)).squeeze(-1) * rows[0]).sum(-1)
    scale = rows[1] * columns[1]
    correlation = torch.where(scale > 0, covariance / scale, 1)
    return torch.stack([contrast, dissimilarity, homogeneity, asm.sqrt(), correlation, asm], -1)


def _deviations(margin: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Levels less their mean, `[..., n_levels]`, and their standard deviation, `[...]`."""
    deviation = level - (margin * level).sum(-1, keepdim=True)
    return deviation, (margin * deviation.square()).sum(-1).sqrt()


def _co_occurrence(levels: Tensor, n_levels: int, offsets: tuple[tuple[int, int], ...]) -> Tensor:
    n_images, height, width = levels.shape
    first = n_levels**2 * torch.arange(n_images, device=levels.device)[:, None, None]
    matrices = []
    for down, right in offsets:
        if abs(down) >= height or abs(right) >= width:
            raise ValueError(f"offset {(down, right)} leaves no pair in {height}×{width} pixels")
        top, left = max(0, -down), max(0, -right)
        rows, columns = height - abs(down), width - abs(right)
        pixel = levels[:, top : top + rows, left : left + columns]
        neighbour = levels[:, top + down : top + down + rows, left + right : left + right + columns]
        index = (first + n_levels * pixel + neighbour).flatten()
        # In one dimension, where CUDA's scatter_add is deterministic too.
        counts = torch.zeros(n_images * n_levels**2, device=levels.device)
        counts.scatter_add_(0, index, counts.new_ones(()).expand_as(index))
        one_way = counts.view(n_images, n_levels, n_levels)
        matrices.append((one_way + one_way.mT).div_(2 * rows * columns))
    return torch.stack(matrices, 1)
