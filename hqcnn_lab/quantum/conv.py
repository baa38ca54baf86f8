"""A quantum convolution, whose kernel is a circuit, and a quantum pooling."""

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from hqcnn_lab.quantum.check import check_count
from hqcnn_lab.quantum.module import CircuitModule
from hqcnn_lab.quantum.noise import Noise


class QuantumConv2d(CircuitModule):
    """Slide one circuit per channel group over an image, as `nn.Conv2d` slides a kernel (paper sections 3.2, 3.5-3.7).

    Each k×k patch of a group is encoded, by default one value per wire, and read, by default as ⟨Z⟩ of every wire, so
    that a patch of n values gives n channels. Use it on feature maps already scaled to angles, about ±π/2. Not a
    drop-in for `nn.Conv2d`: the number of output channels follows from the readout, and groups never mix (put a 1×1
    convolution before or after).

    Shapes: `[..., in_channels, H, W]` radians → `[..., out_channels, H', W']` in [−1, 1], H' and W' as in `nn.Conv2d`.
    Input channels split into groups of neighbours; within a group, values run over (channel, row, column) in that
    order, the order of `F.unfold`. Output channel `g · outputs + i` is output i of group g. Padding adds angle 0, that
    is |0⟩. Precision as in `QuantumLayer`.

    Args:
        in_channels, kernel_size, stride, padding: as in `nn.Conv2d`, whole numbers.
        groups: number of circuits; default `in_channels`, one circuit a channel. A patch has in_channels/groups · k²
            values: as many wires, or, for amplitude encoding, the wires whose 2ⁿ amplitudes hold them, filled with 0.
        n_layers and all others: as in `QuantumLayer`.

    Attributes: `weights`, the one parameter, [groups, *circuit.weight_shape] radians; `n_wires`; `out_channels`.

    Raises ValueError for a wrong argument or input shape, TypeError for input that is not floating point.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 2,
        stride: int = 2,
        padding: int = 0,
        groups: int | None = None,
        n_layers: int = 2,
        ansatz: str = "hardware_efficient",
        encoder: str = "angle_y",
        readout: str = "z",
        engine: str = "auto",
        noise: Noise | Mapping[str, Any] | None = None,
        shots: int | None = None,
        shot_gradient: str = "straight_through",
        seed: int = 0,
    ):
        groups = in_channels if groups is None else groups
        for name, value in {
            "in_channels": in_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "groups": groups,
        }.items():
            check_count(name, value)
        check_count("padding", padding, minimum=0)
        if in_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels}")
        n_values = in_channels // groups * kernel_size**2
        n_wires = max((n_values - 1).bit_length(), 1) if encoder == "amplitude" else n_values
        options = (ansatz, encoder, readout, engine, noise, shots, shot_gradient, seed)
        wires_from = "in_channels/groups · kernel_size²"
        super().__init__(n_wires, n_layers, *options, n_circuits=groups, wires_from=wires_from)
        self.in_channels, self.kernel_size, self.stride = in_channels, kernel_size, stride
        self.padding, self.groups, self.out_channels = padding, groups, groups * self.circuit.n_outputs

    def forward(self, angles: Tensor) -> Tensor:
        values = self.expectations(self.fold(angles))  # [groups, outputs, images · rows · columns]
        *leading, _, height, width = angles.shape
        rows, columns = self._positions(height), self._positions(width)
        values = values.reshape(*values.shape[:2], -1 if values.numel() else 0, rows, columns)
        return values.permute(2, 0, 1, 3, 4).reshape(*leading, self.out_channels, rows, columns)

    def fold(self, angles: Tensor) -> Tensor:
        """[..., in_channels, H, W] → the patches [groups, inputs, images · rows · columns] that the circuits run on."""
        if angles.dim() < 3 or angles.shape[-3] != self.in_channels:
            raise ValueError(f"expected [..., in_channels={self.in_channels}, H, W], got shape {tuple(angles.shape)}")
        *leading, _, height, width = angles.shape
        rows, columns = self._positions(height), self._positions(width)
        if rows < 1 or columns < 1:
            raise ValueError(
                f"kernel_size={self.kernel_size} does not fit input {height}×{width} with padding={self.padding}"
            )
        images = angles.reshape(math.prod(leading), *angles.shape[-3:])
        patches = self._patches(images, rows, columns)
        if self.encoder == "amplitude":
            patches = F.pad(patches, (0, 0, 0, self.circuit.n_inputs - patches.shape[1]))
        return patches

    def _positions(self, size: int) -> int:
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1

    def _patches(self, images: Tensor, rows: int, columns: int) -> Tensor:
        """[N, channels, H, W] → [groups, values, N · rows · columns], one copy when patches do not overlap."""
        k = self.kernel_size
        if self.stride == k and self.padding == 0:
            tiles = images[:, :, : rows * k, : columns * k].reshape(
                -1, self.groups, self.in_channels // self.groups, rows, k, columns, k
            )
            return tiles.permute(1, 2, 4, 6, 0, 3, 5).flatten(4).flatten(1, 3)
        tiles = F.unfold(images, k, padding=self.padding, stride=self.stride)
        tiles = tiles.reshape(-1, self.groups, self.in_channels // self.groups * k**2, rows * columns)
        return tiles.permute(1, 2, 0, 3).flatten(2)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, groups={self.groups}, n_wires={self.n_wires}, {self.circuit_repr()}"
        )


class QuantumPool2d(QuantumConv2d):
    """Pool each channel with a circuit of its own: k×k angles in, entangled and halved down to one wire, ⟨Z⟩ out.

    The QCNN's pooling (Cong, Choi, Lukin 2019; here ansatz "pooling"), trained, in the place of `nn.MaxPool2d`. Use it
    between quantum convolutions, scaled to angles. Not where a fixed, monotonic pooling is wanted: it has weights.

    Shapes: `[..., channels, H, W]` radians → `[..., channels, H/k, W/k]` in [−1, 1].

    Args:
        channels: circuits, one a channel.
        kernel_size: side of the square that is pooled, and its stride; k² wires, halved ⌈log₂ k²⌉ times.
        encoder and all others: as in `QuantumLayer`.

    Attributes: `weights`, [channels, ⌈log₂ k²⌉, 6] radians.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 2,
        encoder: str = "angle_y",
        engine: str = "auto",
        noise: Noise | Mapping[str, Any] | None = None,
        shots: int | None = None,
        shot_gradient: str = "straight_through",
    ):
        check_count("kernel_size", kernel_size, minimum=2)
        if encoder == "amplitude":
            raise ValueError("QuantumPool2d needs a wire for each value, not encoder='amplitude': use an angle encoder")
        n_layers = (kernel_size**2 - 1).bit_length()
        options = ("pooling", encoder, "z", engine, noise, shots, shot_gradient)
        super().__init__(channels, kernel_size, kernel_size, 0, None, n_layers, *options)
