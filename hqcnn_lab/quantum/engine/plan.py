"""From a circuit's gates to the few large steps a state vector engine runs. Torch-free, and done once a circuit.

Exact, and free at run time: every encoding is Ry(x) and then fixed gates; what follows on a wire before its first
two-wire gate belongs to the product state; neighbouring one-wire gates fuse; a run of CNOTs is one permutation; phases
and CNOTs before the readout are not run at all, they only change which Z strings are read.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.gate import CONTROLLED, ONE_WIRE, Gate

MAX_GROUP = 5  # neighbouring wires whose gates make one matrix: a GEMM of 2⁵ × 2⁵ gains nothing from growing
DIAGONAL = {"rz", "sdg", "z", "crz"}
REAL = {"ry", "h", "x", "z", "cnot"}

# Gates in time, for a gate on input x: every axis is Ry between gates without angles (up to a phase; S is Z·S†).
_AROUND_RY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ry": ((), ()),
    "rx": (("z", "sdg"), ("sdg",)),
    "rz": (("h", "z", "sdg"), ("sdg", "h")),
}


@dataclass(frozen=True)
class Local:
    """One-wire gates without inputs: for each wire those that act on it, in time order."""

    gates: tuple[tuple[Gate, ...], ...]

    @property
    def real(self) -> bool:
        return all(gate.name in REAL for gates in self.gates for gate in gates)


@dataclass(frozen=True)
class Permutation:
    """CNOTs in time order, as pairs (control, target)."""

    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Controlled:
    """One controlled gate with weights."""

    gate: Gate


@dataclass(frozen=True)
class DataTurns:
    """Ry by a sample's inputs, as pairs (wire, input), each wire once at most."""

    pairs: tuple[tuple[int, int], ...]


Step = Local | Permutation | Controlled | DataTurns


@dataclass(frozen=True)
class Plan:
    """`first` acts on the product of Ry(x)|0⟩ (None for amplitudes), then the steps, then the Z strings are read."""

    n_wires: int
    first: Local | None
    steps: tuple[Step, ...]
    strings: tuple[tuple[int, ...], ...]
    probabilities: bool
    real: bool  # no complex number appears

    @property
    def reuploads(self) -> bool:
        return any(isinstance(step, DataTurns) for step in self.steps)


@lru_cache(maxsize=256)
def groups(local: Local) -> tuple[tuple[int, int], ...]:
    """Runs of neighbouring wires, [start, stop), that a Local acts on, of about equal size and at most `MAX_GROUP`."""
    n_wires = len(local.gates)
    n_groups = -(-n_wires // MAX_GROUP)
    bounds = [round(i * n_wires / n_groups) for i in range(n_groups + 1)]
    runs: list[tuple[int, int]] = []
    for start, stop in pairwise(bounds):
        active = [wire for wire in range(start, stop) if local.gates[wire]]
        if active:
            runs.append((active[0], active[-1] + 1))
    return tuple(runs)


@lru_cache(maxsize=128)
def make_plan(circuit: Circuit, keep_unseen: bool = False) -> Plan:
    """The plan of a circuit; `keep_unseen` runs every gate, for those who look at the states themselves."""
    gates, strings = (list(circuit.gates), circuit.strings) if keep_unseen else _without_unseen(circuit)
    gates = [part for gate in gates for part in _as_ry(gate)]
    first = None
    if circuit.encoder != "amplitude":
        after = {"angle_x": ("sdg",), "angle_z": ("sdg", "h")}.get(circuit.encoder, ())
        product = [[Gate(name, (wire,)) for name in after] for wire in range(circuit.n_wires)]
        gates = _into_product(gates, product)
        first = Local(tuple(map(tuple, product)))
    steps = _steps(gates, circuit.n_wires)
    names = {gate.name for gate in gates} | {gate.name for wire in (first.gates if first else ()) for gate in wire}
    return Plan(circuit.n_wires, first, steps, strings, circuit.readout == "probabilities", names <= REAL)


def _without_unseen(circuit: Circuit) -> tuple[list[Gate], tuple[tuple[int, ...], ...]]:
    """Drop closing phases, fold closing CNOTs into the strings: Z of the target becomes Z of both wires."""
    kept: list[Gate] = []
    blocked: set[int] = set()
    strings = [set(string) for string in circuit.strings]
    for gate in reversed(circuit.gates):
        if blocked.isdisjoint(gate.wires) and gate.name in DIAGONAL:
            continue
        if blocked.isdisjoint(gate.wires) and gate.name == "cnot":
            control, target = gate.wires
            for string in strings:
                if target in string:
                    string ^= {control}
            continue
        kept.append(gate)
        blocked.update(gate.wires)
    return kept[::-1], tuple(tuple(sorted(string)) for string in strings)


def _as_ry(gate: Gate) -> list[Gate]:
    if not gate.inputs:
        return [gate]
    before, after = _AROUND_RY[gate.name]
    fixed = [[Gate(name, gate.wires) for name in names] for names in (before, after)]
    return [*fixed[0], Gate("ry", gate.wires, inputs=gate.inputs), *fixed[1]]


def _into_product(gates: list[Gate], product: list[list[Gate]]) -> list[Gate]:
    """Move gates to their wire's product while nothing but such gates came before; return the others."""
    rest: list[Gate] = []
    blocked: set[int] = set()
    for gate in gates:
        if gate.name in ONE_WIRE and not gate.inputs and gate.wires[0] not in blocked:
            product[gate.wires[0]].append(gate)
        else:
            rest.append(gate)
            blocked.update(gate.wires)
    return rest


def _steps(gates: list[Gate], n_wires: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    pending: list[list[Gate]] = [[] for _ in range(n_wires)]

    def flush(wires: tuple[int, ...]) -> None:
        # All wires at once: the others' gates wait for nothing, and few large steps are cheaper than many small ones.
        if any(pending[wire] for wire in wires):
            steps.append(Local(tuple(map(tuple, pending))))
            pending[:] = [[] for _ in range(n_wires)]

    for gate in gates:
        if gate.name in ONE_WIRE and not gate.inputs:
            pending[gate.wires[0]].append(gate)
            continue
        flush(gate.wires)
        last = steps[-1] if steps else None
        if gate.name == "cnot":
            control, target = gate.wires
            if isinstance(last, Permutation):
                steps[-1] = Permutation((*last.pairs, (control, target)))
            else:
                steps.append(Permutation(((control, target),)))
        elif gate.name in CONTROLLED:
            steps.append(Controlled(gate))
        else:
            turn = (gate.wires[0], gate.inputs[0])
            if isinstance(last, DataTurns) and turn[0] not in {wire for wire, _ in last.pairs}:
                steps[-1] = DataTurns((*last.pairs, turn))
            else:
                steps.append(DataTurns((turn,)))
    flush(tuple(range(n_wires)))
    return tuple(steps)
