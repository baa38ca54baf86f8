"""A plan's steps on states in the workspace, forward and back, and the gradients that a state and its own give them.

For the state vector engine: autograd sees nothing of this. Where it must, `evolve` runs the same steps.
"""

import torch
from torch import Tensor

from hqcnn_lab.quantum.engine.evolve import sources, split_wire, split_wires
from hqcnn_lab.quantum.engine.plan import Controlled, DataTurns, Local, Permutation, Step, groups
from hqcnn_lab.quantum.engine.workspace import workspace


def run_step(
    step: Step,
    current: Tensor,
    matrices: tuple[Tensor, ...],
    turns: tuple[Tensor, Tensor] | None,
    name: str,
    inverse: bool = False,
) -> Tensor:
    """One step, or its inverse, on [C, 2ⁿ, b] states in the workspace `name`: in place, or from one half to another."""
    if isinstance(step, Permutation):
        n_wires = current.shape[1].bit_length() - 1
        order = sources(n_wires, step.pairs, current.device, inverse)
        return torch.index_select(current, 1, order, out=other_memory(name, current))
    if isinstance(step, Local):
        for (start, stop), matrix in zip(groups(step), matrices, strict=True):
            current = _group(matrix.mH if inverse else matrix, current, start, stop, name)
        return current
    if isinstance(step, Controlled):
        return _controlled(step.gate.wires, current, matrices[0].mH if inverse else matrices[0])
    assert turns is not None
    cos, sin = turns
    for wire, source in reversed(step.pairs) if inverse else step.pairs:
        _turn(current, wire, cos[:, source], -sin[:, source] if inverse else sin[:, source])
    return current


def other_memory(name: str, current: Tensor) -> Tensor:
    """The memory of `name` that `current` is not in."""
    first = workspace(f"{name} a", current.shape, current)
    return first if first.data_ptr() != current.data_ptr() else workspace(f"{name} b", current.shape, current)


def _group(matrix: Tensor, current: Tensor, start: int, stop: int, name: str) -> Tensor:
    """[C, 2ᵏ, 2ᵏ] on the wires from `start` to `stop`; a real matrix acts on real and imaginary parts as one GEMM."""
    result = other_memory(name, current)
    matrix = matrix.resolve_conj()
    n_circuits, copies, size = current.shape[0], 2**start, 2 ** (stop - start)
    if _as_rows(current, stop):
        rows = (n_circuits, copies, size)
        torch.bmm(current.view(rows), matrix.to(current.dtype).mT, out=result.view(rows))
        return result
    columns, into = as_taken_by(matrix, current), as_taken_by(matrix, result)
    spread = matrix.expand(copies, -1, -1) if n_circuits == 1 else matrix.repeat_interleave(copies, 0)
    shape = (n_circuits * copies, size, -1)
    torch.bmm(spread, columns.view(shape), out=into.view(shape))
    return result


def _as_rows(current: Tensor, stop: int) -> bool:
    """Whether a group is the last wires of a single sample: one product from the right, not thousands of thin ones."""
    return current.shape[2] == 1 and current.shape[1] == 2**stop


def as_taken_by(matrix: Tensor, states: Tensor) -> Tensor:
    """States as the matrix can take them: for a real one, real and imaginary parts beside each other."""
    if states.is_complex() and not matrix.is_complex():
        return torch.view_as_real(states).flatten(2)
    return states


def _controlled(wires: tuple[int, ...], current: Tensor, matrix: Tensor) -> Tensor:
    view, control_axis, target_axis = split_wires(current, wires)
    zero, one = view.select(control_axis, 1).unbind(target_axis - (target_axis > control_axis))
    m = matrix.to(current.dtype).resolve_conj().reshape(-1, 2, 2, *[1] * (zero.dim() - 1))
    turned = torch.mul(zero, m[:, 0, 0], out=workspace("part", zero.shape, zero)).addcmul_(one, m[:, 0, 1])
    one.mul_(m[:, 1, 1]).addcmul_(zero, m[:, 1, 0])
    zero.copy_(turned)
    return current


def _turn(current: Tensor, wire: int, cos: Tensor, sin: Tensor) -> None:
    """Ry on one wire, another for each sample: cos, sin [C, b] of half the angles."""
    zero, one = split_wire(current, wire)
    if current.is_complex():
        zero, one = torch.view_as_real(zero), torch.view_as_real(one)
        cos, sin = cos.unsqueeze(-1), sin.unsqueeze(-1)
    cos, sin = cos[:, None, None], sin[:, None, None]
    turned = torch.mul(zero, cos, out=workspace("part", zero.shape, zero)).addcmul_(one, sin, value=-1)
    one.mul_(cos).addcmul_(zero, sin)
    zero.copy_(turned)


def add_gradients(
    step: Step,
    current: Tensor,
    gradient: Tensor,
    matrices: tuple[Tensor, ...],
    d_matrices: list[Tensor],
    d_turns: Tensor | None,
) -> None:
    """Add the gradients of a step's matrices and inputs, found from the state and its gradient after the step.

    To take the step's gates back from both first would change the sum of a gate only by that gate itself.
    """
    if isinstance(step, Local):
        for (start, stop), matrix, d_matrix in zip(groups(step), matrices, d_matrices, strict=False):
            d_matrix += torch.bmm(_group_outer(gradient, current, start, stop, matrix), matrix)
    elif isinstance(step, Controlled):
        for d_matrix in d_matrices:
            rows = [_active(tensor, step.gate.wires) for tensor in (gradient, current)]
            outer = torch.bmm(rows[0], rows[1].mH)
            d_matrix += torch.bmm(outer.to(matrices[0].dtype), matrices[0])
    elif isinstance(step, DataTurns):
        assert d_turns is not None
        for wire, source in step.pairs:  # each commutes with itself, and they act on different wires
            zero, one = split_wire(current, wire)
            d_zero, d_one = split_wire(gradient, wire)
            d_turns[:, source] += 0.5 * (_inner(d_one, zero) - _inner(d_zero, one))


def _group_outer(gradient: Tensor, current: Tensor, start: int, stop: int, matrix: Tensor) -> Tensor:
    """[C, 2ᵏ, 2ᵏ]: Σ gradient · current†, over the samples and the other wires; its real part for a real matrix."""
    n_circuits, copies, size = current.shape[0], 2**start, 2 ** (stop - start)
    if _as_rows(current, stop):
        rows = (tensor.view(n_circuits, copies, size) for tensor in (gradient, current))
        outer = torch.bmm(next(rows).mT, next(rows).conj())
        return outer if matrix.is_complex() else outer.real
    gradient, current = as_taken_by(matrix, gradient), as_taken_by(matrix, current)
    rows = [tensor.view(n_circuits * copies, size, -1) for tensor in (gradient, current)]
    if copies > 1 and rows[0].shape[2] < size:  # many thin products: turn the wires to the front, and it is one
        rows = [torch.unflatten(row, 0, (n_circuits, copies)).transpose(1, 2).flatten(2) for row in rows]
        return torch.bmm(rows[0], rows[1].mH)
    return torch.unflatten(torch.bmm(rows[0], rows[1].mH), 0, (n_circuits, copies)).sum(1)


def _active(current: Tensor, wires: tuple[int, ...]) -> Tensor:
    """[C, 2, …]: the amplitudes a controlled gate acts on, the target first."""
    view, control_axis, target_axis = split_wires(current, wires)
    active = view.select(control_axis, 1).movedim(target_axis - (target_axis > control_axis), 1)
    return active.reshape(active.shape[0], 2, -1)


def _inner(gradient: Tensor, current: Tensor) -> Tensor:
    """[C, a, b, B] twice → [C, B]: the real inner product over everything but circuit and sample."""
    if gradient.is_complex():
        gradient, current = torch.view_as_real(gradient), torch.view_as_real(current)
        return (gradient * current).sum((1, 2, 4))
    return (gradient * current).sum((1, 2))
