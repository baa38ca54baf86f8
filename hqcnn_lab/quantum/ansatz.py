"""Trainable circuits as data: an ansatz is a list of operations, and the engines know how to run each kind.

Wire 0 is the most significant bit of a basis state's index.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rotations:
    """One rotation on every wire: wire i turns about `axis` by `weights[layer, i, slot]` radians."""

    axis: Literal["y", "z"]
    layer: int
    slot: int


@dataclass(frozen=True)
class Cnots:
    """CNOTs applied in order, each a pair (control, target)."""

    pairs: tuple[tuple[int, int], ...]


Circuit = tuple[Rotations | Cnots, ...]


@dataclass(frozen=True)
class Ansatz:
    """How a circuit is made from a number of wires and layers, and how many angles a wire has in a layer."""

    angles_per_wire: int
    build: Callable[[int, int], Circuit]

    def weight_shape(self, n_wires: int, n_layers: int) -> tuple[int, int, int]:
        return n_layers, n_wires, self.angles_per_wire


def ring(n_wires: int) -> Cnots:
    """CNOT i→(i+1) mod n for i = 0…n−1: both directions for two wires, nothing for one."""
    return Cnots(tuple((i, (i + 1) % n_wires) for i in range(n_wires)) if n_wires > 1 else ())


def hardware_efficient(n_wires: int, n_layers: int) -> Circuit:
    """Each layer: Ry then Rz on every wire, then the CNOT ring.

    Two angles reach every single-qubit rotation that matters after Ry encoding. The last layer's Rz turns phases that a
    Z readout cannot see, so its gradient is exactly zero.
    """
    layers = ((Rotations("y", layer, 0), Rotations("z", layer, 1), ring(n_wires)) for layer in range(n_layers))
    return tuple(operation for layer in layers for operation in layer)


ANSATZES: dict[str, Ansatz] = {"hardware_efficient": Ansatz(angles_per_wire=2, build=hardware_efficient)}
