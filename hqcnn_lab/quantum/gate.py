"""The gates that circuits are made of. Torch-free.

Conventions: R_P(θ) = exp(−iθP/2); U3(θ, φ, λ) as in OpenQASM, with the phase that makes its first entry cos(θ/2); a
controlled gate names its control first.
"""

from dataclasses import dataclass

ONE_WIRE = {"rx": 1, "ry": 1, "rz": 1, "u3": 3, "h": 0, "sdg": 0, "x": 0, "y": 0, "z": 0}
"""Gates on one wire, and how many angles each takes."""

CONTROLLED = {"cnot": "x", "crx": "rx", "crz": "rz", "cu3": "u3"}
"""Gates on two wires, (control, target), and the gate that acts on the target where the control is |1⟩."""


@dataclass(frozen=True)
class Gate:
    """One gate, and where its angles come from: the circuit's flat weights, a sample's inputs, or nowhere.

    Angles of a weighted gate are `weights[i]` for i in `weights`, those of a data gate `inputs[i]` for i in `inputs`.
    """

    name: str
    wires: tuple[int, ...]
    weights: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
