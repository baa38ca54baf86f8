"""Trainable circuits by the names the field gives them, each a function from wires and layers to layers of gates."""

from collections.abc import Callable
from dataclasses import dataclass

from hqcnn_lab.quantum.gate import Gate

Layers = list[tuple[Gate, ...]]


def _all_wires(n_wires: int, n_layers: int) -> tuple[int, ...]:
    return tuple(range(n_wires))


@dataclass(frozen=True)
class Ansatz:
    """How the layers are built, the shape of the weights, and which wires are left to be read."""

    layers: Callable[[int, int, int], Layers]
    weight_shape: Callable[[int, int], tuple[int, ...]]
    measured: Callable[[int, int], tuple[int, ...]] = _all_wires
    trainable: bool = True


def _turns(name: str, n_wires: int, row: int, slot: int, n_slots: int) -> tuple[Gate, ...]:
    """One rotation on every wire, by weights[row, wire, slot]."""
    return tuple(Gate(name, (i,), weights=((row * n_wires + i) * n_slots + slot,)) for i in range(n_wires))


def _ring(n_wires: int, step: int = 1) -> tuple[Gate, ...]:
    """CNOT i→(i+step) mod n for i = 0…n−1: both directions for two wires, nothing for one."""
    return tuple(Gate("cnot", (i, (i + step) % n_wires)) for i in range(n_wires)) if n_wires > 1 else ()


def hardware_efficient(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: Ry then Rz on every wire, then CNOT i→i+1 round the ring (Kandala et al. 2017).

    The last layer's Rz turns phases that a Z readout cannot see, so there its gradient is exactly zero.
    Weights [n_layers, n_wires, 2].
    """
    return [
        _turns("ry", n_wires, row, 0, 2) + _turns("rz", n_wires, row, 1, 2) + _ring(n_wires) for row in range(n_layers)
    ]


def separable(n_wires: int, n_layers: int, seed: int) -> Layers:
    """`hardware_efficient` without the CNOTs: no entanglement, the ablation's twin. Weights [n_layers, n_wires, 2]."""
    return [_turns("ry", n_wires, row, 0, 2) + _turns("rz", n_wires, row, 1, 2) for row in range(n_layers)]


def basic_entangler(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: Rx on every wire, then the ring; two wires have one CNOT (PennyLane's BasicEntanglerLayers).

    Weights [n_layers, n_wires, 1].
    """
    ring = _ring(n_wires)[: 1 if n_wires == 2 else None]
    return [_turns("rx", n_wires, row, 0, 1) + ring for row in range(n_layers)]


def strongly_entangling(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: Rot(φ, θ, ω) = Rz(φ), Ry(θ), Rz(ω) in time on every wire, then CNOT i→i+r, r = 1 + (layer mod (n−1)).

    PennyLane's StronglyEntanglingLayers with its default ranges (Schuld et al. 2020). Weights [n_layers, n_wires, 3].
    """
    layers: Layers = []
    for row in range(n_layers):
        turns = (_turns(name, n_wires, row, slot, 3) for slot, name in enumerate(("rz", "ry", "rz")))
        layers.append(sum(turns, ()) + _ring(n_wires, 1 + row % max(n_wires - 1, 1)))
    return layers


def _two_local(names: tuple[str, ...]) -> Callable[[int, int, int], Layers]:
    def layers(n_wires: int, n_layers: int, seed: int) -> Layers:
        chain = tuple(Gate("cnot", (i, i + 1)) for i in reversed(range(n_wires - 1)))
        turns = [
            sum((_turns(name, n_wires, row, slot, len(names)) for slot, name in enumerate(names)), ())
            for row in range(n_layers + 1)
        ]
        return [turn + chain for turn in turns[:-1]] + [turns[-1]]

    return layers


real_amplitudes = _two_local(("ry",))
real_amplitudes.__doc__ = """Ry on every wire, then CNOT i→i+1 from the last pair to the first; Ry once more at the end.

Qiskit's RealAmplitudes with its default "reverse_linear" entanglement. Weights [n_layers + 1, n_wires, 1].
"""
efficient_su2 = _two_local(("ry", "rz"))
efficient_su2.__doc__ = (
    """`real_amplitudes` with Rz after every Ry: Qiskit's EfficientSU2. Weights [n_layers + 1, n_wires, 2]."""
)


def u3_cu3(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: U3(θ, φ, λ) on every wire, then controlled U3 i→i+1 round the ring (torchquantum's U3CU3Layer0).

    Weights [n_layers, n_wires, 6]: the three of the wire's U3, then the three of the controlled one it controls.
    """
    layers: Layers = []
    for row in range(n_layers):
        first = [(row * n_wires + i) * 6 for i in range(n_wires)]
        turns = tuple(Gate("u3", (i,), weights=(w, w + 1, w + 2)) for i, w in enumerate(first))
        ring = tuple(Gate("cu3", (i, (i + 1) % n_wires), weights=(w + 3, w + 4, w + 5)) for i, w in enumerate(first))
        layers.append(turns + (ring if n_wires > 1 else ()))
    return layers


def random(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: n_wires rotations of random axis on random wires, random CNOTs between them with probability 0.3.

    PennyLane's RandomLayers, gate for gate for the same seed: the frozen filter of the quanvolution literature
    (Henderson et al. 2020). Weights [n_layers, n_wires, 1], drawn from the same seed, not trained.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    layers: Layers = []
    for row in range(n_layers):
        gates: list[Gate] = []
        n_turns = 0
        while n_turns < n_wires:
            if generator.random() > 0.3:
                name = ("rx", "ry", "rz")[generator.choice(3)]
                wire = int(generator.choice(n_wires, size=1, replace=False)[0])
                gates.append(Gate(name, (wire,), weights=(row * n_wires + n_turns,)))
                n_turns += 1
            elif n_wires > 1:
                control, target = generator.choice(n_wires, size=2, replace=False)
                gates.append(Gate("cnot", (int(control), int(target))))
        layers.append(tuple(gates))
    return layers


def _pool(a: int, b: int, weight: int) -> list[Gate]:
    """Turn a by what b holds: CRz b→a where b is 1, CRx b→a where it is 0, by weights[weight] and the next.

    Once b is read no more, this is the same as to measure it and turn a by the outcome: the measurement is deferred.
    """
    return [Gate("crz", (b, a), weights=(weight,)), Gate("x", (b,)), Gate("crx", (b, a), weights=(weight + 1,))]


def pooling(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer joins neighbouring pairs of the wires left and keeps the first of each: a QCNN's block.

    On each pair (a, b): Ry on both, CNOT a→b, Ry on both; then CRz b→a, X on b, CRx b→a, and b is read no more
    (Cong, Choi, Lukin 2019; pooling of Hur, Kim, Park 2022). A wire without a partner stays. All pairs of a layer share
    its weights: [n_layers, 6].
    """
    left = list(range(n_wires))
    layers: Layers = []
    for row in range(n_layers):
        w = 6 * row
        gates: list[Gate] = []
        for a, b in zip(left[::2], left[1::2], strict=False):
            gates += [Gate("ry", (a,), weights=(w,)), Gate("ry", (b,), weights=(w + 1,)), Gate("cnot", (a, b))]
            gates += [Gate("ry", (a,), weights=(w + 2,)), Gate("ry", (b,), weights=(w + 3,))]
            gates += _pool(a, b, w + 4)
        layers.append(tuple(gates))
        left = left[::2]
    return layers


def qcnn(n_wires: int, n_layers: int, seed: int) -> Layers:
    """Each layer: one unitary on every neighbouring pair of the wires left, then half of them are pooled away.

    Convolution: any unitary of two wires (Vatan and Williams 2004: U3 on both, CNOT a→b, Ry on a and Rz on b, CNOT b→a,
    Ry on a, CNOT a→b, U3 on both) on the pairs (0, 1), (2, 3) …, then on (1, 2), (3, 4) … and round the ring. Pooling:
    as in `pooling`, which lacks the second set of pairs, so that what two of its pairs hold meets only once both are
    pooled. Cong, Choi, Lukin 2019, with the blocks of Hur, Kim, Park 2022: on 8 wires and 3 layers their 51 weights.
    All pairs of a layer share its weights: [n_layers, 17].
    """
    left = list(range(n_wires))
    layers: Layers = []
    for row in range(n_layers):
        w = 17 * row
        gates: list[Gate] = []
        pairs = list(zip(left[::2], left[1::2], strict=False))
        between = zip(left[1::2], [*left[2::2], left[0]], strict=False) if len(left) > 2 else ()
        for a, b in (*pairs, *between):
            gates += [Gate("u3", (a,), weights=(w, w + 1, w + 2)), Gate("u3", (b,), weights=(w + 3, w + 4, w + 5))]
            gates += [Gate("cnot", (a, b)), Gate("ry", (a,), weights=(w + 6,)), Gate("rz", (b,), weights=(w + 7,))]
            gates += [Gate("cnot", (b, a)), Gate("ry", (a,), weights=(w + 8,)), Gate("cnot", (a, b))]
            gates += [Gate("u3", (a,), weights=(w + 9, w + 10, w + 11))]
            gates += [Gate("u3", (b,), weights=(w + 12, w + 13, w + 14))]
        for a, b in pairs:
            gates += _pool(a, b, w + 15)
        layers.append(tuple(gates))
        left = left[::2]
    return layers


def _left_by_pooling(n_wires: int, n_layers: int) -> tuple[int, ...]:
    return tuple(range(n_wires))[:: 2**n_layers]


def _per_wire(n_slots: int, extra_layers: int = 0) -> Callable[[int, int], tuple[int, ...]]:
    return lambda n_wires, n_layers: (n_layers + extra_layers, n_wires, n_slots)


ANSATZES: dict[str, Ansatz] = {
    "hardware_efficient": Ansatz(hardware_efficient, _per_wire(2)),
    "basic_entangler": Ansatz(basic_entangler, _per_wire(1)),
    "strongly_entangling": Ansatz(strongly_entangling, _per_wire(3)),
    "real_amplitudes": Ansatz(real_amplitudes, _per_wire(1, extra_layers=1)),
    "efficient_su2": Ansatz(efficient_su2, _per_wire(2, extra_layers=1)),
    "u3_cu3": Ansatz(u3_cu3, _per_wire(6)),
    "random": Ansatz(random, _per_wire(1), trainable=False),
    "separable": Ansatz(separable, _per_wire(2)),
    "pooling": Ansatz(pooling, lambda n_wires, n_layers: (n_layers, 6), measured=_left_by_pooling),
    "qcnn": Ansatz(qcnn, lambda n_wires, n_layers: (n_layers, 17), measured=_left_by_pooling),
}
