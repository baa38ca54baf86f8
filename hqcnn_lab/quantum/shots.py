"""Finite shots: expectations as a device would estimate them, and gradients through them.

Every Z string is estimated from `shots` measurements of its own, so its error is that of a device, but errors of
different wires are independent: right marginals, no joint correlations. Probabilities are counts of one joint
measurement. Every evaluation draws again, from torch's default generator.
"""

# pyright: reportUnknownMemberType=false
# (autograd.Function.apply is not annotated)

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.gate import Gate

Run = Callable[[Tensor, Tensor, Circuit], Tensor]
"""An engine: angles [C, n_inputs, B], weights [C, W] and a circuit → [C, n_outputs, B]."""

Terms = tuple[tuple[float, float], ...]
"""Pairs of a shift and its coefficient."""

# Σ coefficient · f(θ + shift) is the exact derivative of an expectation in a gate's angle. A Pauli rotation, and a
# phase on |1⟩ or |11⟩, has one frequency, 1: two terms (Mitarai et al. 2018; Schuld et al. 2019). A controlled
# rotation's generator has eigenvalues 0 and ±½, so frequencies ½ and 1: four terms (Anselmetti et al. 2021, app. F).
TWO_TERMS = ((math.pi / 2, 0.5), (-math.pi / 2, -0.5))
_NEAR, _FAR = ((math.sqrt(2) + sign) / (4 * math.sqrt(2)) for sign in (1, -1))
FOUR_TERMS = ((math.pi / 2, _NEAR), (-math.pi / 2, -_NEAR), (3 * math.pi / 2, -_FAR), (-3 * math.pi / 2, _FAR))
NEED_FOUR = {("crx", 0), ("crz", 0), ("cu3", 0)}
"""By gate and slot. U3 = P(φ) Ry(θ) P(λ) with P a phase on |1⟩, so of a controlled one only θ is a rotation's."""


def sample(values: Tensor, circuit: Circuit, shots: int) -> Tensor:
    """Replace exact outputs [C, n_outputs, B] by estimates from `shots` measurements; the gradient stays the exact one.

    That "straight_through" gradient costs nothing and has no sampling noise, so it flatters training: a device would
    need `parameter_shift`. float32 or float64; values are unbiased, with variance (1 − ⟨Z⟩²)/shots.
    """
    return _draw(values.detach(), circuit, shots) + (values - values.detach())


def parameter_shift(run: Run, angles: Tensor, weights: Tensor, circuit: Circuit, shots: int) -> Tensor:
    """Sampled outputs [C, n_outputs, B] whose gradient is estimated from samples too, as on hardware.

    Use it to study training on a device; it costs two evaluations (four for a controlled rotation) for every gate's
    every angle and every encoded input. Unbiased: a weight or an input used by several gates is shifted in one gate at
    a time, and the derivatives are added.

    Args:
        run: an engine. It gets circuits whose data gates read rows of `angles` beyond those of the encoding.

    Raises ValueError for gradients of amplitudes, which no gate's angle holds.
    """
    if circuit.encoder == "amplitude" and angles.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "shot_gradient='parameter_shift' has no gradient for the inputs of encoder='amplitude': "
            "use 'straight_through', or inputs that need no gradient"
        )
    return cast(Tensor, _ParameterShift.apply(run, angles, weights, circuit, shots))


class _ParameterShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Run, angles: Tensor, weights: Tensor, circuit: Circuit, shots: int) -> Tensor:
        ctx.run, ctx.circuit, ctx.shots = run, circuit, shots
        ctx.save_for_backward(angles, weights)
        return _draw(run(angles, weights, circuit), circuit, shots)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] once_differentiable is not annotated
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (upstream,) = grad_outputs
        run: Run = ctx.run
        angles, weights = ctx.saved_tensors
        circuit, weight_of, input_of = separate(ctx.circuit)
        rows, columns = angles[:, list(input_of)], weights[:, list(weight_of)]

        def derivative(of: Tensor, place: int, terms: Terms) -> Tensor:
            """Σ over outputs of upstream · ∂f/∂(row `place` of `of`, one of the two above), [C, B]."""
            total = torch.zeros_like(upstream)
            for shift, coefficient in terms:
                moved = of.clone()
                moved[:, place] += shift
                values = run(*((moved, columns) if of is rows else (rows, moved)), circuit)
                total += coefficient * _draw(values, circuit, ctx.shots)
            return (total * upstream).sum(1)

        d_angles = d_weights = None
        with torch.autocast(upstream.device.type, enabled=False):
            if ctx.needs_input_grad[1]:
                d_angles = torch.zeros_like(angles)
                for place, source in enumerate(input_of):
                    d_angles[:, source] += derivative(rows, place, TWO_TERMS)
            if ctx.needs_input_grad[2]:
                d_weights = torch.zeros_like(weights)
                for gate in circuit.gates:
                    for slot, place in enumerate(gate.weights):
                        terms = FOUR_TERMS if (gate.name, slot) in NEED_FOUR else TWO_TERMS
                        d_weights[:, weight_of[place]] += derivative(columns, place, terms).sum(1)
        return None, d_angles, d_weights, None, None


@lru_cache(maxsize=64)
def separate(circuit: Circuit) -> tuple[Circuit, tuple[int, ...], tuple[int, ...]]:
    """The circuit with a place of its own for each angle of each gate; then the weight and the input of each place.

    The encoding keeps the first `n_inputs` rows; data gates read the rows after them.
    """
    weight_of: list[int] = []
    input_of = list(range(circuit.n_inputs))
    gates: list[Gate] = []
    for gate in circuit.gates:
        weights = tuple(range(len(weight_of), len(weight_of) + len(gate.weights)))
        inputs = tuple(range(len(input_of), len(input_of) + len(gate.inputs)))
        gates.append(replace(gate, weights=weights, inputs=inputs))
        weight_of += gate.weights
        input_of += gate.inputs
    shape = (len(weight_of),)
    return replace(circuit, gates=tuple(gates), weight_shape=shape), tuple(weight_of), tuple(input_of)


def _draw(values: Tensor, circuit: Circuit, shots: int) -> Tensor:
    """Draw counts in float64, which holds them exactly. Probabilities that rounding moved out of [0, 1] are clamped."""
    exact = values.double()
    counts = torch.full_like(exact[:, :1], shots)
    if circuit.readout != "probabilities":
        ones = torch.binomial(counts.expand_as(exact).contiguous(), ((1 - exact) / 2).clamp(0, 1))
        return (1 - 2 * ones / shots).to(values.dtype)
    exact = exact.clamp(min=0)
    for bit in range(len(circuit.measured)):  # a multinomial draw: the first bit, the second given the first, …
        zero, one = torch.unflatten(exact, 1, (2**bit, 2, -1)).sum(3).unbind(2)
        share = one / (zero + one).clamp(min=torch.finfo(torch.float64).tiny)
        ones = torch.binomial(counts, share)
        counts = torch.stack([counts - ones, ones], 2).flatten(1, 2)
    return (counts / shots).to(values.dtype)
