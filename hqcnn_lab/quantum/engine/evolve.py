"""Running a plan on states, in plain torch operations: differentiable any number of times, one step after another.

States are [C, 2ⁿ, B]: C circuits with weights of their own, the batch last, so that every matrix product is one large
GEMM. A step's matrices are made from the weights once and shared by the batch.
"""

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.engine.gates import make_matrices
from hqcnn_lab.quantum.engine.plan import Controlled, Local, Permutation, Plan, Step, groups, make_plan
from hqcnn_lab.quantum.engine.transform import constant

INNER_WIRES = 12  # with more wires, signs are kept as a product of two: 2ⁿ for every output would fill memory


def states(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """The states before the readout, [C, 2ⁿ, B] complex, for [C, inputs, B] angles (or amplitudes) and [C, W] weights.

    Every gate is run, also those no readout can see. For looking at states. Layers use the engines, which are faster.
    """
    every = Circuit(
        circuit.n_wires, circuit.encoder, circuit.gates, "probabilities", tuple(range(circuit.n_wires)), (0,)
    )
    plan = make_plan(every, keep_unseen=True)
    first, parts = make_matrices(plan, weights)
    current = kron_columns(*product_halves(plan, angles, first))
    cos_sin = half_angles(angles) if plan.reuploads else None
    for step, matrices in zip(plan.steps, parts, strict=True):
        current = apply(step, current, matrices, cos_sin)
    return current if current.is_complex() else torch.complex(current, torch.zeros_like(current))


def refuse_second_derivatives(engine: str) -> None:
    """For the backward pass of engines that are differentiable once, because torch's own check lets some cases pass."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"engine={engine!r} has no second derivatives (create_graph=True): use engine='folded' where it can run "
            "(no noise, no re-uploading), else engine='torchquantum'"
        )


def half_angles(angles: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(angles / 2), torch.sin(angles / 2)


def product_halves(plan: Plan, angles: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first states as two factors, [C, 2^h, B] and [C, 2^(n − h), B]: of first · Ry(x)|0⟩; or amplitudes and 1."""
    if first is None:
        right = torch.ones_like(angles[:, :1])
        parts = (angles, right)
    else:
        cos, sin = (half.unsqueeze(2) for half in half_angles(angles[:, : plan.n_wires]))
        column = first.unsqueeze(-1)  # [C, n, 2, 2, 1]
        factors = (column[:, :, :, 0] * cos + column[:, :, :, 1] * sin).unbind(1)
        half = len(factors) // 2
        left = product(list(factors[:half])) if half else torch.ones_like(factors[0][:, :1])
        parts = (left, product(list(factors[half:])))
    if plan.real or parts[1].is_complex():
        return parts
    left, right = (torch.complex(part, torch.zeros_like(part)) for part in parts)
    return left, right


def product(factors: list[Tensor]) -> Tensor:
    """Of k times [C, 2, B] → [C, 2ᵏ, B], by halves: only the last product is large."""
    while len(factors) > 1:
        pairs = [kron_columns(a, b) for a, b in zip(factors[::2], factors[1::2], strict=False)]
        factors = pairs + factors[2 * len(pairs) :]
    return factors[0]


def kron_columns(left: Tensor, right: Tensor) -> Tensor:
    """[C, a, B] and [C, b, B] → [C, a·b, B]."""
    return (left.unsqueeze(2) * right.unsqueeze(1)).flatten(1, 2)


def apply(
    step: Step, current: Tensor, matrices: tuple[Tensor, ...], cos_sin: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """One step on states [C, 2ⁿ, B]; `cos_sin` [C, inputs, B], of half the inputs, is what DataTurns need."""
    if isinstance(step, Permutation):
        n_wires = current.shape[1].bit_length() - 1
        return current.index_select(1, sources(n_wires, step.pairs, current.device))
    if isinstance(step, Local):
        for (start, stop), matrix in zip(groups(step), matrices, strict=True):
            current = apply_group(matrix, current, start, stop)
        return current
    if isinstance(step, Controlled):
        return apply_controlled(step.gate.wires, current, matrices[0])
    assert cos_sin is not None
    cos, sin = cos_sin
    for wire, source in step.pairs:
        current = turn(current, wire, cos[:, source], sin[:, source])
    return current


def apply_group(matrix: Tensor, current: Tensor, start: int, stop: int) -> Tensor:
    """[C, 2ᵏ, 2ᵏ] on the wires from `start` to `stop`; a real matrix on complex states as one real GEMM."""
    if current.is_complex() and not matrix.is_complex():
        real = torch.view_as_real(current).flatten(2)
        return torch.view_as_complex(torch.unflatten(apply_group(matrix, real, start, stop), 2, (-1, 2)))
    n_circuits, dim, batch = current.shape
    size, copies = matrix.shape[-1], 2**start
    if not matrix.is_complex() or current.is_complex():
        matrix = matrix.to(current.dtype)
    columns = current.reshape(n_circuits * copies, size, -1)
    if columns.shape[2] == 1:  # the last wires of a single sample: one product, not thousands of small ones
        rows = torch.matmul(current.reshape(n_circuits, copies, size), matrix.transpose(1, 2))
        return rows.reshape(n_circuits, dim, batch)
    spread = matrix.expand(copies, -1, -1) if n_circuits == 1 else matrix.repeat_interleave(copies, 0)
    return torch.bmm(spread, columns).reshape(n_circuits, dim, batch)


def apply_controlled(wires: tuple[int, ...], current: Tensor, matrix: Tensor) -> Tensor:
    """[C, 2, 2] on the target of wires = (control, target), where the control is |1⟩."""
    n_circuits, dim, batch = current.shape
    view, control_axis, target_axis = split_wires(current, wires)
    idle, active = view.unbind(control_axis)
    target_axis -= target_axis > control_axis
    zero, one = active.unbind(target_axis)
    m = matrix.to(torch.promote_types(matrix.dtype, current.dtype)).reshape(n_circuits, 2, 2, *[1] * (zero.dim() - 1))
    turned = torch.stack([m[:, 0, 0] * zero + m[:, 0, 1] * one, m[:, 1, 0] * zero + m[:, 1, 1] * one], target_axis)
    return torch.stack([idle.to(turned.dtype), turned], control_axis).reshape(n_circuits, dim, batch)


def turn(current: Tensor, wire: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Ry on one wire, another for each sample: cos, sin [C, B] of half the angles."""
    zero, one = split_wire(current, wire)
    cos, sin = cos[:, None, None], sin[:, None, None]
    return torch.stack([cos * zero - sin * one, sin * zero + cos * one], 2).reshape(current.shape)


def split_wire(current: Tensor, wire: int) -> tuple[Tensor, Tensor]:
    """[C, 2ⁿ, B] → the halves [C, 2^wire, rest, B] where the wire is |0⟩, and where it is |1⟩."""
    n_circuits, _, batch = current.shape
    zero, one = current.reshape(n_circuits, 2**wire, 2, -1, batch).unbind(2)
    return zero, one


def split_wires(current: Tensor, wires: tuple[int, ...]) -> tuple[Tensor, int, int]:
    """[C, 2ⁿ, B] → a view with an axis for each of the two wires, and the axes."""
    n_circuits, _, batch = current.shape
    low, high = sorted(wires)
    view = current.reshape(n_circuits, 2**low, 2, 2 ** (high - low - 1), 2, -1, batch)
    axes = {low: 2, high: 4}
    return view, axes[wires[0]], axes[wires[1]]


def readout_matrix(plan: Plan, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[outputs, 2ⁿ]: what each output takes from the probability of each basis state. For few wires."""
    outer, inner = string_signs(plan, device, dtype)
    signs = (outer.unsqueeze(2) * inner.unsqueeze(1)).flatten(1)
    return walsh(len(plan.strings), device, dtype) @ signs if plan.probabilities else signs


def string_signs(plan: Plan, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """±1 of every Z string on every basis state, as a product: [strings, 2^(n − k)] of the first wires and [.., 2ᵏ]."""
    cut = max(plan.n_wires - INNER_WIRES, 0)
    outer, inner = (_signs(wires, plan.strings, device, dtype) for wires in (range(cut), range(cut, plan.n_wires)))
    return outer, inner


@constant(maxsize=256)
def _signs(wires: range, strings: tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    basis = torch.arange(2 ** len(wires), device=device)
    signs = torch.ones(len(strings), len(basis), device=device, dtype=dtype)
    for row, string in zip(signs, strings, strict=True):
        for wire in string:
            if wire in wires:
                row *= 1 - 2 * (basis >> (wires[-1] - wire) & 1)
    return signs


@constant(maxsize=64)
def walsh(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[size, size]: from the Z strings over all subsets of m wires, size = 2ᵐ, to the 2ᵐ probabilities."""
    matrix = torch.ones(1, 1, device=device, dtype=dtype)
    for _ in range(size.bit_length() - 1):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix / size


def sources(n_wires: int, pairs: tuple[tuple[int, int], ...], device: torch.device, inverse: bool = False) -> Tensor:
    """[2ⁿ]: the basis state whose amplitude ends at each index after the CNOTs `pairs`, or before them."""
    cached = _sources_of_few if n_wires <= INNER_WIRES else _sources_of_many
    return cached(n_wires, pairs, device, inverse)


def _sources(n_wires: int, pairs: tuple[tuple[int, int], ...], device: torch.device, inverse: bool) -> Tensor:
    order = basis = torch.arange(2**n_wires, device=device)
    for control, target in pairs[::-1] if inverse else pairs:
        order = order[basis ^ ((basis >> (n_wires - 1 - control) & 1) << (n_wires - 1 - target))]
    return order


_sources_of_few = constant(maxsize=1024)(_sources)
_sources_of_many = constant(maxsize=8)(_sources)  # 8 MB each at 20 wires
