"""Circuits by the book, in numpy float64, sharing nothing with the package: gates as 2ⁿ × 2ⁿ matrices.

`outputs` and `batch` follow the definitions of encoders, ansätze and readouts; `run` follows a gate list literally.
Wire 0 is the leftmost Kronecker factor.
"""

from itertools import combinations

import numpy as np

ZERO, ONE = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
H, S = np.array([[1, 1], [1, -1]]) / np.sqrt(2), np.diag([1, 1j])


def rx(angle: float) -> np.ndarray:
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * X


def ry(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]], dtype=complex)


def rz(angle: float) -> np.ndarray:
    return np.diag([np.exp(-0.5j * angle), np.exp(0.5j * angle)])


def u3(theta: float, phi: float, lam: float) -> np.ndarray:
    """OpenQASM 3's U(θ, φ, λ), and Qiskit's and torchquantum's."""
    cos, sin = np.cos(theta / 2), np.sin(theta / 2)
    return np.array([[cos, -np.exp(1j * lam) * sin], [np.exp(1j * phi) * sin, np.exp(1j * (phi + lam)) * cos]])


def rot(phi: float, theta: float, omega: float) -> np.ndarray:
    """PennyLane's Rot(φ, θ, ω), as its documentation writes it."""
    cos, sin = np.cos(theta / 2), np.sin(theta / 2)
    plus, minus = np.exp(0.5j * (phi + omega)), np.exp(0.5j * (phi - omega))
    return np.array([[cos / plus, -minus * sin], [sin / minus, plus * cos]])


def on_wire(gate: np.ndarray, wire: int, n_wires: int) -> np.ndarray:
    """The 2ⁿ × 2ⁿ matrix of a gate on one wire."""
    return np.kron(np.kron(np.eye(2**wire), gate), np.eye(2 ** (n_wires - 1 - wire)))


def on_every_wire(gates: list[np.ndarray]) -> np.ndarray:
    """gates[0] ⊗ gates[1] ⊗ …; the same of vectors makes a product state."""
    product = np.ones((1, 1))
    for gate in gates:
        product = np.kron(product, gate.reshape(2, -1))
    return product


def controlled(gate: np.ndarray, control: int, target: int, n_wires: int) -> np.ndarray:
    """|0⟩⟨0| ⊗ 1 + |1⟩⟨1| ⊗ gate."""
    return on_wire(ZERO, control, n_wires) + on_wire(ONE, control, n_wires) @ on_wire(gate, target, n_wires)


def cnot(control: int, target: int, n_wires: int) -> np.ndarray:
    return controlled(X, control, target, n_wires)


def product(matrices: list[np.ndarray], n_wires: int) -> np.ndarray:
    """The matrix of gates that follow one another in time."""
    total = np.eye(2**n_wires, dtype=complex)
    for matrix in matrices:
        total = matrix @ total
    return total


# --- Ansätze: the matrix of each layer. ---


def _cnots(pairs: list[tuple[int, int]], n: int) -> list[np.ndarray]:
    return [cnot(control, target, n) for control, target in pairs]


def _ring(n: int, step: int = 1) -> list[tuple[int, int]]:
    return [(i, (i + step) % n) for i in range(n)] if n > 1 else []


def _two_local(names: list, n: int, weights: np.ndarray) -> list[np.ndarray]:
    """Qiskit's n_local with reps = L and the default entanglement, "reverse_linear"."""
    *repeated, last = [
        product([on_every_wire([gate(w[k]) for w in row]) for k, gate in enumerate(names)], n) for row in weights
    ]
    pairs = [(i - 1, i) for i in range(n - 1, 0, -1)]
    return [product([turns, *_cnots(pairs, n)], n) for turns in repeated] + [last]


def _random(n: int, weights: np.ndarray, seed: int) -> list[np.ndarray]:
    """From the package's own gates, the one exception: PennyLane is asked gate for gate in test_peers."""
    from hqcnn_lab.quantum.ansatz import ANSATZES

    layers = ANSATZES["random"].layers(n, len(weights), seed)
    return [product([gate_matrix(gate, n, (), weights.reshape(-1)) for gate in layer], n) for layer in layers]


def _pooling(n: int, weights: np.ndarray) -> list[np.ndarray]:
    layers, left = [], list(range(n))
    for a, b, c, d, e, f in weights:
        gates = []
        for first, second in zip(left[0::2], left[1::2], strict=False):
            gates += [on_wire(ry(a), first, n), on_wire(ry(b), second, n), cnot(first, second, n)]
            gates += [on_wire(ry(c), first, n), on_wire(ry(d), second, n)]
            # pooling by measurement: one rotation of `first` where `second` is 1, another where it is 0
            gates += [on_wire(ONE, second, n) @ on_wire(rz(e), first, n) + on_wire(ZERO, second, n)]
            gates += [on_wire(ZERO, second, n) @ on_wire(rx(f), first, n) + on_wire(ONE, second, n)]
            gates += [on_wire(X, second, n)]
        layers.append(product(gates, n))
        left = left[0::2]
    return layers


def _qcnn(n: int, weights: np.ndarray) -> list[np.ndarray]:
    """Hur, Kim, Park 2022: their circuit 9, an SU(4) of 15 angles, on all neighbours; then pooling of 2 angles."""
    layers, left = [], list(range(n))
    for row in weights:
        gates, m = [], len(left)
        brick = [(i, i + 1) for i in range(0, m - 1, 2)] + [(i, i + 1) for i in range(1, m - 1, 2)]
        for i, j in brick + ([(m - 1, 0)] if m > 2 and m % 2 == 0 else []):
            a, b = left[i], left[j]
            gates += [on_wire(u3(*row[:3]), a, n) @ on_wire(u3(*row[3:6]), b, n), cnot(a, b, n)]
            gates += [on_wire(ry(row[6]), a, n) @ on_wire(rz(row[7]), b, n), cnot(b, a, n)]
            gates += [on_wire(ry(row[8]), a, n), cnot(a, b, n)]
            gates += [on_wire(u3(*row[9:12]), a, n) @ on_wire(u3(*row[12:15]), b, n)]
        for a, b in zip(left[0::2], left[1::2], strict=False):
            gates += [controlled(rz(row[15]), b, a, n), on_wire(X, b, n), controlled(rx(row[16]), b, a, n)]
        layers.append(product(gates, n))
        left = left[0::2]
    return layers


def ansatz(name: str, n: int, weights: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """The matrices of the layers, by the definition of the library or paper the ansatz is from."""
    if name == "random":
        return _random(n, weights, seed)
    if name == "pooling":
        return _pooling(n, weights)
    if name == "qcnn":
        return _qcnn(n, weights)
    if name == "real_amplitudes":
        return _two_local([ry], n, weights)
    if name == "efficient_su2":
        return _two_local([ry, rz], n, weights)
    layers = []
    for index, row in enumerate(weights):
        if name in ("hardware_efficient", "separable"):
            turns, ring = [rz(w[1]) @ ry(w[0]) for w in row], _ring(n)
        elif name == "basic_entangler":
            turns, ring = [rx(w[0]) for w in row], [(0, 1)] if n == 2 else _ring(n)
        elif name == "strongly_entangling":
            turns, ring = [rot(*w) for w in row], _ring(n, index % (n - 1) + 1) if n > 1 else []
        elif name == "u3_cu3":
            turns, ring = [u3(*w[:3]) for w in row], _ring(n)
        if name == "u3_cu3":
            entangling = [controlled(u3(*row[i][3:]), i, j, n) for i, j in ring]
        else:
            entangling = [] if name == "separable" else _cnots(ring, n)
        layers.append(product([on_every_wire(turns), *entangling], n))
    return layers


# --- Encoders and readouts. ---


def encode(encoder: str, inputs: np.ndarray) -> np.ndarray:
    """The state [2ⁿ] that the inputs prepare."""
    if encoder == "amplitude":
        return np.asarray(inputs, dtype=complex) / np.linalg.norm(inputs)
    cos, sin = np.cos(np.asarray(inputs) / 2), np.sin(np.asarray(inputs) / 2)
    ones = {
        "angle_y": (cos, sin),
        "reuploading": (cos, sin),
        "angle_x": (cos, -1j * sin),
        "angle_z": (np.exp(-0.5j * inputs) / np.sqrt(2), np.exp(0.5j * inputs) / np.sqrt(2)),
    }[encoder]
    return on_every_wire(list(np.stack(ones, axis=-1).astype(complex)))[:, 0]


def read(readout: str, states: np.ndarray, wires: list[int]) -> np.ndarray:
    """⟨ψ|P|ψ⟩ of every Pauli P read, or the probabilities of the wires' outcomes, the first wire's bit leading.

    States [B, 2ⁿ] → [B, K].
    """
    n_samples, n = len(states), states.shape[1].bit_length() - 1
    if readout == "probabilities":
        unread = tuple(1 + wire for wire in range(n) if wire not in wires)
        return (np.abs(states.reshape([-1] + [2] * n)) ** 2).sum(axis=unread).reshape(n_samples, -1)
    if readout == "zz":
        observables = [on_wire(Z, i, n) @ on_wire(Z, j, n) for i, j in combinations(wires, 2)]
    else:
        observables = [on_wire({"x": X, "y": Y, "z": Z}[readout], i, n) for i in wires]
    return np.stack([(states.conj() * (states @ observable.T)).sum(1).real for observable in observables], axis=1)


def batch(name: str, encoder: str, readout: str, angles: np.ndarray, weights: np.ndarray, seed: int = 0) -> np.ndarray:
    """What is read from every sample: [B, n_inputs] → [B, K]; weights in the shape the ansatz gives them.

    A re-uploading encoder encodes before every layer. Qiskit's ansätze close with rotations that are no layer.
    """
    n = angles.shape[1].bit_length() - 1 if encoder == "amplitude" else angles.shape[1]
    n_layers = len(weights) - (name in ("real_amplitudes", "efficient_su2"))
    states = np.stack([encode(encoder, inputs) for inputs in angles])
    for index, layer in enumerate(ansatz(name, n, weights, seed)):
        if encoder == "reuploading" and 0 < index < n_layers:
            turns = [on_every_wire([ry(angle) for angle in inputs]) for inputs in angles]
            states = np.stack([turn @ state for turn, state in zip(turns, states, strict=True)])
        states = states @ layer.T
    return read(readout, states, list(range(0, n, 2 ** len(weights) if name in ("pooling", "qcnn") else 1)))


def outputs(
    name: str, encoder: str, readout: str, inputs: np.ndarray, weights: np.ndarray, seed: int = 0
) -> np.ndarray:
    """`batch` of one sample: [n_inputs] → [K]."""
    return batch(name, encoder, readout, inputs[None], weights, seed)[0]


def hardware_efficient(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """⟨Z⟩ [n] of one sample: angles [n], weights [n_layers, n, 2]."""
    return outputs("hardware_efficient", "angle_y", "z", angles, weights)


# --- A circuit's gate list, literally. ---


def gate_matrix(gate, n_wires: int, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The 2ⁿ × 2ⁿ matrix of one gate of a gate list, its angles from the inputs or the flat weights."""
    angles = [inputs[i] for i in gate.inputs] or [weights[i] for i in gate.weights]
    if gate.name in ("cnot", "crx", "crz", "cu3"):
        acts = {"cnot": lambda: X, "crx": rx, "crz": rz, "cu3": u3}[gate.name](*angles)
        return controlled(acts, *gate.wires, n_wires)
    constant = {"h": H, "sdg": S.conj(), "x": X, "y": Y, "z": Z}
    matrix = (
        constant[gate.name] if gate.name in constant else {"rx": rx, "ry": ry, "rz": rz, "u3": u3}[gate.name](*angles)
    )
    return on_wire(matrix, gate.wires[0], n_wires)


def final_states(circuit, angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The states [B, 2ⁿ] after every gate of a Circuit, for angles [B, n_inputs] and flat weights."""
    n = circuit.n_wires
    states = np.stack([encode(circuit.encoder, inputs) for inputs in angles])
    for gate in circuit.gates:
        if gate.inputs:
            matrices = [gate_matrix(gate, n, inputs, weights) for inputs in angles]
            states = np.stack([matrix @ state for matrix, state in zip(matrices, states, strict=True)])
        else:
            states = states @ gate_matrix(gate, n, (), weights).T
    return states


def run(circuit, angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The outputs [B, K] of a Circuit; the change of basis of an X or Y readout is among its gates, so Z is read."""
    readout = circuit.readout if circuit.readout in ("zz", "probabilities") else "z"
    return read(readout, final_states(circuit, angles, weights), list(circuit.measured))
