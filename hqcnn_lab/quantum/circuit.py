"""A circuit as data: an encoding, gates with weights shared by the batch, a readout. Torch-free.

Engines, drawing and docs all read the same description. Wire 0 is the most significant bit of a basis state's index,
everywhere.
"""

from dataclasses import dataclass, field
from itertools import combinations

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.gate import Gate

ENCODERS = ("angle_y", "angle_x", "angle_z", "reuploading", "amplitude")
READOUTS = ("z", "x", "y", "zz", "probabilities")


@dataclass(frozen=True)
class Circuit:
    """What runs on every sample.

    `encoder` prepares the first state; `gates` follow it, among them data gates if the circuit re-uploads, and the
    rotation into the basis of an X or Y readout; then the wires `measured` are read. Hashable: plans are cached by it.
    """

    n_wires: int
    encoder: str
    gates: tuple[Gate, ...]
    readout: str
    measured: tuple[int, ...]
    weight_shape: tuple[int, ...]
    strings: tuple[tuple[int, ...], ...] = field(init=False, compare=False)
    """The Z strings read, each the wires it is a product over; for probabilities every subset of `measured`."""

    def __post_init__(self):
        if self.readout == "zz":
            strings = tuple(combinations(self.measured, 2))
        elif self.readout == "probabilities":
            strings = tuple(
                tuple(wire for bit, wire in enumerate(reversed(self.measured)) if index >> bit & 1)
                for index in range(2 ** len(self.measured))
            )
        else:
            strings = tuple((wire,) for wire in self.measured)
        object.__setattr__(self, "strings", strings)

    @property
    def n_inputs(self) -> int:
        return 2**self.n_wires if self.encoder == "amplitude" else self.n_wires

    @property
    def n_outputs(self) -> int:
        return len(self.strings)

    @property
    def reuploads(self) -> bool:
        return any(gate.inputs for gate in self.gates)

    @property
    def encoding(self) -> tuple[Gate, ...]:
        """The gates that prepare the first state from |0…0⟩; none for amplitudes, which are the state."""
        return () if self.encoder == "amplitude" else encoding(self.encoder, self.n_wires)


def encoding(encoder: str, n_wires: int) -> tuple[Gate, ...]:
    """Wire i turned by input i: Ry, Rx, or H and then Rz (on |0⟩, Rz alone changes nothing that a readout sees)."""
    wires = range(n_wires)
    if encoder == "angle_z":
        return tuple(Gate("h", (i,)) for i in wires) + tuple(Gate("rz", (i,), inputs=(i,)) for i in wires)
    return tuple(Gate("rx" if encoder == "angle_x" else "ry", (i,), inputs=(i,)) for i in wires)


def basis_change(readout: str, wires: tuple[int, ...]) -> tuple[Gate, ...]:
    """The gates after which a Z measurement reads X (H) or Y (S†, then H)."""
    names = {"x": ("h",), "y": ("sdg", "h")}.get(readout, ())
    return tuple(Gate(name, (wire,)) for name in names for wire in wires)


def make_circuit(
    n_wires: int,
    n_layers: int,
    ansatz: str = "hardware_efficient",
    encoder: str = "angle_y",
    readout: str = "z",
    seed: int = 0,
) -> Circuit:
    """Put encoder, ansatz and readout together. Nothing is checked: `limits.check_circuit` does that.

    "reuploading" is Ry encoding repeated before every layer (Pérez-Salinas et al. 2020): each output is then a Fourier
    series of degree n_layers in every input (Schuld, Sweke, Meyer 2021). `seed` draws the "random" ansatz.
    """
    kind = ANSATZES[ansatz]
    layers = kind.layers(n_wires, n_layers, seed)
    gates = list(layers[0]) if layers else []
    for index, layer in enumerate(layers[1:], start=1):
        if encoder == "reuploading" and index < n_layers:  # closing rotations do not count as a layer
            gates += encoding("angle_y", n_wires)
        gates += layer
    measured = kind.measured(n_wires, n_layers)
    gates += basis_change(readout, measured)
    return Circuit(n_wires, encoder, tuple(gates), readout, measured, kind.weight_shape(n_wires, n_layers))
