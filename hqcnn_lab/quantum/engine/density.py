"""Exact expectations under noise, differentiable: a density matrix as a real vector over Pauli strings.

ρ of n wires is its 4ⁿ expectations Tr(Pρ), P in {I, X, Y, Z}ⁿ, wire 0 most significant. A gate U on k wires is then
the real matrix R_ij = Tr(Pᵢ U Pⱼ U†)/2ᵏ, and each channel of `Noise` a real matrix too: the Pauli transfer matrices
(Greenbaum 2015, arXiv:1509.02921). Gates on one wire, and all channels, are merged into the gates on two wires.

Two directions, the same figures. Backwards (Heisenberg): the K observables go back through gates and channels to the
encoding, once a step whatever the batch. A wire's encoded, noisy Bloch vector is linear in (1, cos x, sin x), so what
arrives is a polynomial for `trig.contract`: a GEMM. Forwards: the vectors of the samples, where the circuit re-uploads
or encodes amplitudes, where there are more observables than samples, or where torch transforms the operations.
"""

# pyright: reportUnknownMemberType=false
# (torch.tensordot is not annotated)

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType] not annotated

from hqcnn_lab.quantum.circuit import Circuit, encoding
from hqcnn_lab.quantum.engine import trig
from hqcnn_lab.quantum.engine.gates import gate_matrix
from hqcnn_lab.quantum.engine.transform import constant, transform
from hqcnn_lab.quantum.gate import CONTROLLED, Gate
from hqcnn_lab.quantum.noise import Noise

CHUNK = 2**22  # numbers evolved at a time; of more, only what goes in and out is kept for the backward pass

Step = Gate | tuple[tuple[int, ...], Tensor]
"""A data gate, or wires and a transfer matrix [C, d, d]."""


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit, noise: Noise) -> Tensor:
    """Noisy outputs of C circuits on B samples each: [C, n_inputs, B] and [C, W] → [C, n_outputs, B].

    Both in the same real dtype, float32 or float64; radians (amplitudes: real, normalized). Differentiable once. Costs
    4ⁿ for every observable, or, going forwards, for every sample: not for more than `noise.MAX_DENSITY_WIRES` wires.
    """
    steps = _steps(weights, circuit, noise)
    once = circuit.encoder != "amplitude" and not circuit.reuploads and transform(angles, weights) is None
    if not once or circuit.n_outputs > angles.shape[-1]:

        def read(chunk: Tensor) -> Tensor:
            return _forwards(chunk, steps, circuit, noise).index_select(1, _index(_places(circuit), chunk.device))

        values = _in_chunks(read, angles, weights.shape[0] * 4**circuit.n_wires)
    else:
        values = trig.contract(angles, _backwards(weights, steps, circuit, noise))
    if circuit.readout == "probabilities":
        values = _on_each_bit([[0.5, 0.5], [0.5, -0.5]], values)  # Walsh-Hadamard: p_j = Σ_s (−1)^(j·s) ⟨Z_s⟩ / 2ᵐ
    return with_readout_error(values, circuit, noise)


def density_matrix(angles: Tensor, weights: Tensor, circuit: Circuit, noise: Noise) -> Tensor:
    """The states before the readout, [C, B, 2ⁿ, 2ⁿ] complex, for a look at purity or populations.

    Every gate and the noise after it are run, the basis change of an X or Y readout too; readout error is not.
    """
    n_wires = circuit.n_wires
    columns = _forwards(angles, _steps(weights, circuit, noise), circuit, noise)
    paulis = _paulis(columns.device, columns.dtype)
    matrix = torch.unflatten(columns.to(paulis.dtype), 1, (4,) * n_wires)
    for _ in range(n_wires):  # [C, wires left …, B, (row, column) of the wires done …]
        matrix = _sum_over(matrix, [1], paulis, [0])
    rows, columns_of = range(2, 2 + 2 * n_wires, 2), range(3, 3 + 2 * n_wires, 2)
    matrix = matrix.permute(0, 1, *rows, *columns_of)
    return matrix.flatten(2 + n_wires).flatten(2, 1 + n_wires) / 2**n_wires


def with_readout_error(values: Tensor, circuit: Circuit, noise: Noise) -> Tensor:
    """What outputs [C, n_outputs, B] become if every measured bit is read wrongly with probability p, exactly.

    Already in `expectations`; for outputs of an exact engine, such as the mean over trajectories.
    """
    p = noise.readout_error
    if not p:
        return values
    if circuit.readout != "probabilities":
        factors = values.new_tensor([(1 - 2 * p) ** len(string) for string in circuit.strings])
        return values * factors[:, None]
    return _on_each_bit([[1 - p, p], [p, 1 - p]], values)


def _on_each_bit(matrix: list[list[float]], values: Tensor) -> Tensor:
    """The same 2 × 2 matrix on every bit of the index of [C, 2ᵐ, B]."""
    for bit in range(values.shape[1].bit_length() - 1):
        split = torch.unflatten(values, 1, (2**bit, 2, -1))
        values = torch.einsum("ij,cajrb->cairb", values.new_tensor(matrix), split).flatten(1, 3)
    return values


def _backwards(weights: Tensor, steps: list[Step], circuit: Circuit, noise: Noise) -> Tensor:
    """The outputs' Z strings as polynomials: [C, K, 3ⁿ], features (1, cos, sin) of each wire, wire 0 slowest."""
    n_circuits, n_wires, n_strings = weights.shape[0], circuit.n_wires, circuit.n_outputs
    strings = weights.new_zeros(4**n_wires, n_strings)
    strings[_index(_places(circuit), weights.device), torch.arange(n_strings, device=weights.device)] = 1
    encoded = _encoded(circuit.encoder, noise, weights.device, weights.dtype)

    def to_features(columns: Tensor) -> Tensor:
        columns = torch.unflatten(columns.expand(n_circuits, -1, -1), 1, (4,) * n_wires)
        for step in reversed(steps):
            assert not isinstance(step, Gate)  # a circuit that encodes once has no data gates
            wires, matrix = step
            columns = _apply(wires, matrix.mT, columns)
        for _ in range(n_wires):  # [C, wires left …, K, features of the wires done …]
            columns = _sum_over(columns, [1], encoded, [0])
        return columns.flatten(2).mT

    return _in_chunks(to_features, strings.unsqueeze(0), n_circuits * 4**n_wires).mT


def _forwards(angles: Tensor, steps: list[Step], circuit: Circuit, noise: Noise) -> Tensor:
    """The samples' Pauli vectors after all gates, [C, 4ⁿ, B]."""
    n_wires = circuit.n_wires
    cos, sin = torch.cos(angles), torch.sin(angles)
    if circuit.encoder == "amplitude":
        columns = _of_amplitudes(angles)
    else:
        features = torch.stack([torch.ones_like(angles), cos, sin], 1)[:, :, :n_wires]
        encoded = _encoded(circuit.encoder, noise, angles.device, angles.dtype)
        bloch = torch.einsum("pf,cfnb->cnpb", encoded, features)
        columns = bloch[:, 0]
        for wire in range(1, n_wires):
            columns = (columns.unsqueeze(2) * bloch[:, wire].unsqueeze(1)).flatten(1, 2)
    columns = torch.unflatten(columns, 1, (4,) * n_wires)
    spread = (slice(None), *[None] * (n_wires - 1))  # [C, B] beside the other wires
    for step in steps:
        if isinstance(step, Gate):
            axis, source = 1 + step.wires[0], step.inputs[0]
            turned = _rotate(step.name, columns.unbind(axis), cos[:, source][spread], sin[:, source][spread])
            columns = torch.stack(turned, axis)
        else:
            columns = _apply(*step, columns)
    return columns.flatten(1, n_wires)


def _of_amplitudes(amplitudes: Tensor) -> Tensor:
    """Tr(P ψψᵀ) of real states ψ: [C, 2ⁿ, B] → [C, 4ⁿ, B]."""
    n_wires = amplitudes.shape[1].bit_length() - 1
    paulis = _paulis(amplitudes.device, amplitudes.dtype)
    squares = (amplitudes.unsqueeze(2) * amplitudes.unsqueeze(1)).to(paulis.dtype)
    squares = torch.unflatten(torch.unflatten(squares, 2, (2,) * n_wires), 1, (2,) * n_wires)
    for left in range(n_wires, 0, -1):  # [C, rows of the wires left …, columns …, B, Pauli of the wires done …]
        squares = _sum_over(squares, [1, 1 + left], paulis, [2, 1])  # Σ ρ_ab P_ba
    return squares.flatten(2).mT.real


def _apply(wires: tuple[int, ...], matrix: Tensor, columns: Tensor) -> Tensor:
    """[C, d, d] on some wires of [C, 4, …, 4, m]; the wires go to the front, and come back as a view."""
    front, places = list(range(1, 1 + len(wires))), [1 + wire for wire in wires]
    moved = columns.movedim(places, front)
    product = torch.bmm(matrix, moved.flatten(1, len(wires)).flatten(2))
    return product.reshape(moved.shape).movedim(front, places)


def _sum_over(left: Tensor, of_left: list[int], right: Tensor, of_right: list[int]) -> Tensor:
    """Multiply, and sum over these dimensions: those of `left` that remain come first, then those of `right`."""
    # To torch's annotations `dims` is one number.
    return cast(Tensor, torch.tensordot(left, right, dims=(of_left, of_right)))  # pyright: ignore[reportArgumentType]


def _in_chunks(function: Callable[[Tensor], Tensor], columns: Tensor, size: int) -> Tensor:
    """`function` on the last dimension in parts, each column of which evolves `size` numbers."""
    chunks = torch.split(columns, max(CHUNK // size, 1), dim=-1)
    if len(chunks) == 1:
        return function(columns)
    parts: list[Tensor] = [
        checkpoint(function, chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks
    ]
    return torch.cat(parts, dim=-1)


def _places(circuit: Circuit) -> tuple[int, ...]:
    """Where the Z strings stand among all 4ⁿ Pauli strings."""
    return tuple(sum(3 * 4 ** (circuit.n_wires - 1 - wire) for wire in string) for string in circuit.strings)


def _steps(weights: Tensor, circuit: Circuit, noise: Noise) -> list[Step]:
    """The gates after the encoding and their noise, in time; one-wire gates are merged into their wire's next gate."""
    channel = weights.new_tensor(noise.transfer).expand(weights.shape[0], -1, -1)
    eye = torch.eye(4, dtype=weights.dtype, device=weights.device).expand_as(channel)
    noisy = _matrices(weights, circuit, channel[0])
    pending: dict[int, Tensor] = {}
    steps: list[Step] = []
    for gate in circuit.gates:
        if gate.inputs:
            wire = gate.wires[0]
            if wire in pending:
                steps.append((gate.wires, pending[wire]))
            steps.append(gate)
            pending[wire] = channel
        elif gate.name in CONTROLLED:
            control, target = (pending.pop(wire, eye) for wire in gate.wires)
            before = torch.einsum("cij,ckl->cikjl", control, target).flatten(3).flatten(1, 2)
            steps.append((gate.wires, noisy[gate.name, gate.weights] @ before))
        else:
            pending[gate.wires[0]] = noisy[gate.name, gate.weights] @ pending.get(gate.wires[0], eye)
    return steps + [((wire,), matrix) for wire, matrix in pending.items()]


def _matrices(weights: Tensor, circuit: Circuit, channel: Tensor) -> dict[tuple[str, tuple[int, ...]], Tensor]:
    """By name and weights, [C, d, d] of each gate that reads no input and the noise after it: all of a name at once."""
    alike: dict[str, dict[tuple[int, ...], None]] = {}
    for gate in circuit.gates:
        if not gate.inputs:
            alike.setdefault(gate.name, {})[gate.weights] = None
    matrices: dict[tuple[str, tuple[int, ...]], Tensor] = {}
    for name, used in alike.items():
        flat = tuple(w for indices in used for w in indices)
        angles = weights[:, None, :0]
        if flat:
            angles = torch.unflatten(weights.index_select(1, _index(flat, weights.device)), 1, (len(used), -1))
        after = torch.kron(channel, channel) if name in CONTROLLED else channel
        for indices, matrix in zip(used, (after @ _transfer(name, angles)).unbind(1), strict=True):
            matrices[name, indices] = matrix
    return matrices


@constant(maxsize=64)
def _encoded(encoder: str, noise: Noise, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[4, 3]: from (1, cos x, sin x) to the encoded wire's (1, ⟨X⟩, ⟨Y⟩, ⟨Z⟩), noise included."""
    *before, turn = encoding(encoder, 1)
    channel = torch.tensor(noise.transfer, dtype=torch.float64)
    vector = channel.new_tensor([1, 0, 0, 1])
    for gate in before:
        vector = channel @ _transfer(gate.name, channel.new_empty(0)) @ vector
    one, cos, sin = torch.eye(3).to(channel)
    parts = [part if part.dim() else part * one for part in _rotate(turn.name, vector.unbind(), cos, sin)]
    return (channel @ torch.stack(parts)).to(device, dtype)


def _rotate(name: str, parts: Sequence[Tensor], cos: Tensor, sin: Tensor) -> list[Tensor]:
    """Rx, Ry or Rz on a wire's (1, ⟨X⟩, ⟨Y⟩, ⟨Z⟩): of the axes that follow its own, the first turns to the second."""
    axis = "xyz".index(name[1])
    first, second = (axis + 1) % 3 + 1, (axis + 2) % 3 + 1
    turned = list(parts)
    turned[first] = parts[first] * cos - parts[second] * sin
    turned[second] = parts[first] * sin + parts[second] * cos
    return turned


def _transfer(name: str, angles: Tensor) -> Tensor:
    """[..., k] angles of a gate → [..., d, d]: R_ij = Tr(Pᵢ U Pⱼ U†)/√d, d = 4 or, controlled, 16."""
    paulis, unitary = _paulis(angles.device, angles.dtype), gate_matrix(CONTROLLED.get(name, name), angles)
    if name in CONTROLLED:
        paulis = torch.stack([torch.kron(a, b) for a in paulis for b in paulis])
        idle, nothing = torch.eye(2).to(unitary).expand_as(unitary), torch.zeros_like(unitary)
        unitary = torch.cat([torch.cat([idle, nothing], -1), torch.cat([nothing, unitary], -1)], -2)
    paulis = paulis.flatten(1)
    both = torch.einsum("...bc,...ad->...abcd", unitary, unitary.conj()).flatten(-2).flatten(-3, -2)
    return (paulis @ both @ paulis.mT).real / unitary.shape[-1]


@constant(maxsize=16)
def _paulis(device: torch.device, dtype: torch.dtype) -> Tensor:
    """[4, 2, 2] complex: I, X, Y, Z."""
    no_angles = torch.empty(0, device=device, dtype=dtype)
    return torch.stack([gate_matrix(name, no_angles) for name in ("identity", "x", "y", "z")])


@constant(maxsize=1024)
def _index(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, device=device)
