"""Residual networks, as published."""

from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments


class ResNet(nn.Module):
    """A residual network of 18 or 50 layers (He et al. 2016), MONAI's.

    Use it as the strong classical baseline: Gulcer and Namli 2024 report their best figures of it, and Srinivasan et
    al. 2023 compare with it. Not for very small images: its stem and stages shrink the side 32 times, which leaves 2×2
    positions of 64 pixels.

    It has 11,689,512 (18) and 25,557,032 (50) parameters at 1000 classes. Gray is seen as three equal channels. Weights
    of MedicalNet are three-dimensional: it starts from random ones.

    Input: `[B, 1, image_size, image_size]` in [0, 1], of any size. Output: logits `[B, n_classes]`. Raises ValueError
    for another depth.
    """

    def __init__(self, n_classes: int, image_size: int, depth: int = 18) -> None:
        check_arguments("ResNet", locals())
        from monai.networks.nets.resnet import resnet18, resnet50  # takes seconds

        super().__init__()
        makers = {18: resnet18, 50: resnet50}
        self.network = makers[depth](
            spatial_dims=2,
            n_input_channels=3,
            num_classes=n_classes,
            conv1_t_stride=2,  # as published; MONAI's default is 1
            shortcut_type="B",
            bias_downsample=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.network(standardized(images).expand(-1, 3, -1, -1))
