"""Depthwise separable convolutions before one circuit, after Khan et al. (2025)."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.models.hqcnn import convolution
from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.kernel import DenseKernel
from hqcnn_lab.models.limits import check_arguments


def _separable(n_in: int, n_out: int) -> nn.Sequential:
    """A 3×3 filter for each channel, then a 1×1 convolution that mixes them; half the side (Howard et al. 2017)."""
    depthwise = nn.Conv2d(n_in, n_in, 3, stride=2, padding=1, groups=n_in, bias=False)
    pointwise = nn.Conv2d(n_in, n_out, 1, bias=False)
    return nn.Sequential(depthwise, pointwise, nn.BatchNorm2d(n_out), nn.ReLU())


class SeparableHQCNN(nn.Module):
    """Depthwise separable convolutions → average over the image → dense → one circuit → dense.

    The network of the paper's reference [15] (Khan et al. 2025): separable convolutions paired with a quantum
    feature-encoding circuit. It is described without its sizes, so widths, depth and circuit are ours: compare kinds of
    networks with it, not its accuracy with theirs. By default it has 1.4 % of `HQCNN`'s weights.

    The first convolution is an ordinary one, as in MobileNet: of one channel a depthwise one would make a single
    filter. Every stage halves the side. Dropout acts on the pooled features. `circuit` holds the arguments of
    `QuantumLayer`, any of them; `kernel` is as in `choose_kernel`: quantum, classical (the twin), frozen.

    Input: `[B, 1, image_size, image_size]` in [0, 1], of any size. Output: logits `[B, n_classes]`.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        circuit: dict[str, Any],
        kernel: str = "quantum",
        widths: tuple[int, ...] | list[int] = (32, 64, 128),
        dropout: float = 0.3,
    ) -> None:
        check_arguments("SeparableHQCNN", locals())
        super().__init__()
        stages = [_separable(n_in, width) for n_in, width in pairwise(widths)]
        self.features = nn.Sequential(convolution(1, widths[0], stride=2), nn.ReLU(), *stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.kernel = DenseKernel(widths[-1], circuit, kernel)
        self.head = nn.Linear(self.kernel.n_outputs, n_classes)
        self.features.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stubs lack it

    def forward(self, images: Tensor) -> Tensor:
        x = standardized(images).contiguous(memory_format=torch.channels_last)
        return self.head(self.kernel(self.pool(self.features(x))))
