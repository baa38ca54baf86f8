"""A dense quantum layer: one circuit, shared by the batch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hqcnn_lab.quantum.module import CircuitModule, fold_leading, unfold_leading
from hqcnn_lab.quantum.noise import Noise


class QuantumLayer(CircuitModule):
    """Angles in, expectations out: an encoding, a trainable ansatz, a readout (paper eq. 2-5).

    Use it on a vector of features, one per wire, scaled to about ±π/2 (say `(π/2)·tanh`): angles beyond ±π wrap around.
    For images keep the patches and use `QuantumConv2d`: one circuit on pooled features no longer knows where they were.

    Shapes: `[..., inputs]` → `[..., outputs]`; leading dimensions are the batch, which may be empty. Inputs are n_wires
    angles in radians, or for amplitude encoding 2ⁿ numbers (normalized here; all zero means |0…0⟩). Outputs, in
    [−1, 1]: one a measured wire, one a pair of them for "zz", 2ᵐ in [0, 1] for "probabilities". float64 stays float64;
    anything narrower runs, and comes out, in float32, under autocast too.

    Args:
        n_wires: qubits; wire 0 is the most significant bit. `limits.MAX_WIRES` per engine.
        n_layers: repetitions of the ansatz; for "pooling" and "qcnn" how often the wires are halved.
        ansatz: one of `limits.ANSATZES`, each defined in `ansatz.py`; "separable" is the twin without entanglement.
        encoder: "angle_y" (Ry), "angle_x" (Rx), "angle_z" (H, then Rz), "reuploading" (Ry before every layer),
            "amplitude".
        readout: "z", "x", "y" of every measured wire, "zz" of all pairs i < j, "probabilities" of the basis states.
        engine: "trig", "statevector" (both without second derivatives), "folded", "torchquantum" (the reference,
            float32 only): all exact; "auto" is trig or statevector, by circuit and batch, and folded, where it can run,
            under `torch.func`, `torch.export`, `torch.jit.trace` and forward-mode differentiation.
        noise: `Noise`, or a mapping of its arguments; None, or all rates 0: an exact circuit.
        shots: measurements an output is estimated from; None: exact expectations.
        shot_gradient: "straight_through" (the exact gradient) or "parameter_shift" (sampled too, as on hardware).
        seed: what the "random" ansatz and its frozen weights are drawn from.

    Attributes: `weights`, the one parameter, of `circuit.weight_shape`, radians; `circuit`, the description that
    `draw_text` draws.

    Raises ValueError for a wrong argument, an impossible combination or last dimension, TypeError for input that is not
    floating point; in anomaly mode (`torch.autograd.detect_anomaly`) ValueError for input that is not finite.
    """

    def __init__(
        self,
        n_wires: int,
        n_layers: int,
        ansatz: str = "hardware_efficient",
        encoder: str = "angle_y",
        readout: str = "z",
        engine: str = "auto",
        noise: Noise | Mapping[str, Any] | None = None,
        shots: int | None = None,
        shot_gradient: str = "straight_through",
        seed: int = 0,
    ):
        options = (ansatz, encoder, readout, engine, noise, shots, shot_gradient, seed)
        super().__init__(n_wires, n_layers, *options, n_circuits=None, wires_from="n_wires")

    def forward(self, angles: Tensor) -> Tensor:
        return unfold_leading(self.expectations(self.fold(angles)), angles.shape[:-1])

    def fold(self, angles: Tensor) -> Tensor:
        """[..., inputs] → [1, inputs, B], what the circuit runs on."""
        name = "2^n_wires" if self.encoder == "amplitude" else "n_wires"
        return fold_leading(angles, self.circuit.n_inputs, name)

    def extra_repr(self) -> str:
        return f"n_wires={self.n_wires}, {self.circuit_repr()}"
