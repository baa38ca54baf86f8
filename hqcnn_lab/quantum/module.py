"""What the quantum layers share: the weights, the checks, the precision, the engine, noise and shots."""

# pyright: reportUnknownMemberType=false
# (torch.compiler.disable is not annotated)

import math
import random
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import Circuit, make_circuit
from hqcnn_lab.quantum.engine.transform import transform
from hqcnn_lab.quantum.limits import MAX_WIRES, check_circuit, choose_engine
from hqcnn_lab.quantum.noise import Noise, as_noise, trajectory

INITIAL_STD = 0.3  # radians: near the identity, where deep circuits still have gradients

# What of `transform` each engine can take; trig takes nothing. torchquantum keeps tensors of its own, so it cannot be
# exported or traced.
_GOES_WITH = {
    "folded": ("torch.func", "forward-mode differentiation", "torch.export", "torch.jit.trace"),
    "torchquantum": ("torch.func", "forward-mode differentiation"),
    "statevector": ("torch.jit.trace",),
}


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor has it, otherwise float32: a circuit is never run in half precision."""
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(f"angles must be floating point, got {tensor.dtype}: convert them with .float()")
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def fold_leading(angles: Tensor, n_inputs: int, name: str = "n_wires") -> Tensor:
    """[..., inputs] → [1, inputs, B]: one circuit, the batch last."""
    if angles.dim() == 0 or angles.shape[-1] != n_inputs:
        raise ValueError(f"angles must end in {name}={n_inputs}, got shape {tuple(angles.shape)}")
    return angles.reshape(math.prod(angles.shape[:-1]), n_inputs).t().unsqueeze(0)


def unfold_leading(values: Tensor, leading: torch.Size) -> Tensor:
    """[1, outputs, B] → [..., outputs], undoing `fold_leading`."""
    return values.squeeze(0).t().reshape(*leading, values.shape[1])


class CircuitModule(nn.Module):
    """Base of the quantum layers: C circuits of one description, their weights, and `expectations` at full precision.

    Not for use by itself. Its one parameter is `weights`, of the ansatz's shape for one circuit and
    [n_circuits, ...] for several, drawn from N(0, 0.3²) by torch's default generator; those of an ansatz that is not
    trained are uniform in [0, 2π), drawn from `seed`, and frozen.
    """

    def __init__(
        self,
        n_wires: int,
        n_layers: int,
        ansatz: str,
        encoder: str,
        readout: str,
        engine: str,
        noise: Noise | Mapping[str, Any] | None,
        shots: int | None,
        shot_gradient: str,
        seed: int,
        *,
        n_circuits: int | None,
        wires_from: str,
    ):
        super().__init__()
        noise = as_noise(noise)
        choice = (n_wires, n_layers, ansatz, encoder, readout)
        check_circuit(*choice, engine, noise, shots, shot_gradient, seed, wires_from=wires_from)
        self.n_wires, self.n_layers, self.ansatz, self.encoder, self.readout = choice
        self.engine, self.noise, self.shots, self.shot_gradient, self.seed = engine, noise, shots, shot_gradient, seed
        self.circuit = make_circuit(*choice, seed)
        shape = self.circuit.weight_shape
        self.weights = nn.Parameter(
            torch.empty(shape if n_circuits is None else (n_circuits, *shape)),
            requires_grad=ANSATZES[ansatz].trainable,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights again, in radians; frozen ones come out the same."""
        if ANSATZES[self.ansatz].trainable:
            nn.init.normal_(self.weights, std=INITIAL_STD)
        else:
            turns = torch.rand(self.weights.shape, generator=torch.Generator().manual_seed(self.seed))
            with torch.no_grad():
                self.weights.copy_(2 * math.pi * turns)

    def fold(self, angles: Tensor) -> Tensor:
        """The input of `forward` as the circuits take it, [C, inputs, B]: each layer says how."""
        raise NotImplementedError

    def expectations(self, angles: Tensor) -> Tensor:
        """[C, inputs, B] → [C, outputs, B]; float64 if angles or weights are, else float32, under autocast too."""
        if torch.compiler.is_compiling():
            # The network around this layer is compiled, but a compiler cannot trace memory that is used again. This is
            # no decorator, because that would import the compiler, which takes a second, in every program.
            return cast("Callable[[Tensor], Tensor]", torch.compiler.disable(self._expectations))(angles)
        return self._expectations(angles)

    def _expectations(self, angles: Tensor) -> Tensor:
        if torch.is_anomaly_enabled() and not torch.isfinite(angles).all():
            count = int((~torch.isfinite(angles)).sum())
            raise ValueError(f"{count} of {angles.numel()} angles are not finite on entering {self!r}")
        dtype = working_dtype(angles, self.weights)
        with torch.autocast(angles.device.type, enabled=False):
            angles, weights = angles.to(dtype), self.weights.to(dtype)
            if self.encoder == "amplitude":
                angles = normalized(angles)
            weights = weights.reshape(angles.shape[0], -1)
            if self.shots is None:
                return self._run(angles, weights, self.circuit)
            from hqcnn_lab.quantum.shots import parameter_shift, sample

            if self.shot_gradient == "parameter_shift":
                if (what := transform(angles, weights)) is not None:
                    raise RuntimeError(
                        f"shot_gradient='parameter_shift' does not go with {what}: use 'straight_through'"
                    )
                return parameter_shift(self._run, angles, weights, self.circuit, self.shots)
            return sample(self._run(angles, weights, self.circuit), self.circuit, self.shots)

    def _run(self, angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
        if self.noise is None or self.noise.is_zero:
            return self._run_exactly(angles, weights, circuit)
        from hqcnn_lab.quantum.engine import density

        if self.noise.is_readout_only:
            return density.with_readout_error(self._run_exactly(angles, weights, circuit), circuit, self.noise)
        if self.noise.choose_method(self.n_wires) == "density":
            return density.expectations(angles, weights, circuit, self.noise)
        if (what := transform(angles, weights)) in ("torch.export", "torch.jit.trace"):
            raise RuntimeError(
                f"noise.method='trajectories' does not go with {what}, which keeps one draw: use 'density'"
            )
        try:
            uniform = random.Random(int(torch.randint(2**62, ()))).random  # so that torch's seed decides
        except RuntimeError as error:
            raise RuntimeError("noise.method='trajectories' does not go with vmap: use 'density'") from error
        copies = [trajectory(circuit, self.noise, uniform) for _ in range(self.noise.n_trajectories)]
        first, *others = (self._run_exactly(angles, weights, one) for one in copies)
        mean = sum(others, first) / len(copies)
        return density.with_readout_error(mean, circuit, self.noise)

    def _run_exactly(self, angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
        if angles.numel() == 0:
            return angles.new_zeros(angles.shape[0], circuit.n_outputs, angles.shape[2]) + 0 * (
                angles.sum() + weights.sum()
            )
        engine = self._choose_engine(angles, weights, circuit)
        module = import_module(f"hqcnn_lab.quantum.engine.{engine}")
        return module.expectations(angles, weights, circuit)

    def _choose_engine(self, angles: Tensor, weights: Tensor, circuit: Circuit) -> str:
        engine = choose_engine(self.engine, self.n_wires, self.encoder, circuit.n_outputs, angles.shape[2])
        if (what := transform(angles, weights)) is None:
            return engine
        can_fold = self.encoder != "reuploading" and self.n_wires <= MAX_WIRES["folded"]
        able = [e for e, goes_with in _GOES_WITH.items() if what in goes_with and (can_fold or e != "folded")]
        if self.engine == "auto" and can_fold:
            return "folded"
        if engine in able:
            return engine
        remedy = f"use engine={able[0]!r}" if able else "nor does any other engine, with this encoder and so many wires"
        raise RuntimeError(f"engine={self.engine!r} does not go with {what}: {remedy}")

    def circuit_repr(self) -> str:
        parts = [f"n_layers={self.n_layers}", f"ansatz={self.ansatz}", f"engine={self.engine}"]
        if self.encoder != "angle_y":
            parts.append(f"encoder={self.encoder}")
        if self.readout != "z":
            parts.append(f"readout={self.readout}")
        if self.noise is not None and not self.noise.is_zero:
            parts.append(f"noise={self.noise}")
        if self.shots is not None:
            parts.append(f"shots={self.shots}, shot_gradient={self.shot_gradient}")
        return ", ".join(parts)


def normalized(amplitudes: Tensor) -> Tensor:
    """Unit vectors along dimension 1; a zero vector, which is not a state, becomes |0…0⟩ and gets no gradient."""
    norm = cast(Tensor, amplitudes.norm(dim=1, keepdim=True))
    zero = norm == 0
    ground = torch.zeros_like(amplitudes[:1, :, :1])
    ground[:, 0] = 1
    return torch.where(zero, ground, amplitudes / torch.where(zero, 1.0, norm))
