"""What a circuit can do before it is trained: how its gradients shrink, what states it reaches, how it entangles.

All of it is about random weights, uniform in [0, 2π): the circuit at initialization, as the literature measures it.
docs/diagnostics.md says how to read the figures. float64 throughout, on the CPU.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.circuit import Circuit, make_circuit
from hqcnn_lab.quantum.engine.evolve import states
from hqcnn_lab.quantum.limits import check_circuit
from hqcnn_lab.quantum.shots import FOUR_TERMS, NEED_FOUR, TWO_TERMS, separate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hqcnn_lab.quantum.module import CircuitModule

COSTS = ("local", "global")
BASES = ("z", "x", "y")
MAX_AMPLITUDES = 2**23  # held at once: 128 MiB; what is more is done in parts


@dataclass(frozen=True)
class GradientSpread:
    """The variance, over random weights and inputs, of a cost's derivative: to one weight, and its mean over all."""

    ansatz: str
    n_wires: int
    n_layers: int
    cost: str
    middle: float
    mean: float


def gradient_variance(
    ansatz: str = "hardware_efficient",
    wires: Iterable[int] = (2, 4, 6, 8),
    layers: Iterable[int] = (1, 2, 5, 10),
    n_samples: int = 100,
    readout: str = "z",
    cost: str = "local",
    seed: int = 0,
) -> list[GradientSpread]:
    """Scan for a barren plateau: the variance of a cost's gradient for every number of wires and layers.

    Use it before training a wide or deep circuit; on a plateau the variance falls exponentially with the wires (McClean
    et al. 2018). Not for a trained circuit: there small gradients mean success. Each sample has weights and Ry-encoded
    inputs of its own, all uniform in [0, 2π); 100 samples scatter by 10 to 20 %, on shallow global costs by far more.

    Args:
        readout: the basis, "z", "x" or "y", that the wires are read in.
        cost: "local": ⟨Z⟩ of the middle one of the wires that are read, neither the best nor the worst: behind one CNOT
            ring Z of wire m is a product over the wires up to m, and Z of wire 0 one over all the others. "global":
            2p − 1 with p the probability that every wire reads 0 (Cerezo et al. 2021), of eigenvalues ±1 like Z.

    `middle` is for the weight [(rows − 1) // 2, n_wires // 2, 0] (without the wire if the ansatz shares weights): the
    first angle of the middle wire in the middle layer. `mean` is over all weights, also those that the cost cannot see.

    Raises ValueError for another readout or cost, or a circuit that cannot be built.
    """
    if readout not in BASES:
        raise ValueError(f"readout must be one of {', '.join(BASES)}; got {readout!r}")
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {', '.join(COSTS)}; got {cost!r}")
    wires, layers = tuple(wires), tuple(layers)
    return [_gradient_spread(ansatz, n, depth, n_samples, readout, cost, seed) for n in wires for depth in layers]


def _gradient_spread(
    ansatz: str, n_wires: int, n_layers: int, n_samples: int, readout: str, cost: str, seed: int
) -> GradientSpread:
    check_circuit(n_wires, n_layers, ansatz, readout=readout)
    circuit = make_circuit(n_wires, n_layers, ansatz, readout=readout, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weights = _uniform_angles((n_samples, math.prod(circuit.weight_shape)), generator)
    inputs = _uniform_angles((n_samples, n_wires, 1), generator)
    observable = _observable(circuit, cost)
    gradients: list[Tensor] = []
    for some in _turns(n_samples, len(circuit.gates) * 2**n_wires):
        free = weights[some].requires_grad_()
        probabilities = states(inputs[some], free, circuit)[..., 0].abs().square()
        (gradient,) = torch.autograd.grad((probabilities @ observable).sum(), free)  # a row depends on its own only
        gradients.append(gradient)
    variances = torch.cat(gradients).var(0).reshape(circuit.weight_shape)
    row, *wire = ((size - 1) // 2 for size in circuit.weight_shape[:-1])
    middle = variances[(row, n_wires // 2, 0) if wire else (row, 0)]
    return GradientSpread(ansatz, n_wires, n_layers, cost, middle.item(), variances.mean().item())


def _observable(circuit: Circuit, cost: str) -> Tensor:
    """The cost's value on every basis state, [2ⁿ], once the circuit has turned the readout's basis into Z's."""
    bits = [_bit(wire, circuit.n_wires) for wire in circuit.measured]
    if cost == "local":
        return 1.0 - 2.0 * bits[len(bits) // 2].double()
    return 2.0 * (torch.stack(bits).sum(0) == 0).double() - 1.0


def _bit(wire: int, n_wires: int) -> Tensor:
    return torch.arange(2**n_wires) >> (n_wires - 1 - wire) & 1


def two_design_variance(n_wires: int, cost: str = "local") -> float:
    """What `middle` tends to in a deep circuit that reads all its wires: about 1/2ⁿ⁺¹ (local), 2/4ⁿ (global).

    Exact if the circuit before the weight's rotation and the circuit behind it are both unitary 2-designs (McClean et
    al. 2018, who give the asymptotic value): N²/(2(N² − 1)(N + 1)) with N = 2ⁿ, times Tr Ô²/N, where Ô is the
    traceless observable.
    """
    n = 2**n_wires
    norm = 1.0 if cost == "local" else 4 * (1 - 1 / n) / n
    return norm * n**2 / (2 * (n**2 - 1) * (n + 1))


def plot_gradient_variance(rows: Sequence[GradientSpread]) -> "Figure":
    """Variance against wires on a logarithmic scale, a line a depth, a panel for each ansatz and cost.

    Solid: the mean over all weights; dotted: the weight in the middle. Dashed: the plateau, `two_design_variance`. A
    variance of exactly zero has no place on the scale.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    ansatzes, costs = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("ansatz", "cost"))
    depths = sorted({row.n_layers for row in rows})
    n_wires = sorted({row.n_wires for row in rows})
    figure = Figure(figsize=(1.2 + 3.6 * len(ansatzes), 0.6 + 3.0 * len(costs)), layout="constrained")
    grid = figure.subplots(len(costs), len(ansatzes), sharex=True, sharey="row", squeeze=False)
    for panel, (cost, ansatz) in zip(grid.flat, ((c, a) for c in costs for a in ansatzes), strict=True):
        for depth, shade in zip(depths, np.linspace(0.85, 0.0, len(depths)), strict=True):
            line = [row for row in rows if (row.ansatz, row.cost, row.n_layers) == (ansatz, cost, depth)]
            line.sort(key=lambda row: row.n_wires)
            n = [row.n_wires for row in line]
            colour = cast("tuple[float, ...]", colormaps["viridis"](shade))
            name = f"{depth} layer{'s' if depth > 1 else ''}"
            panel.plot(n, [_positive(row.mean) for row in line], "o-", color=colour, ms=4, label=name)
            panel.plot(n, [_positive(row.middle) for row in line], ".:", color=colour, lw=1, ms=3)
        level = [two_design_variance(n, cost) for n in n_wires]
        guide = "∝ 1/2ⁿ" if cost == "local" else "∝ 1/4ⁿ"
        panel.plot(n_wires, level, "--", color="grey", lw=1, zorder=0, label=f"2-design, {guide}")
        panel.plot([], [], ".:", color="grey", lw=1, ms=3, label="dotted: the middle weight")
        panel.set(yscale="log", title=f"{ansatz}, {cost} cost", xticks=n_wires)
        panel.grid(alpha=0.25)
    for panel in grid[-1]:
        panel.set_xlabel("wires")
    for panel in grid[:, 0]:
        panel.set_ylabel("variance of the gradient")
        panel.legend(fontsize=7, loc="lower left")
    return figure


def _positive(value: float) -> float:
    return value if value > 1e-20 else math.nan  # rounding errors of an exact zero


def expressibility(
    ansatz: str, n_wires: int, n_layers: int, n_pairs: int = 2000, n_bins: int = 75, seed: int = 0
) -> float:
    """How far the states a circuit reaches are from all states: lower is more expressive (Sim et al. 2019, eq. 11).

    The Kullback–Leibler divergence, in nats, of the fidelities of pairs of states, each made from |0…0⟩ with random
    weights, from those of Haar-random states, P(F) = (N − 1)(1 − F)^(N − 2) with N = 2ⁿ; masses of the bins are exact.
    Compare only figures of the same n_pairs and n_bins, and with `expressibility_floor`: a few pairs look less
    expressive than they are. Not a promise of accuracy: expressive circuits have the flattest gradients.
    """
    circuit, weights = _random_weights(ansatz, n_wires, n_layers, 2 * n_pairs, seed)
    fidelities: list[Tensor] = []
    for some in _turns(n_pairs, 2 * 2**n_wires):
        first, second = (_states_from_zero(half[some], circuit) for half in weights.chunk(2))
        fidelities.append((first.conj() * second).sum(1).abs().square())
    counts, _ = np.histogram(torch.cat(fidelities).clamp(0, 1).numpy(), bins=n_bins, range=(0, 1))
    return _divergence(counts, n_wires)


def expressibility_floor(n_wires: int, n_pairs: int = 2000, n_bins: int = 75, seed: int = 0) -> float:
    """What `expressibility` would be on average if every state were Haar-random: not zero, for a finite sample."""
    masses = np.exp(_haar_log_masses(n_wires, n_bins))
    samples = np.random.default_rng(seed).multinomial(n_pairs, masses / masses.sum(), size=1000)
    return float(np.mean([_divergence(counts, n_wires) for counts in samples]))


def _divergence(counts: np.ndarray, n_wires: int) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(np.sum(share * (np.log(share) - _haar_log_masses(n_wires, len(counts))[counts > 0])))


def _haar_log_masses(n_wires: int, n_bins: int) -> np.ndarray:
    """log[(1 − a)^(N−1) − (1 − b)^(N−1)] of every bin [a, b). As logarithms, because the last at 8 wires is e^−1101."""
    power = 2**n_wires - 1
    left = np.arange(n_bins) / n_bins
    ratio = 1 - 1 / (n_bins * (1 - left))  # (1 − b)/(1 − a), zero in the last bin, up to rounding
    return power * np.log1p(-left) + np.log1p(-(np.clip(ratio, 0, 1) ** power))


def entangling_capability(ansatz: str, n_wires: int, n_layers: int, n_samples: int = 1000, seed: int = 0) -> float:
    """How much a circuit entangles on average: the mean Meyer–Wallach measure Q over random weights, from |0…0⟩.

    0 for products of one-wire states, 1 where every wire is maximally entangled with the rest, as in a GHZ state; Haar-
    random states have (2ⁿ − 2)/(2ⁿ + 1). Sim et al. 2019, eq. 17-20. It does not say which wires are entangled. Whether
    entanglement helps is a question for the `separable` twin of a model.
    """
    circuit, weights = _random_weights(ansatz, n_wires, n_layers, n_samples, seed)
    parts = [meyer_wallach(_states_from_zero(weights[some], circuit)) for some in _turns(n_samples, 2**n_wires)]
    return torch.cat(parts).mean().item()


def meyer_wallach(amplitudes: Tensor) -> Tensor:
    """Q = 2(1 − mean over wires of Tr ρᵢ²) of pure states, [C, 2ⁿ] → [C] (Brennen 2003; Meyer, Wallach 2002)."""
    n_wires = amplitudes.shape[1].bit_length() - 1
    probabilities = torch.view_as_real(amplitudes).square().sum(-1)
    purities: list[Tensor] = []
    for wire in range(n_wires):
        zero, one = torch.unflatten(amplitudes, 1, (2**wire, 2, -1)).unbind(2)
        coherence = torch.einsum("cab,cab->c", zero.conj(), one)
        p_zero, p_one = torch.unflatten(probabilities, 1, (2**wire, 2, -1)).sum((1, 3)).unbind(1)
        purities.append(p_zero.square() + p_one.square() + 2 * coherence.abs().square())
    return (2 * (1 - torch.stack(purities).mean(0))).clamp(0, 1)  # only rounding leaves this range


def _random_weights(ansatz: str, n_wires: int, n_layers: int, n: int, seed: int) -> tuple[Circuit, Tensor]:
    check_circuit(n_wires, n_layers, ansatz)
    circuit = make_circuit(n_wires, n_layers, ansatz, seed=seed)
    return circuit, _uniform_angles((n, math.prod(circuit.weight_shape)), torch.Generator().manual_seed(seed))


def _states_from_zero(weights: Tensor, circuit: Circuit) -> Tensor:
    """[C, W] → [C, 2ⁿ]: Ry encoding of zeros leaves |0…0⟩ as it is."""
    with torch.no_grad():
        return states(weights.new_zeros(len(weights), circuit.n_wires, 1), weights, circuit)[..., 0]


def _uniform_angles(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 * math.pi


def _turns(n: int, amplitudes_each: int) -> list[slice]:
    """Slices of range(n), all of it at once if memory allows."""
    step = max(1, MAX_AMPLITUDES // amplitudes_each)
    return [slice(start, start + step) for start in range(0, n, step)]


def parameter_shift_gradients(layer: "CircuitModule", angles: Tensor) -> Tensor:
    """The gradient of `layer(angles).sum()` with respect to its weights, without automatic differentiation.

    A check of a layer's backward pass, whatever its engine; shaped as `layer.weights`. Exact for exact expectations,
    and slow: to train with sampled ones there is `shots.parameter_shift`, whose rules these are. Every occurrence of a
    weight is shifted by itself, so that shared weights come out right.
    """
    apart, weight_of, _ = separate(layer.circuit)
    gates = (replace(gate, inputs=own.inputs) for gate, own in zip(apart.gates, layer.circuit.gates, strict=True))
    twin = copy.deepcopy(layer)
    twin.circuit = replace(apart, gates=tuple(gates))  # inputs are not shifted, so data gates keep theirs
    spread = layer.weights.detach().reshape(-1, math.prod(layer.circuit.weight_shape))
    gradient = torch.zeros_like(spread)
    spread = spread[:, list(weight_of)]
    with torch.no_grad():
        for index, gate in product(range(len(spread)), twin.circuit.gates):
            for slot, place in enumerate(gate.weights):
                for shift, coefficient in FOUR_TERMS if (gate.name, slot) in NEED_FOUR else TWO_TERMS:
                    twin.weights = nn.Parameter(spread.clone())
                    twin.weights[index, place] += shift
                    gradient[index, weight_of[place]] += coefficient * twin(angles).sum()
    return gradient.reshape(layer.weights.shape)
