"""The trigonometric engine: an angle-encoded circuit as a polynomial, for few wires and many samples.

Every angle xᵢ is encoded once, so every output is linear in (1, cos xᵢ, sin xᵢ) for each i: out = T(θ) · features(x),
with 3ⁿ features (the Fourier view of Schuld, Sweke, Meyer 2021). T is found once a step from the circuit's matrix;
after that a sample costs one real matrix product, whatever the circuit's depth.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.evolve import readout_matrix, refuse_second_derivatives
from hqcnn_lab.quantum.folded import as_real_rows, unitary
from hqcnn_lab.quantum.plan import make_plan
from hqcnn_lab.quantum.workspace import workspace

CHUNK = 2**20  # numbers at a time in the large intermediates on a CPU: more leave its caches, fewer cost calls


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
    return _Contract.apply(angles, coefficients)


class _Contract(torch.autograd.Function):
    # The wires are cut in two: T becomes a matrix from one half's features to output × the other half's features, and
    # no 3ⁿ × B matrix is ever made.

    @staticmethod
    def forward(ctx, angles: Tensor, coefficients: Tensor) -> Tensor:
        n_outputs = coefficients.shape[1]
        cut = _cut(angles.shape[1], n_outputs)
        values = angles.new_empty(angles.shape[0], n_outputs, angles.shape[2])
        for block in _blocks(angles, _rows(cut, angles.shape[1], n_outputs)):
            left, right = _halves(*_cos_sin(angles[block]), cut)
            folded = _folded(_as_matrix(coefficients[block[0]], cut), right)
            torch.sum(folded.unflatten(1, (n_outputs, -1)).mul_(left.unsqueeze(1)), 2, out=values[block])
        ctx.save_for_backward(angles, coefficients)
        return values

    @staticmethod
    def backward(ctx, upstream: Tensor):
        refuse_second_derivatives("trig")
        with torch.autocast(upstream.device.type, enabled=False):
            return _Contract._backward(ctx, upstream)

    @staticmethod
    def _backward(ctx, upstream: Tensor):
        angles, coefficients = ctx.saved_tensors
        n_outputs = coefficients.shape[1]
        cut = _cut(angles.shape[1], n_outputs)
        d_angles = torch.empty_like(angles, memory_format=torch.contiguous_format)
        d_matrix = torch.zeros_like(_as_matrix(coefficients, cut))
        for block in _blocks(angles, _rows(cut, angles.shape[1], n_outputs)):
            c, s = _cos_sin(angles[block])
            g = _contiguous(upstream[block], "upstream").unsqueeze(2)
            matrix = _as_matrix(coefficients[block[0]], cut)
            left, right = _halves(c, s, cut)
            folded = _folded(matrix, right).unflatten(1, (n_outputs, -1))
            d_left = torch.sum(folded.mul_(g), 1, out=workspace("d left", left.shape, c))
            spread = torch.mul(g, left.unsqueeze(1), out=folded).flatten(1, 2)  # [c, K · 3^cut, b]
            d_matrix[block[0]].baddbmm_(spread, right.mT)
            d_right = torch.bmm(matrix.mT, spread, out=workspace("d right", right.shape, c))
            d_block = d_angles[block]
            _features_backward(left, c[:, :cut], s[:, :cut], d_left, d_block[:, :cut])
            _features_backward(right, c[:, cut:], s[:, cut:], d_right, d_block[:, cut:])
        return d_angles, d_matrix.reshape(coefficients.shape)


def _cos_sin(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Contiguous whatever the angles are; made again going backward, which is cheaper than touching memory for them."""
    cos, sin = (workspace(name, angles.shape, angles) for name in ("cos", "sin"))
    return torch.cos(angles, out=cos), torch.sin(angles, out=sin)


def _contiguous(values: Tensor, name: str) -> Tensor:
    return values if values.is_contiguous() else workspace(name, values.shape, values).copy_(values)


def _halves(cos: Tensor, sin: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    return _features(cos[:, :cut], sin[:, :cut], "left"), _features(cos[:, cut:], sin[:, cut:], "right")


def _folded(matrix: Tensor, right: Tensor) -> Tensor:
    shape = (matrix.shape[0], matrix.shape[1], right.shape[2])
    return torch.bmm(matrix, right, out=workspace("folded", shape, right))


def _cut(n_wires: int, n_outputs: int) -> int:
    """How many wires the first half takes: where there is least to write."""
    return min(range(n_wires // 2 + 1), key=lambda cut: _rows(cut, n_wires, n_outputs))


def _rows(cut: int, n_wires: int, n_outputs: int) -> int:
    """Numbers a sample has in the two large intermediates: outputs × first features, and second features."""
    return n_outputs * 3**cut + 3 ** (n_wires - cut)


def _as_matrix(coefficients: Tensor, cut: int) -> Tensor:
    """[C, K, 3ⁿ] → [C, K · 3^cut, 3^(n − cut)]."""
    n_circuits, n_outputs, n_features = coefficients.shape
    return coefficients.reshape(n_circuits, n_outputs * 3**cut, n_features // 3**cut)


def _blocks(angles: Tensor, rows: int) -> list[tuple[slice, slice, slice]]:
    """Circuits × samples in blocks; each an index into [C, …, B]."""
    n_circuits, _, batch = angles.shape
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


def _features(cos: Tensor, sin: Tensor, name: str) -> Tensor:
    """[c, k, b] → every product of one of (1, cos, sin) a wire, [c, 3ᵏ, b], the last wire fastest.

    From the last wire to the first, each new one slowest: what is there already is its third for 1, and stays in place.
    """
    n_circuits, n_wires, batch = cos.shape
    features = workspace(name, (n_circuits, 3**n_wires, batch), cos)
    features[:, 0] = 1
    for wire, one, with_cos, with_sin in _thirds(features, n_wires):
        torch.mul(one, cos[:, None, wire], out=with_cos)
        torch.mul(one, sin[:, None, wire], out=with_sin)
    return features


def _features_backward(features: Tensor, cos: Tensor, sin: Tensor, gradient: Tensor, d_angles: Tensor) -> None:
    """Write into d_angles [c, k, b] what the features' gradient [c, 3ᵏ, b] says of the angles; it is used up."""
    n_wires = cos.shape[1]
    levels = zip(list(_thirds(features, n_wires))[::-1], list(_thirds(gradient, n_wires))[::-1], strict=True)
    for (wire, _, with_cos, with_sin), (_, d_one, d_cos, d_sin) in levels:
        turned = torch.mul(d_sin, with_cos, out=workspace("turned", d_sin.shape, cos))
        torch.sum(turned.addcmul_(d_cos, with_sin, value=-1), 1, out=d_angles[:, wire])
        d_one.addcmul_(d_cos, cos[:, None, wire]).addcmul_(d_sin, sin[:, None, wire])


def _thirds(features: Tensor, n_wires: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For each wire, last to first: the features of the wires after it, and those times its cosine and its sine."""
    for step, wire in enumerate(range(n_wires - 1, -1, -1)):
        yield wire, *features[:, : 3 ** (step + 1)].split(3**step, 1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _traces(n_wires: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3ᵏ, 4ᵏ]: half the trace of a matrix, by (row, column), with every product of (1, Z, X) on k wires."""
    paulis = torch.tensor([[1, 0, 0, 1], [1, 0, 0, -1], [0, 1, 1, 0]], dtype=torch.float64, device="cpu") / 2
    traces = torch.ones(1, 1, 1, dtype=torch.float64, device="cpu")
    for _ in range(n_wires):  # [features, rows, columns]
        traces = torch.kron(traces, paulis.view(3, 2, 2))
    return traces.flatten(1).to(device, dtype)
