"""Circuits whose weights are constants: products of real matrices, sines and cosines, and nothing else.

A trained network needs the matrices of its weights once, not at every step. What lies between two encodings is folded
into one matrix on the real and imaginary parts of the state, so that every operation left is one that any exchange
format knows.
"""

import copy
import math

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.engine.evolve import apply, half_angles, readout_matrix, turn
from hqcnn_lab.quantum.engine.folded import encoded_states
from hqcnn_lab.quantum.engine.gates import kron, make_matrices
from hqcnn_lab.quantum.engine.plan import DataTurns, Plan, make_plan
from hqcnn_lab.quantum.limits import MAX_WIRES
from hqcnn_lab.quantum.module import CircuitModule, normalized


def freeze(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, whose circuits are constants: as exact, and without an engine.

    For export, where an engine's own backward pass and complex numbers are in the way. Not for training: the copy's
    circuits follow neither its weights nor a move to another device. Raises ValueError as `FrozenCircuit` does.
    """
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    for module in frozen.modules():
        if isinstance(module, CircuitModule):
            module.expectations = FrozenCircuit(module).forward  # the layer's patches around it stay as they are
    return frozen


class FrozenCircuit(nn.Module):
    """`layer.expectations` with the weights that it has now: [C, inputs, B] → [C, outputs, B], float32.

    Raises ValueError, one line, for a circuit with noise or shots, which draws anew at each call, and for one of more
    wires than a matrix is made for.
    """

    signs: Tensor

    def __init__(self, layer: CircuitModule):
        super().__init__()
        if layer.shots is not None or not (layer.noise is None or layer.noise.is_zero):
            raise ValueError("a circuit with shots or noise is drawn anew at each call, so it cannot be a constant")
        if layer.n_wires > MAX_WIRES["folded"]:
            raise ValueError(f"a circuit of {layer.n_wires} wires makes no matrix, at most {MAX_WIRES['folded']} do")
        self.plan, self.is_amplitude = make_plan(layer.circuit), layer.encoder == "amplitude"
        weights = layer.weights.detach().double().reshape(-1, math.prod(layer.circuit.weight_shape))
        signs = readout_matrix(self.plan, weights.device, weights.dtype)
        matrices, self.turns = _between_encodings(self.plan, weights)
        if not self.plan.real:
            signs = torch.cat([signs, signs], 1)
            first, *others = matrices
            matrices = [torch.cat([first.real, first.imag], 1)]  # of a state that is real
            matrices += [
                torch.cat([torch.cat([m.real, -m.imag], 2), torch.cat([m.imag, m.real], 2)], 1) for m in others
            ]
        self.register_buffer("signs", signs.float())
        self.matrices = nn.ParameterList(nn.Parameter(m.float(), requires_grad=False) for m in matrices)

    def forward(self, angles: Tensor) -> Tensor:
        angles = angles.float()
        if self.is_amplitude:
            angles = normalized(angles)
        state = torch.bmm(self.matrices[0], encoded_states(self.plan, angles))
        cos, sin = half_angles(angles)
        for step, matrix in zip(self.turns, self.matrices[1:], strict=True):
            for wire, source in step.pairs:
                # Whether a number is a real or an imaginary part counts as a wire before the first.
                state = turn(state, wire + (not self.plan.real), cos[:, source], sin[:, source])
            state = torch.bmm(matrix, state)
        return torch.matmul(self.signs, state * state)


def _between_encodings(plan: Plan, weights: Tensor) -> tuple[list[Tensor], list[DataTurns]]:
    """The matrices [C, 2ⁿ, 2ⁿ] before, between and after the steps that encode again, and those steps."""
    first, parts = make_matrices(plan, weights)
    dtype = weights.dtype if plan.real else weights.dtype.to_complex()
    one = torch.eye(2**plan.n_wires, dtype=dtype, device=weights.device).expand(len(weights), -1, -1)
    matrices = [one if first is None else kron(first).to(dtype)]
    turns: list[DataTurns] = []
    for step, of_step in zip(plan.steps, parts, strict=True):
        if isinstance(step, DataTurns):
            turns.append(step)
            matrices.append(one)
        else:
            matrices[-1] = apply(step, matrices[-1], of_step)
    return matrices, turns
