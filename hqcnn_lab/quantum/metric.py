"""The Fubini-Study metric of a circuit: how far its state moves when its weights do."""

# pyright: reportUnknownMemberType=false
# (torch.autograd.forward_ad is not annotated)

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.engine.evolve import states
from hqcnn_lab.quantum.module import CircuitModule, normalized

CHUNK = 2**22  # amplitudes differentiated at a time


def fubini_study(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """The real part of the quantum geometric tensor, one block for each row of the weights, averaged over samples.

    [C, inputs, B] angles (or normalized amplitudes) and [C, W] weights, both float32 or both float64, radians →
    [C, rows, P, P] with rows · P = W: the rows are the ansatz's layers, and its closing rotations where it has them.
    With ψ a sample's state::

        F_ij = Re⟨∂ᵢψ|∂ⱼψ⟩ − Re(⟨∂ᵢψ|ψ⟩⟨ψ|∂ⱼψ⟩),     1 − |⟨ψ(θ)|ψ(θ + e)⟩|² = eᵀFe + O(e³)

    Exact, by forward-mode differentiation, of pure states: noise and shots are left out. Costs W runs of the
    circuit, and memory for at least C·W·2ⁿ amplitudes: not for many wires and many circuits at once. An empty batch
    gives zeros.

    Source: Stokes, Izaac, Killoran, Carleo 2020, arXiv:1909.02108, eq. 6 and section 3 (block-diagonal form).
    """
    n_circuits, n_weights = weights.shape
    n_rows, batch = circuit.weight_shape[0], angles.shape[2]
    size = n_weights // n_rows
    metric = weights.new_zeros(n_circuits, n_rows, size, size)
    if batch == 0:
        return metric
    for chunk in torch.split(angles, max(CHUNK // (n_circuits * n_weights * 2**circuit.n_wires), 1), 2):
        state, slopes = _slopes(chunk, weights.detach(), circuit)
        slopes = torch.unflatten(slopes.flatten(2), 1, (n_rows, size))  # [C, rows, P, 2ⁿ · B]
        overlaps = (torch.unflatten(slopes, 3, state.shape[1:]) * state.conj()[:, None, None]).sum(
            3
        )  # ⟨ψ|∂ψ⟩ [C, rows, P, B]
        metric += _gram(slopes) - _gram(overlaps)
    return metric / batch


def layer_metric(layer: CircuitModule, angles: Tensor, max_samples: int = 64) -> Tensor:
    """`fubini_study` of a layer's circuits, on at most `max_samples` of its inputs, taken evenly.

    `angles` are what the layer's `forward` takes: `[..., inputs]`, or `[..., channels, H, W]`, of which the samples are
    patches. Noise and shots of the layer are left out. Returns [C, rows, P, P].
    """
    weights = layer.weights.detach()
    dtype = torch.promote_types(weights.dtype, torch.float32)
    with torch.no_grad(), torch.autocast(weights.device.type, enabled=False):
        samples = layer.fold(angles.detach())
        n_samples = samples.shape[2]
        if n_samples > max_samples:
            taken = torch.arange(max_samples, device=samples.device) * n_samples // max_samples
            samples = samples.index_select(2, taken)
        samples = samples.to(dtype)
        if layer.encoder == "amplitude":
            samples = normalized(samples)
        return fubini_study(samples, weights.to(dtype).reshape(samples.shape[0], -1), layer.circuit)


def _slopes(angles: Tensor, weights: Tensor, circuit: Circuit) -> tuple[Tensor, Tensor]:
    """ψ [C, 2ⁿ, B] and ∂ψ [C, W, 2ⁿ, B]: each weight's derivative is a circuit of its own in one forward-mode pass."""
    n_circuits, n_weights = weights.shape
    directions = torch.eye(n_weights, dtype=weights.dtype, device=weights.device).repeat(n_circuits, 1)
    with torch.no_grad(), forward_ad.dual_level():
        moving = forward_ad.make_dual(weights.repeat_interleave(n_weights, 0), directions)
        state, slopes = forward_ad.unpack_dual(states(angles.repeat_interleave(n_weights, 0), moving, circuit))
    assert slopes is not None  # the weights move
    return state[::n_weights], torch.unflatten(slopes, 0, (n_circuits, n_weights))


def _gram(vectors: Tensor) -> Tensor:
    """Re⟨vᵢ|vⱼ⟩ of [..., P, N] complex → [..., P, P]."""
    parts = torch.view_as_real(vectors).flatten(-2)
    return parts @ parts.mT
