"""A fully connected network on pixels."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments


class ANN(nn.Module):
    """Pixels → fully connected layers with ReLU → dense: a multilayer perceptron, which knows nothing of neighbours.

    Use it as the floor that convolutions must beat: the "ANN" of Mahajan et al. 2024 and the "BP neural network" of
    Srinivasan et al. 2023. Not for large images: the first layer grows with the number of pixels. What we have of
    those papers does not tell the sizes of their layers; `hidden` is ours. `hidden=[]` is multinomial logistic
    regression.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`.
    """

    def __init__(
        self, n_classes: int, image_size: int, hidden: Sequence[int] = (512, 128), dropout: float = 0.3
    ) -> None:
        check_arguments("ANN", locals())
        super().__init__()
        widths = [image_size**2, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(standardized(images))
