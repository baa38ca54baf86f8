"""The folded engine: one matrix for the whole ansatz, one GEMM for the whole batch.

Angle encoding is Ry(x) and then fixed gates, so the encoded state ψ(x) is a *real* product (paper eq. 2-3). The weights
are shared by the batch, so U(θ) (eq. 4), fixed gates included, is made once a step on the 2ⁿ basis states, and
[Re U; Im U]·ψ is a real GEMM; squares, then a GEMM with the signs of the Z strings, give every output (eq. 5).
"""

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.engine.evolve import apply, half_angles, product, readout_matrix
from hqcnn_lab.quantum.engine.gates import kron, make_matrices
from hqcnn_lab.quantum.engine.plan import Plan, make_plan


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """[C, inputs, B] angles (or amplitudes), [C, W] weights → [C, outputs, B], for a circuit that encodes once.

    Both in the same real dtype, float32 or float64; radians. Plain autograd: differentiable any number of times, which
    the faster engines are not.
    """
    plan = make_plan(circuit)
    return measure(plan, torch.bmm(as_real_rows(unitary(plan, weights)), encoded_states(plan, angles.contiguous())))


def unitary(plan: Plan, weights: Tensor) -> Tensor:
    """[C, W] weights → U(θ) [C, 2ⁿ, 2ⁿ], real if the whole circuit is: what turns ⊗ Ry(xᵢ)|0⟩ into the final state."""
    first, parts = make_matrices(plan, weights)
    if first is None:
        columns = torch.eye(2**plan.n_wires, device=weights.device, dtype=weights.dtype)
        columns = columns.expand(weights.shape[0], -1, -1)
    else:
        columns = kron(first)
    if not plan.real and not columns.is_complex():
        columns = columns.to(weights.dtype.to_complex())
    for step, matrices in zip(plan.steps, parts, strict=True):
        columns = apply(step, columns, matrices)
    return columns


def encoded_states(plan: Plan, angles: Tensor) -> Tensor:
    """[C, inputs, B] → [C, 2ⁿ, B], real: ⊗ Ry(xᵢ)|0⟩, or the amplitudes as they are."""
    return angles if plan.first is None else product(list(torch.stack(half_angles(angles), 2).unbind(1)))


def as_real_rows(matrix: Tensor) -> Tensor:
    """[C, a, b] complex → [C, 2a, b]: each row's real part, then its imaginary part. Real matrices stay."""
    return torch.view_as_real(matrix).transpose(2, 3).flatten(1, 2) if matrix.is_complex() else matrix


def measure(plan: Plan, amplitudes: Tensor) -> Tensor:
    """[C, 2ⁿ·(1 or 2), B] amplitudes, real parts above imaginary ones → [C, outputs, B]."""
    signs = readout_matrix(plan, amplitudes.device, amplitudes.dtype)
    parts = amplitudes.shape[1] // signs.shape[1]
    squares = amplitudes * amplitudes  # square() costs a pass more going backward
    return torch.matmul(signs if parts == 1 else signs.repeat_interleave(2, 1), squares)
