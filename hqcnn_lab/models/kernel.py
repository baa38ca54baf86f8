"""What stands between a network's features and its dense layer: a circuit, or what it is compared with."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.limit import check_limits
from hqcnn_lab.models.classical_kernel import ClassicalKernel2d
from hqcnn_lab.models.limits import KERNEL
from hqcnn_lab.quantum import QuantumLayer


def choose_kernel(kernel: str, quantum: Callable[[], nn.Module], classical: Callable[[], nn.Module]) -> nn.Module:
    """The circuit, its classical twin, or, for "frozen", the same circuit as it was drawn: never trained.

    A frozen circuit starts from the very weights that a trained one of the same seed starts from, so that what they
    differ by is training alone. Gradients pass through it to the layers before.

    Raises ValueError for another name.
    """
    check_limits(KERNEL, {"kernel": kernel})
    module = classical() if kernel == "classical" else quantum()
    return module.requires_grad_(False) if kernel == "frozen" else module


class DenseKernel(nn.Module):
    """All features of an image → dense → bounded angles → one circuit → its readouts (paper eq. 2-5).

    Use it where one circuit sees the whole image; where the place in the image should be kept, `QuantumConv2d`. Angles
    are (π/2)·tanh: no two inputs share a state. For amplitude encoding the same numbers are the amplitudes. `kernel` is
    as in `choose_kernel`; the twin is a `ClassicalKernel2d` of a single position, with at least the circuit's weights.

    Shapes: `[B, n_features]` → `[B, n_outputs]`, float32 also under autocast. In training B is at least 2, since angles
    are normalized over the batch (torch's ValueError says so).
    """

    def __init__(self, n_features: int, circuit: dict[str, Any], kernel: str) -> None:
        super().__init__()
        layer = QuantumLayer(**circuit)
        n_inputs, n_outputs = layer.circuit.n_inputs, layer.circuit.n_outputs

        def classical() -> nn.Module:
            maps = ClassicalKernel2d(n_inputs, 1, 1, n_outputs, min_weights=layer.weights.numel())
            return nn.Sequential(nn.Unflatten(1, (n_inputs, 1, 1)), maps, nn.Flatten())

        # Without the normalization an optimizer's first steps, summed over thousands of features, saturate every tanh.
        self.to_angles = nn.Sequential(nn.Linear(n_features, n_inputs, bias=False), nn.BatchNorm1d(n_inputs))
        self.circuit = choose_kernel(kernel, lambda: layer, classical)
        self.n_outputs = n_outputs

    def forward(self, features: Tensor) -> Tensor:
        return self.circuit((math.pi / 2) * torch.tanh(self.to_angles(features).float()))
