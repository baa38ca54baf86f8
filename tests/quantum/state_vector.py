"""The circuit by the book, in numpy float64, sharing nothing with the package: 2×2 matrices on one state at a time."""

import numpy as np


def ry(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]], dtype=complex)


def rz(angle: float) -> np.ndarray:
    return np.diag([np.exp(-0.5j * angle), np.exp(0.5j * angle)])


def on_wire(gate: np.ndarray, wire: int, n_wires: int) -> np.ndarray:
    """The 2ⁿ × 2ⁿ matrix of a gate on one wire; wire 0 is the leftmost Kronecker factor."""
    matrix = np.eye(1)
    for i in range(n_wires):
        matrix = np.kron(matrix, gate if i == wire else np.eye(2))
    return matrix


def cnot(control: int, target: int, n_wires: int) -> np.ndarray:
    zero, one, x = np.diag([1.0, 0.0]), np.diag([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    return on_wire(zero, control, n_wires) + on_wire(one, control, n_wires) @ on_wire(x, target, n_wires)


def hardware_efficient(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """⟨Z⟩ [n] of one sample: angles [n], weights [n_layers, n, 2]."""
    n = len(angles)
    state = np.zeros(2**n, dtype=complex)
    state[0] = 1
    for wire in range(n):
        state = on_wire(ry(angles[wire]), wire, n) @ state
    for layer in weights:
        for wire in range(n):
            state = on_wire(rz(layer[wire, 1]), wire, n) @ on_wire(ry(layer[wire, 0]), wire, n) @ state
        for wire in range(n if n > 1 else 0):
            state = cnot(wire, (wire + 1) % n, n) @ state
    z = np.diag([1.0, -1.0])
    return np.array([(state.conj() @ on_wire(z, wire, n) @ state).real for wire in range(n)])


def batch(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.stack([hardware_efficient(sample, weights) for sample in angles])
