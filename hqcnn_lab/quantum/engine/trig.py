"""The trigonometric engine: an angle-encoded circuit as a polynomial, for few wires and many samples.

Every angle xᵢ is encoded once, so every output is linear in (1, cos xᵢ, sin xᵢ) for each i: out = T(θ) · features(x),
with 3ⁿ features (the Fourier view of Schuld, Sweke, Meyer 2021). T is found once a step from the circuit's matrix;
after that a sample costs one real matrix product, whatever the circuit's depth.
"""

# pyright: reportUnknownMemberType=false
# (autograd.Function.apply is not annotated)

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.engine.evolve import readout_matrix, refuse_second_derivatives
from hqcnn_lab.quantum.engine.folded import as_real_rows, unitary
from hqcnn_lab.quantum.engine.gates import gate_matrix
from hqcnn_lab.quantum.engine.plan import make_plan
from hqcnn_lab.quantum.engine.transform import constant
from hqcnn_lab.quantum.engine.workspace import last_use, workspace

CHUNK = 2**22  # numbers at a time in the large intermediates on a CPU: they stay in the workspace for the backward pass


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """[C, n, B] angles, [C, W] weights → [C, outputs, B], for a circuit that encodes each angle once.

    Both in the same real dtype, float32 or float64; radians. Differentiable once.
    """
    return contract(angles, coefficients(weights, circuit))


def coefficients(weights: Tensor, circuit: Circuit) -> Tensor:
    """T(θ), [C, outputs, 3ⁿ]: feature order (1, cos, sin) on each wire, wire 0 slowest.

    The observables are brought back before the circuit, Re U†OU, and traced with the encoded state, a product over the
    wires of (1 + cos x · Z + sin x · X) / 2.
    """
    plan = make_plan(circuit)
    rows = as_real_rows(unitary(plan, weights))  # [C, 2ⁿ·(1 or 2), 2ⁿ]
    signs = readout_matrix(plan, weights.device, weights.dtype)
    signs = signs.repeat_interleave(rows.shape[1] // signs.shape[1], 1).t()
    read = (rows.unsqueeze(2) * signs.unsqueeze(2)).flatten(2)  # [C, rows, outputs · 2ⁿ]
    half = plan.n_wires // 2
    sides = (2**half, 2 ** (plan.n_wires - half))
    observables = torch.bmm(rows.mT, read).view(-1, *sides, len(plan.strings), *sides)
    pairs = observables.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # [C, outputs, 4^half, 4^(n − half)]
    left, right = (_traces(n, weights.device, weights.dtype) for n in (half, plan.n_wires - half))
    return torch.matmul(torch.matmul(left, pairs), right.t()).flatten(2)


def contract(angles: Tensor, coefficients: Tensor) -> Tensor:
    """Σ_f coefficients[f] · Πᵢ (1, cos xᵢ, sin xᵢ)[fᵢ]: [C, n, B] radians, [C, K, 3ⁿ] → [C, K, B]."""
    return cast(Tensor, _Contract.apply(angles, coefficients))


class _Contract(torch.autograd.Function):
    # The wires are cut in two. T becomes a matrix from the last wires' features to output × the first wires' features,
    # and what it gives is summed over the first wires' one after another: no 3ⁿ × B matrix is ever made.

    @staticmethod
    def forward(ctx: Any, angles: Tensor, coefficients: Tensor) -> Tensor:
        values = angles.new_empty(angles.shape[0], coefficients.shape[1], angles.shape[2])
        blocks, folded = _blocks(angles, coefficients), None
        for block in blocks:
            folded = _fold(angles[block], coefficients[block[0]])
            level = folded.levels[-1]
            if folded.cut:
                _sum_wire(
                    level, folded.cos[:, folded.cut - 1], folded.sin[:, folded.cut - 1], values[block].unsqueeze(2)
                )
            else:
                values[block] = level.squeeze(2)
        ctx.save_for_backward(angles, coefficients)
        ctx.last = folded if len(blocks) == 1 and any(ctx.needs_input_grad) else None
        ctx.mark = last_use()
        return values

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = grad_outputs
        refuse_second_derivatives("trig")
        with torch.autocast(upstream.device.type, enabled=False):
            return _Contract._backward(ctx, upstream)

    @staticmethod
    def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        angles, coefficients = ctx.saved_tensors
        d_angles = torch.empty_like(angles, memory_format=torch.contiguous_format)
        d_coefficients = torch.zeros_like(coefficients, memory_format=torch.contiguous_format)
        last: _Folded | None = ctx.last if ctx.mark == last_use() else None
        for block in _blocks(angles, coefficients):
            # Computed again if it is gone, which costs less than memory to keep it.
            folded = _fold(angles[block], coefficients[block[0]]) if last is None else last
            _fold_backward(folded, upstream[block], d_angles[block], d_coefficients[block[0]])
        return d_angles, d_coefficients


class _Folded(NamedTuple):
    """A block of samples, in the workspace: contracted with the last wires, and with all but one of the first `cut`."""

    cut: int
    matrix: Tensor  # [c, K · 3^cut, 3^(n − cut)]
    cos: Tensor  # [c, n, b]
    sin: Tensor
    features: Tensor  # [c, 3^(n − cut), b], of the last wires
    levels: list[Tensor]  # [c, K, 3^cut, b], [c, K, 3^(cut − 1), b] … [c, K, 3, b]


def _fold(angles: Tensor, coefficients: Tensor) -> _Folded:
    n_wires, n_outputs = angles.shape[1], coefficients.shape[1]
    cut = _cut(n_wires, n_outputs)
    cos, sin = (workspace(name, angles.shape, angles) for name in ("cos", "sin"))  # contiguous whatever the angles are
    torch.cos(angles, out=cos)
    torch.sin(angles, out=sin)
    features = _features(cos[:, cut:], sin[:, cut:])
    matrix = coefficients.reshape(-1, n_outputs * 3**cut, 3 ** (n_wires - cut))
    shape = (matrix.shape[0], matrix.shape[1], angles.shape[2])
    levels = [torch.unflatten(torch.bmm(matrix, features, out=workspace("level 0", shape, cos)), 1, (n_outputs, -1))]
    for wire in range(cut - 1):
        out = workspace(f"level {wire + 1}", (*shape[:1], n_outputs, 3 ** (cut - 1 - wire), shape[2]), cos)
        levels.append(_sum_wire(levels[-1], cos[:, wire], sin[:, wire], out))
    return _Folded(cut, matrix, cos, sin, features, levels)


def _sum_wire(level: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """[c, K, 3 · r, b] → [c, K, r, b], summed over the three features of the slowest wire; cos, sin [c, b]."""
    one, with_cos, with_sin = torch.unflatten(level, 2, (3, -1)).unbind(2)
    return torch.addcmul(one, with_cos, cos[:, None, None], out=out).addcmul_(with_sin, sin[:, None, None])


def _fold_backward(folded: _Folded, upstream: Tensor, d_angles: Tensor, d_coefficients: Tensor) -> None:
    """From upstream [c, K, b]: write the gradient of the angles [c, n, b], add that of the coefficients [c, K, 3ⁿ]."""
    cut, cos, sin = folded.cut, folded.cos, folded.sin
    gradient = upstream.unsqueeze(2)
    for wire in range(cut - 1, -1, -1):
        level = folded.levels[wire]
        spread = workspace(f"d level {wire}", level.shape, cos)
        _, with_cos, with_sin = torch.unflatten(level, 2, (3, -1)).unbind(2)
        d_one, d_cos, d_sin = torch.unflatten(spread, 2, (3, -1)).unbind(2)
        d_one.copy_(gradient)
        torch.mul(gradient, cos[:, None, None, wire], out=d_cos)
        torch.mul(gradient, sin[:, None, None, wire], out=d_sin)
        turned = torch.mul(d_cos, with_sin, out=workspace("turned", d_cos.shape, cos))
        torch.sum(turned.addcmul_(d_sin, with_cos, value=-1), (1, 2), out=d_angles[:, wire])
        gradient = spread
    spread = gradient.reshape(folded.matrix.shape[0], folded.matrix.shape[1], -1)
    d_coefficients.view(folded.matrix.shape).baddbmm_(spread, folded.features.mT)
    d_features = torch.bmm(folded.matrix.mT, spread, out=workspace("d features", folded.features.shape, cos))
    _features_backward(folded.features, cos[:, cut:], sin[:, cut:], d_features, d_angles[:, cut:])


def _cut(n_wires: int, n_outputs: int) -> int:
    """How many wires the first part has: the number for which least is written to memory."""
    return min(range(n_wires // 2 + 1), key=lambda cut: _rows(cut, n_wires, n_outputs))


def _rows(cut: int, n_wires: int, n_outputs: int) -> int:
    """Numbers a sample has in the two large intermediates: outputs × first features, and second features."""
    return n_outputs * 3**cut + 3 ** (n_wires - cut)


def _blocks(angles: Tensor, coefficients: Tensor) -> list[tuple[slice, slice, slice]]:
    """Circuits × samples in blocks; each an index into [C, …, B]."""
    n_circuits, n_wires, batch = angles.shape
    rows = _rows(_cut(n_wires, coefficients.shape[1]), n_wires, coefficients.shape[1])
    if angles.device.type != "cpu":
        return [(slice(None), slice(None), slice(None))]
    n_blocks = max(-(-rows * batch // CHUNK), 1)
    samples = max(-(-batch // n_blocks), 1)  # of about equal size
    circuits = max(CHUNK // (rows * samples), 1)
    return [
        (slice(first, first + circuits), slice(None), slice(start, start + samples))
        for first in range(0, n_circuits, circuits)
        for start in range(0, batch, samples)
    ]


def _features(cos: Tensor, sin: Tensor) -> Tensor:
    """[c, k, b] → every product of one of (1, cos, sin) a wire, [c, 3ᵏ, b], the last wire fastest.

    From the last wire to the first, each new one slowest: the features so far are the third with 1, and stay in place.
    """
    n_circuits, n_wires, batch = cos.shape
    features = workspace("features", (n_circuits, 3**n_wires, batch), cos)
    features[:, 0] = 1
    for wire, one, with_cos, with_sin in _thirds(features, n_wires):
        torch.mul(one, cos[:, None, wire], out=with_cos)
        torch.mul(one, sin[:, None, wire], out=with_sin)
    return features


def _features_backward(features: Tensor, cos: Tensor, sin: Tensor, gradient: Tensor, d_angles: Tensor) -> None:
    """From the features' gradient [c, 3ᵏ, b], which is overwritten: write the gradient of the angles [c, k, b]."""
    n_wires = cos.shape[1]
    levels = zip(list(_thirds(features, n_wires))[::-1], list(_thirds(gradient, n_wires))[::-1], strict=True)
    for (wire, _, with_cos, with_sin), (_, d_one, d_cos, d_sin) in levels:
        turned = torch.mul(d_sin, with_cos, out=workspace("turned", d_sin.shape, cos))
        torch.sum(turned.addcmul_(d_cos, with_sin, value=-1), 1, out=d_angles[:, wire])
        d_one.addcmul_(d_cos, cos[:, None, wire]).addcmul_(d_sin, sin[:, None, wire])


def _thirds(features: Tensor, n_wires: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For each wire, last to first: the features of the wires after it, and those times its cosine and its sine."""
    for step, wire in enumerate(range(n_wires - 1, -1, -1)):
        one, with_cos, with_sin = torch.split(features[:, : 3 ** (step + 1)], 3**step, 1)
        yield wire, one, with_cos, with_sin


@constant(maxsize=64)
def _traces(n_wires: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3ᵏ, 4ᵏ]: half the trace of a matrix, by (row, column), with every product of (1, Z, X) on k wires."""
    no_angles = torch.empty(0, dtype=torch.float64, device="cpu")
    halves = torch.stack([gate_matrix(name, no_angles).real for name in ("identity", "z", "x")]) / 2
    traces = torch.ones(1, 1, 1, dtype=torch.float64, device="cpu")
    for _ in range(n_wires):  # [features, rows, columns]
        traces = torch.kron(traces, halves)
    return traces.flatten(1).to(device, dtype)
