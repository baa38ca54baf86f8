"""AlexNet, as published."""

import torch
from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments

_LEAST_SIDE = 63

_N_DENSE = 4096


class AlexNet(nn.Module):
    """Five convolutions and three dense layers: AlexNet in one column (Krizhevsky 2014, arXiv:1404.5997).

    Use it to compare with papers that do, such as Mahajan et al. 2024. Not as a strong baseline: 57 million weights,
    most of them dense, and images of 64 pixels leave a single position to the dense layers, where 224 leave 6×6.

    Layers, sizes and initialization are those of torchvision's `alexnet`, and so are the names in `state_dict`: it has
    61,100,840 parameters at 1000 classes. Gray is seen as three equal channels.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`. Raises ValueError for images of
    less than 63 pixels a side, which the last pooling would leave none of.
    """

    def __init__(self, n_classes: int, image_size: int, dropout: float = 0.5) -> None:
        check_arguments("AlexNet", locals())
        super().__init__()
        if image_size < _LEAST_SIDE:
            raise ValueError(
                f"image_size={image_size} is less than the {_LEAST_SIDE} pixels that AlexNet needs: "
                "set dataset.image_size=64"
            )
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, _N_DENSE),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_N_DENSE, _N_DENSE),
            nn.ReLU(),
            nn.Linear(_N_DENSE, n_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(standardized(images).expand(-1, 3, -1, -1))
        return self.classifier(torch.flatten(self.pool(x), 1))
