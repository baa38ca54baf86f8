"""The hybrid quantum-classical network of the paper (section 3), and its classical twin."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.models.classical_kernel import ClassicalKernel2d
from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.kernel import choose_kernel
from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.quantum import QuantumConv2d, make_circuit


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(width, width), nn.ReLU(), convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """A 3×3 convolution and its normalization; an activation is the caller's."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out))


def residual_stages(widths: tuple[int, ...] | list[int]) -> nn.Sequential:
    """Fold the image to half its side and four channels, then a residual stage for each of `widths` channels.

    `[B, 1, S, S]` → `[B, widths[-1], s, s]`; every stage but the first halves the side, so s is S / 2^len(widths),
    rounded up.
    """
    stages: list[nn.Module] = [nn.PixelUnshuffle(2)]
    for index, (n_in, width) in enumerate(zip([4, *widths], widths, strict=False)):
        stages += [convolution(n_in, width, stride=1 if index == 0 else 2), nn.ReLU(), Residual(width)]
    return nn.Sequential(*stages).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stubs lack it


class HQCNN(nn.Module):
    """Classical convolutions (eq. 1) → bounded angles → quantum convolution (eqs. 2–5) → flatten → dense (eq. 6).

    `kernel="quantum"` is the hybrid network. `kernel="classical"` is its twin: each circuit is replaced by a trainable
    classical map of the same shape with at least as many weights, and nothing else differs; a quantum layer that does
    not beat it has shown nothing. `kernel="frozen"` is the hybrid network whose circuits stay as they were drawn: what
    it reaches was not gained by training them.

    The image is folded to half its side and four channels, the stages of `widths` channels halve it once more each but
    the first, and a 1×1 convolution leaves `n_circuits` groups of channels. Angles are (π/2)·tanh: no two inputs share
    a state. Each circuit reads patches of `kernel_size²` positions, a wire (or amplitude) for each position in each
    channel of its group. `circuit` holds the arguments of `QuantumLayer`; its `n_wires` says how many that makes.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        circuit: dict[str, Any],
        kernel: str = "quantum",
        widths: tuple[int, ...] | list[int] = (48, 96, 160),
        n_circuits: int = 32,
        kernel_size: int = 2,
        dropout: float = 0.3,
    ) -> None:
        check_arguments("HQCNN", locals())
        super().__init__()
        names = ("n_wires", "n_layers", "ansatz", "encoder", "readout", "seed")
        shape = make_circuit(**{name: circuit[name] for name in names if name in circuit})
        n_values, n_outputs = shape.n_inputs, shape.n_outputs
        if n_values % kernel_size**2:
            raise ValueError(f"the circuit's {n_values} inputs must be a multiple of kernel_size² = {kernel_size**2}")
        side = math.ceil(image_size / 2 ** len(widths))  # a stride of 2 rounds up
        if side < kernel_size:
            raise ValueError(
                f"image_size={image_size} leaves {side}×{side} features, less than a patch of {kernel_size}²"
            )
        n_angles = n_circuits * n_values // kernel_size**2
        self.features = residual_stages(widths)
        self.to_angles = nn.Sequential(nn.Conv2d(widths[-1], n_angles, 1, bias=False), nn.BatchNorm2d(n_angles))
        wiring = {name: value for name, value in circuit.items() if name != "n_wires"}
        min_weights = math.prod(shape.weight_shape)
        self.kernel = choose_kernel(
            kernel,
            lambda: QuantumConv2d(n_angles, kernel_size, kernel_size, groups=n_circuits, **wiring),
            lambda: ClassicalKernel2d(n_angles, kernel_size, n_circuits, n_outputs, min_weights),
        )
        n_features = n_circuits * n_outputs * (side // kernel_size) ** 2
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(n_features, n_classes))

    def forward(self, images: Tensor) -> Tensor:
        x = standardized(images).contiguous(memory_format=torch.channels_last)
        angles = (math.pi / 2) * torch.tanh(self.to_angles(self.features(x)).float())
        return self.head(self.kernel(angles))
