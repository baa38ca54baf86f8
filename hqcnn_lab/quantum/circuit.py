"""What a dense quantum layer and a quantum convolution share: the weights, the checks, the precision, the engine."""

import math

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.limits import check_circuit, choose_engine

INITIAL_STD = 0.3  # radians: near the identity, where deep circuits still have gradients


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor has it, otherwise float32: a circuit is never run in half precision."""
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(f"angles must be floating point, got {tensor.dtype}: convert them with .float()")
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def fold_leading(angles: Tensor, n_wires: int) -> Tensor:
    """[..., n] → [1, n, B]: one circuit, the batch last."""
    if angles.dim() == 0 or angles.shape[-1] != n_wires:
        raise ValueError(f"angles must end in n_wires={n_wires}, got shape {tuple(angles.shape)}")
    return angles.reshape(math.prod(angles.shape[:-1]), n_wires).t().unsqueeze(0)


def unfold_leading(values: Tensor, shape: torch.Size) -> Tensor:
    """[1, n, B] → [..., n], undoing `fold_leading`."""
    return values.squeeze(0).t().reshape(shape)


class CircuitModule(nn.Module):
    """Base of the quantum layers: C circuits of one ansatz, their weights, and `expectations` in the right precision.

    Not for use by itself. Its one parameter is `weights`, [n_layers, n_wires, k] for one circuit and
    [n_circuits, n_layers, n_wires, k] for several, drawn from N(0, 0.3²) by torch's default generator.
    """

    def __init__(
        self, n_wires: int, n_layers: int, ansatz: str, engine: str, *, n_circuits: int | None, wires_from: str
    ):
        super().__init__()
        check_circuit(n_wires, n_layers, ansatz, engine, wires_from=wires_from)
        self.n_wires, self.n_layers, self.ansatz, self.engine = n_wires, n_layers, ansatz, engine
        self.resolved_engine = choose_engine(engine)
        self.circuit = ANSATZES[ansatz].build(n_wires, n_layers)
        shape = ANSATZES[ansatz].weight_shape(n_wires, n_layers)
        self.weights = nn.Parameter(torch.empty(shape if n_circuits is None else (n_circuits, *shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights again, in radians."""
        nn.init.normal_(self.weights, std=INITIAL_STD)

    def expectations(self, angles: Tensor) -> Tensor:
        """[C, n, B] radians → [C, n, B] ⟨Z⟩, float64 if angles or weights are, else float32, whatever autocast says."""
        if self.resolved_engine == "folded":
            from hqcnn_lab.quantum.folded import expectations
        else:
            from hqcnn_lab.quantum.torchquantum_engine import expectations
        dtype = working_dtype(angles, self.weights)
        weights = self.weights if self.weights.dim() == 4 else self.weights.unsqueeze(0)
        with torch.autocast(angles.device.type, enabled=False):
            return expectations(angles.to(dtype).contiguous(), weights.to(dtype), self.circuit)

    def circuit_repr(self) -> str:
        chosen = f" ({self.resolved_engine})" if self.engine == "auto" else ""
        return f"n_layers={self.n_layers}, ansatz={self.ansatz}, engine={self.engine}{chosen}"
