"""Noise as data: the channels after every gate, and random Pauli errors that average to them. Torch-free."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import sqrt
from typing import Any, cast

from hqcnn_lab.limit import PROBABILITY, Limits, check_limits, count, one_of
from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.gate import Gate

METHODS = ("auto", "density", "trajectories")
RATES = ("depolarizing", "bit_flip", "phase_flip", "amplitude_damping", "readout_error")

NOISE: Limits = {**dict.fromkeys(RATES, PROBABILITY), "method": one_of(METHODS), "n_trajectories": count(1)}

MAX_DENSITY_WIRES = 8  # 4ⁿ numbers for every observable (or, re-uploading, every sample) and step


@dataclass(frozen=True)
class Noise:
    """The same single-wire channels after every gate, on each wire it touches, and a readout that flips bits.

    Use it to ask how much noise a circuit stands, or to train with it. Not a model of a device: rates do not differ by
    gate or wire, idle wires do not decay, neighbours do not disturb each other. Amplitude encoding, which is no gate,
    is free of noise; every other gate is followed by it, data gates and the basis change of a readout too.

    Rates between 0 and 1, in the order the channels act; as PennyLane's (Nielsen & Chuang 2010, section 8.3):
        depolarizing: X, Y or Z, each with probability p/3: ⟨Z⟩ shrinks by 1 − 4p/3.
        bit_flip: X with probability p.
        phase_flip: Z with probability p.
        amplitude_damping: |1⟩ decays to |0⟩ with probability γ: ⟨Z⟩ becomes γ + (1 − γ)⟨Z⟩.
        readout_error: each measured bit is read wrongly with probability p: a product of k Z shrinks by (1 − 2p)ᵏ.

    Args:
        method: "density", exact, up to `MAX_DENSITY_WIRES` wires; "trajectories", the mean over circuits with random
            Pauli errors, unbiased, for any number of wires but not for amplitude damping; "auto": density if it can be.
        n_trajectories: how many circuits each forward pass averages over.

    Raises ValueError for a wrong argument.
    """

    depolarizing: float = 0.0
    bit_flip: float = 0.0
    phase_flip: float = 0.0
    amplitude_damping: float = 0.0
    readout_error: float = 0.0
    method: str = "auto"
    n_trajectories: int = 32

    def __post_init__(self):
        check_limits(NOISE, {name: getattr(self, name) for name in NOISE}, "noise.")

    @property
    def is_zero(self) -> bool:
        """Whether nothing happens at all, so that an exact engine may run untouched."""
        return not any(getattr(self, name) for name in RATES)

    @property
    def is_readout_only(self) -> bool:
        """Whether only measured bits flip: an exact engine runs, and its outputs shrink."""
        return replace(self, readout_error=0).is_zero

    @property
    def transfer(self) -> tuple[tuple[float, ...], ...]:
        """What the channels after a gate make of a wire's (1, ⟨X⟩, ⟨Y⟩, ⟨Z⟩): a 4 × 4 matrix, no readout error."""
        shrink, bit, phase = 1 - 4 * self.depolarizing / 3, 1 - 2 * self.bit_flip, 1 - 2 * self.phase_flip
        decay = self.amplitude_damping
        return (
            (1.0, 0.0, 0.0, 0.0),
            (0.0, shrink * phase * sqrt(1 - decay), 0.0, 0.0),
            (0.0, 0.0, shrink * bit * phase * sqrt(1 - decay), 0.0),
            (decay, 0.0, 0.0, shrink * bit * (1 - decay)),
        )

    def choose_method(self, n_wires: int) -> str:
        """The method that will really run, "density" or "trajectories"; a one-line ValueError where neither can."""
        method = self.method
        if method == "auto":
            method = "trajectories" if n_wires > MAX_DENSITY_WIRES and not self.amplitude_damping else "density"
        if method == "trajectories":
            self.refuse_damping()
        elif n_wires > MAX_DENSITY_WIRES:
            advice = (
                "lower n_wires, or set amplitude_damping=0" if self.amplitude_damping else "use method='trajectories'"
            )
            raise ValueError(
                f"{n_wires} wires, but noise.method='density' takes at most {MAX_DENSITY_WIRES} wires: {advice}"
            )
        return method

    def refuse_damping(self) -> None:
        if self.amplitude_damping:
            raise ValueError(
                f"noise.amplitude_damping is no random Pauli error, so trajectories cannot draw it: use "
                f"noise.method='density', which takes at most {MAX_DENSITY_WIRES} wires"
            )


def as_noise(noise: object) -> Noise | None:
    """A mapping's values as `Noise`; a one-line ValueError for anything else."""
    if noise is None or isinstance(noise, Noise):
        return noise
    values = cast("Mapping[str, Any]", noise if isinstance(noise, Mapping) else {type(noise).__name__: None})
    names = [field.name for field in fields(Noise)]
    for name in values:
        if name not in names:
            raise ValueError(f"noise takes {', '.join(names)}; got {name}")
    return Noise(**values)


def trajectory(circuit: Circuit, noise: Noise, uniform: Callable[[], float]) -> Circuit:
    """Copy a circuit with random Pauli gates after its gates; the mean over many copies is the noisy circuit.

    Use it where a density matrix is too large. Expectations and gradients of a copy are unbiased, whatever engine runs
    it; one copy for a whole batch makes the batch's errors common. Readout error is left to
    `density.with_readout_error`, which is exact.

    Args:
        uniform: draws from [0, 1), such as `random.Random(0).random`.

    Raises ValueError for amplitude damping. Source: Dalibard, Castin, Mølmer 1992; here every jump is a Pauli gate.
    """
    noise.refuse_damping()
    gates: list[Gate] = []
    for gate in circuit.encoding:
        errors = _errors(gate, noise, uniform)
        if gate.name == "h":
            # What strikes |+⟩ between H and Rz is moved past the Rz: X|+⟩ = |+⟩, Y|+⟩ is Z|+⟩ up to a phase, and Z
            # commutes with Rz. After any other encoding gate an error is where it belongs: before the first gate.
            errors = [Gate("z", error.wires) for error in errors if error.name != "x"]
        gates += errors
    for gate in circuit.gates:
        gates += [gate, *_errors(gate, noise, uniform)]
    return replace(circuit, gates=tuple(gates))


def _errors(gate: Gate, noise: Noise, uniform: Callable[[], float]) -> list[Gate]:
    """Draw the Pauli errors after a gate. Up to a phase a Pauli is whether it flips the bit and whether the phase."""
    errors: list[Gate] = []
    for wire in gate.wires:
        draw, third = uniform(), noise.depolarizing / 3
        bit = draw < 2 * third  # X in the first third, Y in the second, Z in the last
        phase = third <= draw < 3 * third
        bit ^= uniform() < noise.bit_flip
        phase ^= uniform() < noise.phase_flip
        if bit or phase:
            errors.append(Gate("y" if bit and phase else "x" if bit else "z", (wire,)))
    return errors
