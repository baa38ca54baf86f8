"""The contracting path of a U-Net as a classifier."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments


class UNetEncoder(nn.Module):
    """The contracting path of a U-Net (Ronneberger et al. 2015) → global average pooling → dense, of MONAI's blocks.

    Use it to compare with papers that classify by a U-Net, such as Srinivasan et al. 2023; what we have of that paper
    does not tell how, and `widths` is ours. Not a segmentation: the expanding path, which would return to the image's
    resolution, is left out.

    Each of `widths` is a pair of 3×3 convolutions with ReLU, and a 2×2 max pooling lies between two pairs. Unlike the
    original, convolutions are padded and batch-normalized. MONAI's default of instance normalization would not do: it
    takes from each channel of each image the mean, which is most of what the pooling passes on.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`. Raises ValueError where the
    poolings leave no pixel.
    """

    def __init__(
        self, n_classes: int, image_size: int, widths: Sequence[int] = (16, 32, 64, 128), dropout: float = 0.3
    ) -> None:
        check_arguments("UNetEncoder", locals())
        from monai.networks.nets.basic_unet import Down, TwoConv  # takes seconds

        super().__init__()
        least = 2 ** (len(widths) - 1)
        if image_size < least:
            raise ValueError(
                f"image_size={image_size} is less than 1 pixel after the {len(widths) - 1} poolings of UNetEncoder: "
                f"set dataset.image_size={least} or more, or shorten model.widths"
            )
        block: dict[str, Any] = {"act": "relu", "norm": "batch", "bias": False}
        stages: list[nn.Module] = [TwoConv(2, 1, widths[0], **block)]
        for n_in, width in pairwise(widths):
            stages.append(Down(2, n_in, width, **block))
        self.features = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], n_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(standardized(images)))
