"""The folded engine: one matrix for the whole ansatz, one GEMM for the whole batch.

Ry encoding makes a *real* product state ψ(x) (paper eq. 2-3). The weights are shared by the batch, so U(θ) (eq. 4) is
made once a step on the 2ⁿ basis states, and [Re U; Im U]·ψ is a real GEMM; squares, then a GEMM with the signs of Z
give every ⟨Zᵢ⟩ (eq. 5). Three things are exact and free: a leading Ry adds to the encoding's angle, a trailing Rz
cannot be seen by Z, a trailing CNOT ring only permutes the signs. The batch is the last dimension throughout.

Where a unitary would cost more than the states themselves (more wires than FOLD_WIRES, or fewer samples than basis
states) the same operations act on the states directly.
"""

from functools import lru_cache
from itertools import takewhile

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.ansatz import Circuit, Cnots, Rotations
from hqcnn_lab.quantum.limits import FOLD_WIRES, MAX_MODULE_WIRES, check_count

GROUP_WIRES = 4  # Ry on this many neighbouring wires is one Kronecker factor: a 16 × 16 matrix a bmm


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """⟨Zᵢ⟩ of every wire for C circuits on B samples each: [C, n, B] angles, [C, L, n, k] weights → [C, n, B].

    Both in the same real dtype, float32 or float64; radians. Differentiable any number of times.
    """
    n_circuits, n_wires, batch = angles.shape
    shift, middle, trailing = _fold_ends(circuit)
    for operation in shift:
        angles = angles + weights[:, operation.layer, :, operation.slot, None]
    states = _product_states(angles)
    signs = _signs(n_wires, trailing, angles.device, angles.dtype)
    if not middle:
        return _apply(signs, states.square())
    dim = 2**n_wires
    if n_wires > FOLD_WIRES or batch < dim:
        amplitudes = _evolve(states.unsqueeze(2), weights, middle).flatten(1, 2)
    else:
        basis = _identity(dim, angles.device, angles.dtype).expand(n_circuits, -1, -1, -1)
        amplitudes = torch.bmm(_evolve(basis, weights, middle).flatten(1, 2), states)
    return _measure(amplitudes, signs)


class FoldedModule(nn.Module):
    """Run any `torchquantum.QuantumModule` on Ry-encoded angles, folded: `[..., n_wires]` radians → ⟨Z⟩ of every wire.

    Use it to bring an ansatz written for torchquantum as it stands: the module runs once a step on the 2ⁿ basis states,
    and its parameters get their gradients through torchquantum. Not for a module that reads data, draws at random,
    measures or resets: it sees the identity in place of your batch. complex64, as torchquantum is: float64 is refused.

    Args:
        module: called as `module(q_device)`, acting on wires 0…n_wires−1.
        n_wires: number of wires, at most `limits.MAX_MODULE_WIRES`.
    """

    def __init__(self, module: nn.Module, n_wires: int):
        super().__init__()
        check_count("n_wires", n_wires)
        if n_wires > MAX_MODULE_WIRES:
            raise ValueError(
                f"n_wires = {n_wires}, but FoldedModule takes at most {MAX_MODULE_WIRES}: run it on the batch"
            )
        self.module, self.n_wires = module, n_wires

    def forward(self, angles: Tensor) -> Tensor:
        from hqcnn_lab.quantum.circuit import fold_leading, unfold_leading, working_dtype
        from hqcnn_lab.quantum.torchquantum_engine import refuse_float64, unitary

        dtype = working_dtype(angles)
        refuse_float64(dtype)
        with torch.autocast(angles.device.type, enabled=False):
            states = _product_states(fold_leading(angles, self.n_wires).to(dtype))
            matrix = torch.view_as_real(unitary(self.module, self.n_wires, angles.device)).movedim(-1, 1)
            amplitudes = torch.mm(matrix.flatten(0, 1), states[0]).unsqueeze(0)
            values = _measure(amplitudes, _signs(self.n_wires, (), angles.device, dtype))
        return unfold_leading(values, angles.shape)

    def extra_repr(self) -> str:
        return f"n_wires={self.n_wires}"


@lru_cache(maxsize=256)
def _fold_ends(circuit: Circuit) -> tuple[Circuit, Circuit, tuple[tuple[int, int], ...]]:
    """Split a circuit into leading Ry, what must be run, and the pairs of the trailing CNOTs (trailing Rz dropped)."""
    operations = list(circuit)
    pairs: tuple[tuple[int, int], ...] = ()
    while operations and (isinstance(operations[-1], Cnots) or operations[-1].axis == "z"):
        last = operations.pop()
        if isinstance(last, Cnots):
            pairs = last.pairs + pairs
    leading = tuple(takewhile(lambda item: isinstance(item, Rotations) and item.axis == "y", operations))
    return leading, tuple(operations[len(leading) :]), pairs


def _product_states(angles: Tensor) -> Tensor:
    """⊗ᵢ Ry(xᵢ)|0⟩ (eq. 3): [C, n, B] → [C, 2ⁿ, B], real, by halves: only the last product is large."""
    factors = torch.stack([torch.cos(angles / 2), torch.sin(angles / 2)], dim=2)
    parts = list(factors.unbind(1))
    while len(parts) > 1:
        pairs = [(a.unsqueeze(2) * b.unsqueeze(1)).flatten(1, 2) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _evolve(columns: Tensor, weights: Tensor, operations: Circuit) -> Tensor:
    """Apply the operations to columns [C, 2ⁿ, 1, m], real; the third dimension becomes (Re, Im) at the first Rz."""
    for operation in operations:
        if isinstance(operation, Cnots):
            columns = columns.index_select(1, _sources(weights.shape[2], operation.pairs, columns.device))
        else:
            angles = weights[:, operation.layer, :, operation.slot]
            columns = (_rotate_y if operation.axis == "y" else _rotate_z)(columns, angles)
    return columns


def _rotate_y(columns: Tensor, angles: Tensor) -> Tensor:
    n_circuits, n_wires = angles.shape
    cos, sin = torch.cos(angles / 2), torch.sin(angles / 2)
    gates = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # [C, n, 2, 2]
    shape = columns.shape
    for first in range(0, n_wires, GROUP_WIRES):
        matrix = gates[:, first]
        for wire in range(first + 1, min(first + GROUP_WIRES, n_wires)):
            matrix = (matrix[:, :, None, :, None] * gates[:, wire, None, :, None, :]).flatten(3, 4).flatten(1, 2)
        copies, size = 2**first, matrix.shape[-1]
        matrix = matrix.unsqueeze(1).expand(-1, copies, -1, -1).reshape(n_circuits * copies, size, size)
        columns = torch.bmm(matrix, columns.reshape(n_circuits * copies, size, -1))
    return columns.reshape(shape)


def _rotate_z(columns: Tensor, angles: Tensor) -> Tensor:
    n_wires = angles.shape[-1]
    phases = torch.mm(angles, _signs(n_wires, (), angles.device, angles.dtype)) * -0.5  # [C, 2ⁿ]
    cos, sin = torch.cos(phases)[:, :, None, None], torch.sin(phases)[:, :, None, None]
    if columns.shape[2] == 1:
        return torch.cat([columns * cos, columns * sin], dim=2)
    real, imaginary = columns.split(1, dim=2)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=2)


def _measure(amplitudes: Tensor, signs: Tensor) -> Tensor:
    """[C, 2ⁿ·(1 or 2), B] amplitudes, real parts beside imaginary ones → [C, n, B]."""
    parts = amplitudes.shape[1] // signs.shape[1]
    squares = amplitudes * amplitudes  # square() costs a pass more going backward
    return _apply(signs.repeat_interleave(parts, dim=1), squares)


def _apply(signs: Tensor, probabilities: Tensor) -> Tensor:
    return torch.bmm(signs.expand(probabilities.shape[0], -1, -1), probabilities)


# Constants live on the device once. They are made outside inference mode: a tensor first made inside it could never be
# used by a later training step.


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _identity(dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.eye(dim, device=device, dtype=dtype)[None, :, None, :]


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _signs(n_wires: int, pairs: tuple[tuple[int, int], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """[n, 2ⁿ]: what Zᵢ reads, after the CNOTs `pairs`, from each basis state before them."""
    wires = torch.arange(n_wires - 1, -1, -1, device=device)[:, None]
    bits = torch.arange(2**n_wires, device=device) >> wires & 1
    signs = torch.empty(n_wires, 2**n_wires, device=device, dtype=dtype)
    signs[:, _sources(n_wires, pairs, device)] = (1 - 2 * bits).to(dtype)
    return signs


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _sources(n_wires: int, pairs: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """[2ⁿ]: the basis state whose amplitude ends at each index after the CNOTs `pairs`."""
    sources = index = torch.arange(2**n_wires, device=device)
    for control, target in pairs:
        flipped = index ^ ((index >> (n_wires - 1 - control) & 1) << (n_wires - 1 - target))
        sources = sources[flipped]
    return sources
