"""A plain convolutional network."""

from collections.abc import Sequence

from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments

_N_DENSE = 128


class SimpleCNN(nn.Module):
    """Stages of 3×3 convolution, ReLU and 2×2 max pooling → flatten → dense 128 → dense.

    Use it as the small network that tutorials and many medical papers call "CNN", among them Mahajan et al. 2024. What
    we have of that paper does not tell the sizes of its layers; `widths` and the rest are ours. Not the classical twin
    of the hybrid network: that is `HQCNN(kernel="classical")`, which differs from it in nothing but the kernel.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`. Raises ValueError where the
    poolings leave no pixel.
    """

    def __init__(
        self, n_classes: int, image_size: int, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.3
    ) -> None:
        check_arguments("SimpleCNN", locals())
        super().__init__()
        side = image_size // 2 ** len(widths)
        if side == 0:
            raise ValueError(
                f"image_size={image_size} is less than 1 pixel after the {len(widths)} poolings of SimpleCNN: "
                f"set dataset.image_size={2 ** len(widths)} or more, or shorten model.widths"
            )
        layers: list[nn.Module] = []
        for n_in, width in zip([1, *widths], widths, strict=False):
            layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1])
        self.head = nn.Sequential(
            layers[-1],
            nn.Flatten(),
            nn.Linear(widths[-1] * side**2, _N_DENSE),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_N_DENSE, n_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(standardized(images)))
