"""A dense quantum layer: one circuit, shared by the batch."""

from torch import Tensor

from hqcnn_lab.quantum.circuit import CircuitModule, fold_leading, unfold_leading


class QuantumLayer(CircuitModule):
    """Angles in, Pauli-Z expectations out: Ry encoding, a trainable ansatz, ⟨Zᵢ⟩ of every wire (paper eq. 2-5).

    Use it on a vector of features, one per wire, scaled to about ±π/2 (say `(π/2)·tanh`): angles beyond ±π wrap around.
    For images keep the patches and use `QuantumConv2d`: one circuit on pooled features no longer knows where they were.

    Shapes: `[..., n_wires]` angles in radians → `[..., n_wires]` in [−1, 1]; leading dimensions are the batch, which
    may be empty. float64 stays float64; anything narrower runs, and comes out, in float32, under autocast too.

    Args:
        n_wires: qubits, one angle each; wire 0 is the most significant bit. `limits.MAX_WIRES` per engine.
        n_layers: repetitions of the ansatz.
        ansatz: "hardware_efficient": Ry, Rz on every wire, then a CNOT ring.
        engine: "folded" (ours, exact, fast), "torchquantum" (the reference, float32 only), "auto" (the fastest).

    Attributes: `weights`, the one parameter, [n_layers, n_wires, 2] radians; `resolved_engine`, what "auto" chose.

    Raises ValueError for a wrong argument or last dimension, TypeError for angles that are not floating point.
    """

    def __init__(self, n_wires: int, n_layers: int, ansatz: str = "hardware_efficient", engine: str = "auto"):
        super().__init__(n_wires, n_layers, ansatz, engine, n_circuits=None, wires_from="n_wires")

    def forward(self, angles: Tensor) -> Tensor:
        return unfold_leading(self.expectations(fold_leading(angles, self.n_wires)), angles.shape)

    def extra_repr(self) -> str:
        return f"n_wires={self.n_wires}, {self.circuit_repr()}"
