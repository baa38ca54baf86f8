"""The folded engine: one matrix for the whole ansatz, one GEMM for the whole batch.

Angle encoding is Ry(x) and then fixed gates, so the encoded state ψ(x) is a *real* product (paper eq. 2-3). The weights
are shared by the batch, so U(θ) (eq. 4), fixed gates included, is made once a step on the 2ⁿ basis states, and
[Re U; Im U]·ψ is a real GEMM; squares, then a GEMM with the signs of the Z strings, give every output (eq. 5).
"""

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.evolve import apply, half_angles, product, readout_matrix
from hqcnn_lab.quantum.gates import kron, make_matrices
from hqcnn_lab.quantum.limits import MAX_WIRES, check_count
from hqcnn_lab.quantum.plan import Plan, make_plan


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


class FoldedModule(nn.Module):
    """Run any `torchquantum.QuantumModule` on Ry-encoded angles, folded: `[..., n_wires]` radians → ⟨Z⟩ of every wire.

    Use it to bring an ansatz written for torchquantum as it stands: the module runs once a step on the 2ⁿ basis states,
    and its parameters get their gradients through torchquantum. Not for a module that reads data, draws at random,
    measures or resets: it sees the identity in place of your batch. complex64, as torchquantum is: float64 is refused.

    Args:
        module: called as `module(q_device)`, acting on wires 0…n_wires−1.
        n_wires: number of wires, at most `limits.MAX_WIRES["folded"]`.
    """

    def __init__(self, module: nn.Module, n_wires: int):
        super().__init__()
        check_count("n_wires", n_wires)
        if n_wires > MAX_WIRES["folded"]:
            raise ValueError(
                f"n_wires = {n_wires}, but FoldedModule takes at most {MAX_WIRES['folded']}: run it on the batch"
            )
        self.module, self.n_wires = module, n_wires

    def forward(self, angles: Tensor) -> Tensor:
        from hqcnn_lab.quantum.circuit import make_circuit
        from hqcnn_lab.quantum.module import fold_leading, unfold_leading, working_dtype
        from hqcnn_lab.quantum.torchquantum_engine import refuse_float64, unitary

        dtype = working_dtype(angles)
        refuse_float64(dtype)
        plan = make_plan(make_circuit(self.n_wires, 0))
        with torch.autocast(angles.device.type, enabled=False):
            states = encoded_states(plan, fold_leading(angles, self.n_wires).to(dtype))
            matrix = as_real_rows(unitary(self.module, self.n_wires, angles.device)[None])
            return unfold_leading(measure(plan, torch.bmm(matrix, states)), angles.shape[:-1])

    def extra_repr(self) -> str:
        return f"n_wires={self.n_wires}"
