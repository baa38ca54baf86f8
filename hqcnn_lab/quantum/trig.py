"""The trigonometric engine: an angle-encoded circuit as a polynomial, for few wires and many samples.

Every angle xᵢ is encoded once, so every output is linear in (1, cos xᵢ, sin xᵢ) for each i: out = T(θ) · features(x),
with 3ⁿ features (the Fourier view of Schuld, Sweke, Meyer 2021). T is found once a step by running the circuit at 3ⁿ
known angles; after that a sample costs one real matrix product, whatever the circuit's depth.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.evolve import refuse_second_derivatives
from hqcnn_lab.quantum.folded import as_real_rows, measure, unitary
from hqcnn_lab.quantum.gates import kron
from hqcnn_lab.quantum.plan import make_plan
from hqcnn_lab.quantum.workspace import workspace

CHUNK = 3 * 2**18  # numbers at a time in the largest intermediate: about a second-level cache of them


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """[C, n, B] angles, [C, W] weights → [C, outputs, B], for a circuit that encodes each angle once.

    Both in the same real dtype, float32 or float64; radians. Differentiable once.
    """
    return contract(angles, coefficients(weights, circuit))


def coefficients(weights: Tensor, circuit: Circuit) -> Tensor:
    """T(θ), [C, outputs, 3ⁿ]: feature order (1, cos, sin) on each wire, wire 0 slowest.

    The circuit runs at every combination of the angles 0, 2π/3, 4π/3; those values determine the polynomial.
    """
    plan = make_plan(circuit)
    grid = _grid(plan.n_wires, weights.device, weights.dtype)
    values = measure(plan, torch.matmul(as_real_rows(unitary(plan, weights)), grid))
    half = plan.n_wires // 2
    left, right = (_interpolation(n, weights.device, weights.dtype) for n in (half, plan.n_wires - half))
    values = left @ values.unflatten(2, (3**half, -1)) @ right.t()
    return values.flatten(2)


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
        cos, sin = torch.cos(angles), torch.sin(angles)
        values = angles.new_empty(angles.shape[0], n_outputs, angles.shape[2])
        for block in _blocks(angles, n_outputs * 3**cut):
            left, right = _halves(cos[block], sin[block], cut)
            folded = _folded(_as_matrix(coefficients[block[0]], cut), right[-1])
            torch.sum(folded.unflatten(1, (n_outputs, -1)).mul_(left[-1].unsqueeze(1)), 2, out=values[block])
        ctx.save_for_backward(cos, sin, coefficients)
        return values

    @staticmethod
    def backward(ctx, upstream: Tensor):
        refuse_second_derivatives("trig")
        with torch.autocast(upstream.device.type, enabled=False):
            return _Contract._backward(ctx, upstream)

    @staticmethod
    def _backward(ctx, upstream: Tensor):
        cos, sin, coefficients = ctx.saved_tensors
        n_outputs = coefficients.shape[1]
        cut = _cut(cos.shape[1], n_outputs)
        d_angles = torch.empty_like(cos)
        d_matrix = torch.zeros_like(_as_matrix(coefficients, cut))
        for block in _blocks(cos, n_outputs * 3**cut):
            c, s, g = cos[block], sin[block], upstream[block].unsqueeze(2)
            matrix = _as_matrix(coefficients[block[0]], cut)
            left, right = _halves(c, s, cut)
            folded = _folded(matrix, right[-1]).unflatten(1, (n_outputs, -1))
            d_left = torch.sum(folded.mul_(g), 1, out=workspace("d left", left[-1].shape, c))
            spread = torch.mul(g, left[-1].unsqueeze(1), out=folded).flatten(1, 2)  # [c, K · 3^cut, b]
            d_matrix[block[0]].baddbmm_(spread, right[-1].mT)
            d_right = torch.bmm(matrix.mT, spread, out=workspace("d right", right[-1].shape, c))
            d_block = d_angles[block]
            _features_backward(left, c[:, :cut], s[:, :cut], d_left, d_block[:, :cut])
            _features_backward(right, c[:, cut:], s[:, cut:], d_right, d_block[:, cut:])
        return d_angles, d_matrix.reshape(coefficients.shape)


def _halves(cos: Tensor, sin: Tensor, cut: int) -> tuple[list[Tensor], list[Tensor]]:
    return _features(cos[:, :cut], sin[:, :cut], "left"), _features(cos[:, cut:], sin[:, cut:], "right")


def _folded(matrix: Tensor, right: Tensor) -> Tensor:
    shape = (matrix.shape[0], matrix.shape[1], right.shape[2])
    return torch.bmm(matrix, right, out=workspace("folded", shape, right))


def _cut(n_wires: int, n_outputs: int) -> int:
    """How many wires the first half takes: the fewest numbers in both halves."""
    return min(range(n_wires // 2 + 1), key=lambda cut: n_outputs * 3**cut + 3 ** (n_wires - cut))


def _as_matrix(coefficients: Tensor, cut: int) -> Tensor:
    """[C, K, 3ⁿ] → [C, K · 3^cut, 3^(n − cut)]."""
    n_circuits, n_outputs, n_features = coefficients.shape
    return coefficients.reshape(n_circuits, n_outputs * 3**cut, n_features // 3**cut)


def _blocks(angles: Tensor, rows: int) -> list[tuple[slice, slice, slice]]:
    """Circuits × samples in blocks; each an index into [C, …, B]."""
    n_circuits, _, batch = angles.shape
    if angles.is_cuda:
        return [(slice(None), slice(None), slice(None))]
    n_blocks = max(-(-rows * batch // CHUNK), 1)
    samples = max(-(-batch // n_blocks), 1)  # of about equal size
    circuits = max(CHUNK // (rows * samples), 1)
    return [
        (slice(first, first + circuits), slice(None), slice(start, start + samples))
        for first in range(0, n_circuits, circuits)
        for start in range(0, batch, samples)
    ]


def _features(cos: Tensor, sin: Tensor, name: str) -> list[Tensor]:
    """[c, k, b] → products over the first 0, 1, … k wires, each [c, 3^i, b], the last wire fastest."""
    n_circuits, n_wires, batch = cos.shape
    features = [workspace(f"{name} 0", (n_circuits, 1, batch), cos).fill_(1)]
    for wire in range(n_wires):
        last = features[-1]
        longer = workspace(f"{name} {wire + 1}", (n_circuits, last.shape[1], 3, batch), cos)
        longer[:, :, 0] = last
        torch.mul(last, cos[:, None, wire], out=longer[:, :, 1])
        torch.mul(last, sin[:, None, wire], out=longer[:, :, 2])
        features.append(longer.flatten(1, 2))
    return features


def _features_backward(features: list[Tensor], cos: Tensor, sin: Tensor, gradient: Tensor, d_angles: Tensor) -> None:
    """Write into d_angles [c, k, b] what the features' gradient [c, 3^k, b] says of the angles; it is used up."""
    for wire in range(cos.shape[1] - 1, -1, -1):
        one, d_cos, d_sin = gradient.unflatten(1, (-1, 3)).unbind(2)
        shorter, c, s = features[wire], cos[:, None, wire], sin[:, None, wire]
        turned = torch.mul(d_sin, c, out=workspace("turned", d_sin.shape, c)).addcmul_(d_cos, s, value=-1)
        torch.sum(turned.mul_(shorter), 1, out=d_angles[:, wire])
        gradient = one.addcmul_(d_cos, c).addcmul_(d_sin, s)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _grid(n_wires: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[2ⁿ, 3ⁿ]: the encoded states for every combination of the angles 0, 2π/3, 4π/3, wire 0 slowest."""
    half = torch.arange(3, dtype=torch.float64) * (math.pi / 3)
    return kron(torch.stack([half.cos(), half.sin()]).expand(1, n_wires, 2, 3))[0].to(device, dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _interpolation(n_wires: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3ⁿ, 3ⁿ]: from values at the grid's angles to the coefficients of (1, cos, sin)."""
    thirds = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
    one = torch.stack([torch.full((3,), 0.5, dtype=torch.float64), thirds.cos(), thirds.sin()]) * (2 / 3)
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(n_wires):
        matrix = torch.kron(matrix, one)
    return matrix.to(device, dtype)
