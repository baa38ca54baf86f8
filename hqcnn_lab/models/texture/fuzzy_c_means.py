"""Enhanced fuzzy c-means: soft segmentation by intensity, at a cost per grey level and not per pixel."""

import torch
from torch import Tensor

from hqcnn_lab.models.texture.adaptive_filter import window_sum


def enhanced_fuzzy_c_means(
    images: Tensor,
    n_clusters: int = 3,
    fuzziness: float = 2.0,
    n_levels: int = 256,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
    alpha: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Segment images by intensity with enhanced fuzzy c-means (EnFCM, Szilágyi et al. 2003).

    Each pixel x is first averaged with its N_R neighbours, those of its 3×3 square that lie in the image,

        ξ = (x + α/N_R · Σ neighbours) / (1 + α),

    and rounded to `n_levels` grey levels, γ_l pixels at level ξ_l. Fuzzy c-means with exponent m then alternates

        u_cl = 1 / Σ_k (|ξ_l − v_c| / |ξ_l − v_k|)^(2/(m−1)),     v_c = Σ_l γ_l u_cl^m ξ_l / Σ_l γ_l u_cl^m.

    Use it where tissues differ in brightness. Not where a coil's bias field does: clusters then follow the field, and
    the numbers of a cluster mean another tissue in another contrast. Clusters of very unequal size are drawn to the
    larger one, as in any fuzzy c-means.

    Centres start evenly spread over the range of each image's levels (ours; no random numbers), and an image whose
    centres move by at most `tolerance` keeps them, so its result does not depend on the others in the batch.

    Args:
        images: `[B, H, W]` in [0, 1]; values outside count as the nearest level.
        n_clusters: C.
        fuzziness: m, above 1; towards 1 the memberships become hard.
        n_levels: grey levels from 0 to 1; 256 loses nothing of an 8-bit image with `alpha=0`.
        max_iterations: updates of the centres at most.
        tolerance: in units of intensity. 0 runs all iterations and asks nothing back from the device in between.
        alpha: weight of the neighbours' mean against the pixel's own value; 0 is fuzzy c-means on the histogram. The
            paper leaves it to the user; 1 is ours.

    Returns centres `[B, C]`, ascending, and memberships `[B, C, H, W]`, which sum to 1 over C. A level that equals a
    centre belongs to it alone, or in equal parts to all centres there: 1/C throughout a constant image. No gradient
    reaches `images`. Raises ValueError for arguments out of range.
    """
    if n_clusters < 1 or n_levels < 2 or max_iterations < 1:
        raise ValueError(f"{n_clusters=}, {n_levels=}, {max_iterations=}: needs at least 1, 2 and 1")
    if fuzziness <= 1 or alpha < 0 or tolerance < 0:
        raise ValueError(f"{fuzziness=}, {alpha=}, {tolerance=}: needs fuzziness > 1 and no negative number")
    level = (_averaged(images, alpha) * (n_levels - 1)).round().long().clamp_(0, n_levels - 1).flatten(1)
    counts = _histogram(level, n_levels, images.dtype)
    values = torch.linspace(0, 1, n_levels, dtype=images.dtype, device=images.device)
    centres = _spread(level, n_clusters, values)
    moving = torch.ones_like(centres[:, :1], dtype=torch.bool)
    for _ in range(max_iterations):
        weights = counts.unsqueeze(1) * _memberships(values, centres, fuzziness) ** fuzziness
        total = weights.sum(2)
        # A cluster without pixels stays where it is.
        updated = torch.where(total > 0, weights @ values / total, centres)
        step = (updated - centres).abs().amax(1, keepdim=True)
        centres = torch.where(moving, updated, centres)
        moving = moving & (step > tolerance)
        if tolerance > 0 and not moving.any():
            break
    centres = centres.sort(1).values
    of_level = _memberships(values, centres, fuzziness)
    of_pixel = of_level.gather(2, level.unsqueeze(1).expand(-1, n_clusters, -1))
    return centres, of_pixel.unflatten(2, images.shape[1:])


def _averaged(images: Tensor, alpha: float) -> Tensor:
    """ξ: each pixel averaged with its neighbours in the image."""
    if alpha == 0:
        return images
    n_neighbours = (window_sum(torch.ones_like(images[:1]), 3) - 1).clamp(min=1)  # an image may be one pixel
    return (images + alpha * (window_sum(images, 3) - images) / n_neighbours) / (1 + alpha)


def _histogram(level: Tensor, n_levels: int, dtype: torch.dtype) -> Tensor:
    """γ: `[B, pixels]` → `[B, n_levels]`."""
    n_images = level.shape[0]
    first = n_levels * torch.arange(n_images, device=level.device).unsqueeze(1)
    counts = torch.zeros(n_images * n_levels, dtype=dtype, device=level.device)
    # In one dimension, where CUDA's scatter_add is deterministic too.
    index = (first + level).flatten()
    return counts.scatter_add_(0, index, counts.new_ones(()).expand_as(index)).view(n_images, n_levels)


def _spread(level: Tensor, n_clusters: int, values: Tensor) -> Tensor:
    """The middles of `n_clusters` equal parts of each image's range.

    Not quantiles: where more than a part of the pixels is background, several fall together and never separate.
    """
    low, high = values[level.amin(1, keepdim=True)], values[level.amax(1, keepdim=True)]
    middles = (torch.arange(n_clusters, dtype=values.dtype, device=values.device) + 0.5) / n_clusters
    return low + (high - low) * middles


def _memberships(values: Tensor, centres: Tensor, fuzziness: float) -> Tensor:
    """u: `[levels]`, `[B, C]` → `[B, C, levels]`; the formula as a softmax, which knows no division by 0."""
    distance = (values - centres.unsqueeze(2)).abs()
    closeness = distance.log_().mul_(-2 / (fuzziness - 1))
    return closeness.clamp_(max=torch.finfo(values.dtype).max).softmax(1)
