"""The classical twin of the quantum convolution."""

import torch
from torch import Tensor, nn


class ClassicalKernel2d(nn.Module):
    """tanh of a linear map on k×k patches, one for each channel group: what `QuantumConv2d` is measured against.

    Same input, same output shape and at least `min_weights` weights a group: where one map has fewer, as many as it
    takes are stacked. For 4 wires and 2 layers both have 16 weights a group, exactly. Values in [-1, 1].

    `[B, in_channels, H, W]` → `[B, groups · n_outputs, H / k, W / k]`.
    """

    def __init__(self, in_channels: int, kernel_size: int, groups: int, n_outputs: int, min_weights: int) -> None:
        super().__init__()
        n_channels, n_first = groups * n_outputs, in_channels // groups * kernel_size**2 * n_outputs
        n_more = -(-max(min_weights - n_first, 0) // n_outputs**2)
        first = nn.Conv2d(in_channels, n_channels, kernel_size, kernel_size, groups=groups, bias=False)
        rest = [nn.Conv2d(n_channels, n_channels, 1, groups=groups, bias=False) for _ in range(n_more)]
        self.maps = nn.ModuleList([first, *rest])

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.maps:
            x = torch.tanh(linear(x))
        return x
