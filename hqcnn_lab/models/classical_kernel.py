"""The classical twin of the quantum convolution."""

import torch
from torch import Tensor, nn


class ClassicalKernel2d(nn.Module):
    """tanh of a linear map on k×k patches, one for each channel group: what `QuantumConv2d` is measured against.

    Same input, same output shape and range ([-1, 1]) and at least `min_weights` weights a group: where one n×n map has
    fewer, as many as it takes are stacked. For 4 wires and 2 layers both have 16 weights a group, exactly.

    `[B, in_channels, H, W]` → `[B, groups · n, H / k, W / k]`, n = in_channels / groups · k².
    """

    def __init__(self, in_channels: int, kernel_size: int, groups: int, min_weights: int) -> None:
        super().__init__()
        n = in_channels // groups * kernel_size**2
        n_maps = max(1, -(-min_weights // n**2))
        first = nn.Conv2d(in_channels, groups * n, kernel_size, kernel_size, groups=groups, bias=False)
        rest = [nn.Conv2d(groups * n, groups * n, 1, groups=groups, bias=False) for _ in range(n_maps - 1)]
        self.maps = nn.ModuleList([first, *rest])

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.maps:
            x = torch.tanh(linear(x))
        return x
