"""The state vector engine: every circuit, every readout, O(2ⁿ) memory a sample however deep the circuit.

Gates are unitary, so the backward pass needs no states from the forward one. It runs the circuit in reverse on the
final state (which is computed again if it is gone) and, side by side, on its gradient (the adjoint method; Jones and
Gacon 2020). The gradient of a step's matrices is one small product of the two. Those matrices, and the two halves of
the encoded product state, are made outside, in plain autograd. Samples go through in chunks, in memory that is used
again.
"""

# pyright: reportUnknownMemberType=false
# (autograd.Function.apply is not annotated)

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.engine.evolve import half_angles, product_halves, refuse_second_derivatives, string_signs, walsh
from hqcnn_lab.quantum.engine.gates import make_matrices
from hqcnn_lab.quantum.engine.in_place import add_gradients, as_taken_by, other_memory, run_step
from hqcnn_lab.quantum.engine.plan import Controlled, DataTurns, Local, Plan, groups, make_plan
from hqcnn_lab.quantum.engine.workspace import last_use, workspace

CHUNK = 2**19  # amplitudes at a time on a CPU: larger ones leave its caches, smaller ones cost calls
MIN_COLUMNS = 8  # samples at a time at least: narrower matrices waste the GEMM


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """[C, inputs, B] angles (or amplitudes), [C, W] weights → [C, outputs, B]. Differentiable once.

    Both in the same real dtype, float32 or float64; radians.
    """
    plan = make_plan(circuit)
    first, parts = make_matrices(plan, weights)
    angles = angles.contiguous()
    left, right = product_halves(plan, angles, first)
    flat = [matrix for matrices in parts for matrix in matrices]
    return cast(Tensor, _Statevector.apply(plan, angles if plan.reuploads else None, left, right, *flat))


class _Statevector(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, angles: Tensor | None, left: Tensor, right: Tensor, *flat: Tensor) -> Tensor:
        parts = _by_step(plan, flat)
        values = left.real.new_empty(left.shape[0], len(plan.strings), left.shape[2])
        current = None
        for chunk in _chunks(left, right):
            current = _final(plan, angles, left, right, parts, chunk)
            values[:, :, chunk] = _read(plan, current)
        if any(ctx.needs_input_grad):
            ctx.plan, ctx.last, ctx.mark = plan, current, last_use()
            ctx.save_for_backward(angles, left, right, *flat)
        return values

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = grad_outputs
        refuse_second_derivatives("statevector")
        with torch.autocast(upstream.device.type, enabled=False):
            return _Statevector._backward(ctx, upstream)

    @staticmethod
    def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        angles, left, right, *flat = ctx.saved_tensors
        parts = _by_step(plan, flat)
        for_weights = any(ctx.needs_input_grad[4:])
        d_angles = None if angles is None else torch.zeros_like(angles)
        d_left, d_right = torch.empty_like(left), torch.empty_like(right)
        d_parts = [[torch.zeros_like(matrix) for matrix in matrices] for matrices in parts]
        differentiated = [
            i for i, step in enumerate(plan.steps) if isinstance(step, DataTurns) or (for_weights and parts[i])
        ]
        chunks = list(_chunks(left, right))
        still_there = len(chunks) == 1 and ctx.mark == last_use()
        for chunk in chunks:
            # The batch may be large: to run forward again costs less than memory for every final state.
            current = ctx.last if still_there else _final(plan, angles, left, right, parts, chunk)
            gradient = _read_backward(plan, current, upstream[:, :, chunk])
            turns = _half_angles(angles, chunk)
            d_turns = None if d_angles is None else d_angles[:, :, chunk]
            for index in range(len(plan.steps) - 1, -1, -1):
                step, matrices = plan.steps[index], parts[index]
                if index in differentiated:
                    add_gradients(step, current, gradient, matrices, d_parts[index] if for_weights else [], d_turns)
                gradient = run_step(step, gradient, matrices, turns, "gradient", inverse=True)
                if index > min(differentiated, default=index):  # an earlier step needs the state
                    current = run_step(step, current, matrices, turns, "state", inverse=True)
            _product_backward(gradient, left, right, d_left, d_right, chunk)
        return None, d_angles, d_left, d_right, *[matrix for matrices in d_parts for matrix in matrices]


def _final(
    plan: Plan, angles: Tensor | None, left: Tensor, right: Tensor, parts: list[tuple[Tensor, ...]], chunk: slice
) -> Tensor:
    """The states of a chunk of samples after all steps, in the workspace."""
    current = _product(left[:, :, chunk], right[:, :, chunk])
    turns = _half_angles(angles, chunk)
    for step, matrices in zip(plan.steps, parts, strict=True):
        current = run_step(step, current, matrices, turns, "state")
    return current


def _product(left: Tensor, right: Tensor) -> Tensor:
    shape = (left.shape[0], left.shape[1], right.shape[1], left.shape[2])
    return torch.mul(left.unsqueeze(2), right.unsqueeze(1), out=workspace("state a", shape, left)).flatten(1, 2)


def _product_backward(
    gradient: Tensor, left: Tensor, right: Tensor, d_left: Tensor, d_right: Tensor, chunk: slice
) -> None:
    gradient = torch.unflatten(gradient, 1, (left.shape[1], right.shape[1]))
    terms = workspace("state a", gradient.shape, gradient)  # where no state is needed any more
    torch.mul(gradient, right[:, :, chunk].conj().resolve_conj().unsqueeze(1), out=terms)
    d_left[:, :, chunk] = terms.sum(2)
    torch.mul(gradient, left[:, :, chunk].conj().resolve_conj().unsqueeze(2), out=terms)
    d_right[:, :, chunk] = terms.sum(1)


def _read(plan: Plan, current: Tensor) -> Tensor:
    """Values [C, outputs, b] of states [C, 2ⁿ, b]; re² and im² side by side go through one GEMM."""
    outer, inner = string_signs(plan, current.device, current.real.dtype)
    parts = as_taken_by(inner, current)
    squares = torch.mul(parts, parts, out=as_taken_by(inner, other_memory("state", current)))
    values = torch.matmul(
        inner, torch.unflatten(squares, 1, (outer.shape[1], -1))
    )  # [C, outer basis, strings, columns]
    values = (values * outer.t().unsqueeze(2)).sum(1) if outer.shape[1] > 1 else values.squeeze(1)
    values = torch.unflatten(values, 2, (-1, 2)).sum(3) if current.is_complex() else values
    return torch.matmul(walsh(len(plan.strings), values.device, values.dtype), values) if plan.probabilities else values


def _read_backward(plan: Plan, current: Tensor, upstream: Tensor) -> Tensor:
    outer, inner = string_signs(plan, current.device, current.real.dtype)
    if plan.probabilities:
        upstream = torch.matmul(walsh(len(plan.strings), upstream.device, upstream.dtype).t(), upstream)
    twice = 2 * upstream
    twice = twice.repeat_interleave(2, 2) if current.is_complex() else twice
    gradient = workspace("gradient a", current.shape, current)
    parts, into = (as_taken_by(inner, tensor) for tensor in (current, gradient))
    n_rows = current.shape[0] * outer.shape[1]
    spread = (twice.unsqueeze(1) * outer.t().unsqueeze(2)).flatten(0, 1)  # [C · outer basis, strings, columns]
    torch.bmm(inner.t().expand(n_rows, -1, -1), spread, out=into.view(n_rows, inner.shape[1], -1))
    into.mul_(parts)
    return gradient


def _by_step(plan: Plan, flat: list[Tensor] | tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    matrices = iter(flat)
    counts = [
        len(groups(step)) if isinstance(step, Local) else int(isinstance(step, Controlled)) for step in plan.steps
    ]
    return [tuple(next(matrices) for _ in range(count)) for count in counts]


def _half_angles(angles: Tensor | None, chunk: slice) -> tuple[Tensor, Tensor] | None:
    return None if angles is None else half_angles(angles[:, :, chunk])


def _chunks(left: Tensor, right: Tensor) -> Iterator[slice]:
    n_circuits, _, batch = left.shape
    size = (
        max(CHUNK // (n_circuits * left.shape[1] * right.shape[1]), MIN_COLUMNS) if left.device.type == "cpu" else batch
    )
    for start in range(0, batch, max(size, 1)):
        yield slice(start, min(start + size, batch))
