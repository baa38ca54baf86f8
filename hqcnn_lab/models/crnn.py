"""The classical pipeline of Srinivasan et al. 2023: denoise, segment, measure texture, classify with a CRNN."""

import torch
from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.models.texture import (
    HARALICK_FEATURES,
    OFFSETS,
    adaptive_filter,
    banded_lbglcm,
    enhanced_fuzzy_c_means,
    haralick,
)

_GREY_LEVELS = 256
# By then the centres of 24 in 25 slices (phantom and Kaggle) are within a grey level of where they end. A fixed number
# asks nothing back from the device, and exports.
_FCM_ITERATIONS = 50


class CRNN(nn.Module):
    """Adaptive filter → enhanced fuzzy c-means → LBGLCM texture → convolutions → recurrent layer → dense.

    The four phases of Srinivasan et al. 2023, a hand-engineered baseline for brain MR slices. Not a reproduction: of
    their network only the kind is known to us. Ours are: the memberships as channels beside the filtered image, texture
    in horizontal bands, and every size. As in Shi et al. 2017 a map is read as a sequence, here of rows, top to bottom:

    1. `preprocess`: the denoised image and `n_clusters` membership maps, and for each band of 2^len(widths) rows the
       six Haralick features of its LBGLCM in four directions. No weights, no gradient, float32 also under autocast.
    2. `features`: folded to half the side, then a 3×3 convolution for each of `widths`, which halves the side but for
       the first; a row of the last map lies in one band.
    3. A bidirectional GRU of `hidden` units reads the rows, each with its band's texture; a dense layer their mean.

    Explain it with `occlusion`, not with gradients by the image: preprocessing passes none.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`. Raises ValueError where
    `image_size` does not halve len(widths) times.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        n_clusters: int = 3,
        n_levels: int = 16,
        widths: tuple[int, ...] | list[int] = (16, 32),
        hidden: int = 64,
        dropout: float = 0.3,
    ) -> None:
        check_arguments("CRNN", locals())
        super().__init__()
        height = 2 ** len(widths)
        if image_size % height:
            raise ValueError(f"image_size={image_size} must be a multiple of 2^len(widths) = {height}")
        self.n_clusters, self.n_levels = n_clusters, n_levels
        self.n_bands = image_size // height
        stages: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for index, (n_in, width) in enumerate(zip([4 * (1 + n_clusters), *widths], widths, strict=False)):
            convolution = nn.Conv2d(n_in, width, 3, 1 if index == 0 else 2, 1, bias=False)
            stages += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*stages).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stubs lack it
        n_texture = len(OFFSETS) * len(HARALICK_FEATURES)
        self.texture_scale = nn.BatchNorm1d(n_texture)  # the features' ranges differ by two orders of magnitude
        self.recurrent = nn.GRU(widths[-1] * self.n_bands + n_texture, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, n_classes))

    @torch.no_grad()
    def preprocess(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The parts without weights: maps `[B, 1 + n_clusters, H, W]` and texture `[B, n_bands, 24]` of `[B, 1, H, W]`.

        The maps are the denoised image, standardized, and the memberships, darkest cluster first.
        """
        with torch.autocast(images.device.type, enabled=False):
            denoised = adaptive_filter(images.squeeze(1).float())
            _, memberships = enhanced_fuzzy_c_means(
                denoised, self.n_clusters, n_levels=_GREY_LEVELS, max_iterations=_FCM_ITERATIONS, tolerance=0
            )
            grey = (denoised * (_GREY_LEVELS - 1)).round()
            texture = haralick(banded_lbglcm(grey, self.n_bands, self.n_levels)).flatten(2)
            maps = torch.cat([standardized(denoised).unsqueeze(1), memberships], 1)
        return maps.to(images.dtype), texture.to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        maps, texture = self.preprocess(images)
        rows = self.features(maps.contiguous(memory_format=torch.channels_last)).transpose(1, 2).flatten(2)
        scaled = self.texture_scale(texture.flatten(0, 1)).unflatten(0, (-1, self.n_bands))
        states, _ = self.recurrent(torch.cat([rows, scaled], 2))
        return self.head(states.mean(1))
