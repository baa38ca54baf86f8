"""The matrices of gates, all those of a plan at once: a few large operations instead of a few for every gate.

Each number in a gate's matrix is a constant, or ± cos or sin of an angle or of half of it. So one table of those, and
one gather from it, makes every matrix of the circuit; one product a position then fuses the gates of each wire.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hqcnn_lab.quantum.engine.plan import Controlled, Local, Plan, groups
from hqcnn_lab.quantum.engine.transform import constant
from hqcnn_lab.quantum.gate import CONTROLLED, Gate

_FEW = 4  # matrices whose Kronecker product is gathered: more would gather too much

_CONSTANTS = (0.0, 1.0, -1.0, 0.5**0.5, -(0.5**0.5))
_ZERO, _ONE, _MINUS, _ROOT, _MINUS_ROOT = range(5)
# Rows of the table that depend on a weight θ, after the constants: cos θ/2, sin θ/2, −sin θ/2, cos θ, sin θ.
_C, _S, _MINUS_S, _FULL_C, _FULL_S = "c", "s", "-s", "C", "S"
_FUNCTIONS = (_C, _S, _MINUS_S, _FULL_C, _FULL_S)

# Real and imaginary part of the entries 00, 01, 10, 11; "phase" is diag(1, e^iθ).
_Z = _ZERO
_ENTRIES: dict[str, tuple[int | str, ...]] = {
    "ry": (_C, _Z, _MINUS_S, _Z, _S, _Z, _C, _Z),
    "rx": (_C, _Z, _Z, _MINUS_S, _Z, _MINUS_S, _C, _Z),
    "rz": (_C, _MINUS_S, _Z, _Z, _Z, _Z, _C, _S),
    "phase": (_ONE, _Z, _Z, _Z, _Z, _Z, _FULL_C, _FULL_S),
    "h": (_ROOT, _Z, _ROOT, _Z, _ROOT, _Z, _MINUS_ROOT, _Z),
    "x": (_Z, _Z, _ONE, _Z, _ONE, _Z, _Z, _Z),
    "y": (_Z, _Z, _Z, _MINUS, _Z, _ONE, _Z, _Z),
    "z": (_ONE, _Z, _Z, _Z, _Z, _Z, _MINUS, _Z),
    "sdg": (_ONE, _Z, _Z, _Z, _Z, _Z, _Z, _MINUS),
    "identity": (_ONE, _Z, _Z, _Z, _Z, _Z, _ONE, _Z),
}


@dataclass(frozen=True)
class _Layout:
    """Where every number of every matrix comes from: `entries[position][matrix]`, 8 columns of the table each."""

    entries: tuple[tuple[tuple[int, ...], ...], ...]
    sizes: tuple[int, ...]  # matrices of `first`, then of each step
    full_angles: bool


def make_matrices(plan: Plan, weights: Tensor) -> tuple[Tensor | None, list[tuple[Tensor, ...]]]:
    """[C, W] weights → the product's matrices [C, n, 2, 2] (None for amplitudes), and for each step its own.

    A Local has [C, 2ᵏ, 2ᵏ] for each of its groups, a Controlled [C, 2, 2]; the others have none. Real where a step's
    gates all are, complex elsewhere. Plain autograd.
    """
    layout = _layout(plan, weights.shape[1])
    wires = torch.split(_wire_matrices(layout, weights), list(layout.sizes), 1)
    first = None if plan.first is None else _narrow(wires[0], plan.first)
    parts: list[tuple[Tensor, ...]] = []
    for step, matrices in zip(plan.steps, wires[1:], strict=True):
        if isinstance(step, Controlled):
            parts.append((matrices[:, 0],))
        elif isinstance(step, Local):
            lengths = [stop - start for start, stop in groups(step)]
            matrices = _narrow(matrices, step)
            if len(set(lengths)) == 1:
                parts.append(kron(torch.unflatten(matrices, 1, (-1, lengths[0]))).unbind(1))
            else:
                parts.append(tuple(kron(part) for part in torch.split(matrices, lengths, 1)))
        else:
            parts.append(())
    return first, parts


def gate_matrix(name: str, angles: Tensor) -> Tensor:
    """[..., k] angles → [..., 2, 2] complex, of one gate on one wire; k = 0 for a gate that takes none. Plain autograd.

    For an engine that goes gate by gate. `make_matrices` is faster for a whole circuit.
    """
    if angles.shape[-1] == 0:
        return _fixed_matrix(name, angles.device, angles.dtype).expand(*angles.shape[:-1], 2, 2)
    half = angles[..., 0] / 2
    cos, sin = half.cos(), half.sin()
    if name == "u3":  # `_primitives` multiplied out
        phi, lam = torch.exp(1j * angles[..., 1]), torch.exp(1j * angles[..., 2])
        return torch.unflatten(torch.stack([cos + 0j, -lam * sin, phi * sin, phi * lam * cos], -1), -1, (2, 2))
    numbers = {_C: cos, _S: sin, _MINUS_S: -sin, _ZERO: torch.zeros_like(cos)}
    return _as_matrix(torch.stack([numbers[entry] for entry in _ENTRIES[name]], -1))


@constant(maxsize=64)
def _fixed_matrix(name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    numbers: dict[int | str, float] = dict(enumerate(_CONSTANTS))
    return _as_matrix(torch.tensor([numbers[entry] for entry in _ENTRIES[name]], device=device, dtype=dtype))


def _as_matrix(entries: Tensor) -> Tensor:
    """[..., 8], as in `_ENTRIES` → [..., 2, 2] complex."""
    return torch.view_as_complex(torch.unflatten(entries, -1, (2, 2, 2)))


def kron(matrices: Tensor) -> Tensor:
    """[..., k, 2, 2] → [..., 2ᵏ, 2ᵏ]: the Kronecker product over k.

    Of a few, every entry is gathered factor by factor, all at once; of more, it is that of two halves.
    """
    k = matrices.shape[-3]
    if k == 1:
        return matrices.squeeze(-3)
    if k > _FEW:
        half = k // 2
        left, right = kron(matrices[..., :half, :, :]), kron(matrices[..., half:, :, :])
        return (left[..., :, None, :, None] * right[..., None, :, None, :]).flatten(-2).flatten(-3, -2)
    entries = matrices.flatten(-3).index_select(-1, _kron_entries(k, matrices.device))
    product, *factors = torch.unflatten(entries, -1, (k, -1)).unbind(-2)
    for factor in factors:
        product = product * factor
    return torch.unflatten(product, -1, (2**k, 2**k))


@constant(maxsize=16)
def _kron_entries(k: int, device: torch.device) -> Tensor:
    """[k · 4ᵏ]: for each factor, which of all 4k entries goes into every entry of the product."""
    wires = torch.arange(k)
    bits = torch.arange(2**k) >> (k - 1 - wires[:, None]) & 1  # [k, 2ᵏ]
    return (4 * wires[:, None, None] + 2 * bits[:, :, None] + bits[:, None, :]).flatten().to(device)


def _narrow(matrices: Tensor, step: Local) -> Tensor:
    return matrices.real if step.real else matrices


def _wire_matrices(layout: _Layout, weights: Tensor) -> Tensor:
    """[C, W] → [C, all matrices, 2, 2] complex."""
    n_circuits, half = weights.shape[0], weights / 2
    if not layout.entries:
        return weights.new_zeros(n_circuits, 0, 2, 2, dtype=weights.dtype.to_complex())
    sin = half.sin()
    rows = [_constants(weights.device, weights.dtype).expand(n_circuits, -1), half.cos(), sin, -sin]
    if layout.full_angles:
        rows += [weights.cos(), weights.sin()]
    entries = torch.cat(rows, 1).index_select(1, _columns(layout, weights.device))
    positions = torch.view_as_complex(entries.view(n_circuits, len(layout.entries), -1, 2, 2, 2)).unbind(1)
    product = positions[0]
    for factor in positions[1:]:
        product = torch.matmul(factor, product)
    return product


@lru_cache(maxsize=128)
def _layout(plan: Plan, n_weights: int) -> _Layout:
    sites: list[list[tuple[str, int]]] = []
    sizes: list[int] = []
    for step in (plan.first, *plan.steps):
        before = len(sites)
        if isinstance(step, Local):
            wires = range(plan.n_wires) if step is plan.first else [w for run in groups(step) for w in range(*run)]
            sites += [[part for gate in step.gates[wire] for part in _primitives(gate, gate.name)] for wire in wires]
        elif isinstance(step, Controlled):
            sites.append(_primitives(step.gate, CONTROLLED[step.gate.name]))
        sizes.append(len(sites) - before)
    depth = max((max(len(site), 1) for site in sites), default=0)
    padded = [site + [("identity", 0)] * (depth - len(site)) for site in sites]

    def columns(name: str, weight: int) -> tuple[int, ...]:
        return tuple(
            entry if isinstance(entry, int) else len(_CONSTANTS) + _FUNCTIONS.index(entry) * n_weights + weight
            for entry in _ENTRIES[name]
        )

    entries = tuple(tuple(columns(*site[position]) for site in padded) for position in range(depth))
    return _Layout(entries, tuple(sizes), any(name == "phase" for site in sites for name, _ in site))


def _primitives(gate: Gate, name: str) -> list[tuple[str, int]]:
    """A gate as table entries in time order, each with its weight; U3(θ, φ, λ) = phase(φ) · Ry(θ) · phase(λ)."""
    if name == "u3":
        theta, phi, lam = gate.weights
        return [("phase", lam), ("ry", theta), ("phase", phi)]
    return [(name, gate.weights[0] if gate.weights else 0)]


@constant(maxsize=128)
def _columns(layout: _Layout, device: torch.device) -> Tensor:
    return torch.tensor(layout.entries, device=device).flatten()


@constant(maxsize=16)
def _constants(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor([_CONSTANTS], device=device, dtype=dtype)
