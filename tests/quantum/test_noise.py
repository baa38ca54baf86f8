"""Noise against closed forms, a numpy simulation with Kraus operators, PennyLane, and trajectories against it."""

import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import ENCODERS, Circuit, make_circuit
from hqcnn_lab.quantum.engine import density
from hqcnn_lab.quantum.gate import CONTROLLED, ONE_WIRE, Gate
from hqcnn_lab.quantum.noise import MAX_DENSITY_WIRES, RATES, Noise, trajectory

ALL = Noise(0.07, 0.05, 0.11, 0.13, 0.04)
PAULI = Noise(0.2, 0.05, 0.1)

# The circuit by the book: 2ⁿ × 2ⁿ matrices, a sample at a time, sharing nothing with the package but the gates' names.

EYE, X, Y, Z = (
    np.array(m, dtype=complex) for m in ([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])
)
FIXED = {"x": X, "y": Y, "z": Z, "h": (X + Z) / math.sqrt(2), "sdg": np.diag([1, -1j])}


def one_wire(name: str, angles) -> np.ndarray:
    if name in FIXED:
        return FIXED[name]
    cos, sin = math.cos(angles[0] / 2), math.sin(angles[0] / 2)
    if name == "u3":
        _, phi, lam = angles
        return np.array([[cos, -np.exp(1j * lam) * sin], [np.exp(1j * phi) * sin, np.exp(1j * (phi + lam)) * cos]])
    return cos * EYE - 1j * sin * {"rx": X, "ry": Y, "rz": Z}[name]


def on_wires(matrices: dict[int, np.ndarray], n_wires: int) -> np.ndarray:
    whole = np.eye(1)
    for wire in range(n_wires):
        whole = np.kron(whole, matrices.get(wire, EYE))
    return whole


def unitary(gate: Gate, angles, n_wires: int) -> np.ndarray:
    if gate.name not in CONTROLLED:
        return on_wires({gate.wires[0]: one_wire(gate.name, angles)}, n_wires)
    control, target = gate.wires
    active = {control: np.diag([0, 1]), target: one_wire(CONTROLLED[gate.name], angles)}
    return on_wires({control: np.diag([1, 0])}, n_wires) + on_wires(active, n_wires)


@cache
def kraus(noise: Noise, wire: int, n_wires: int) -> list[np.ndarray]:
    """The operators of each channel, [k, 2ⁿ, 2ⁿ], in order."""
    p, b, f, g = noise.depolarizing, noise.bit_flip, noise.phase_flip, noise.amplitude_damping
    channels = [
        [math.sqrt(1 - p) * EYE, *(math.sqrt(p / 3) * pauli for pauli in (X, Y, Z))],
        [math.sqrt(1 - b) * EYE, math.sqrt(b) * X],
        [math.sqrt(1 - f) * EYE, math.sqrt(f) * Z],
        [np.diag([1, math.sqrt(1 - g)]), math.sqrt(g) * np.array([[0, 1], [0, 0]])],
    ]
    return [np.stack([on_wires({wire: operator}, n_wires) for operator in channel]) for channel in channels]


def state(inputs: torch.Tensor, weights: torch.Tensor, circuit: Circuit, noise: Noise) -> np.ndarray:
    """ρ after all gates, of one sample."""
    n, inputs, weights = circuit.n_wires, inputs.tolist(), weights.tolist()
    psi = np.eye(2**n)[0] if circuit.encoder != "amplitude" else np.array(inputs)
    rho = np.outer(psi, psi).astype(complex)
    for gate in (*circuit.encoding, *circuit.gates):
        u = unitary(gate, [inputs[i] for i in gate.inputs] or [weights[i] for i in gate.weights], n)
        rho = u @ rho @ u.conj().T
        for wire in gate.wires:
            for operators in kraus(noise, wire, n):
                rho = (operators @ rho @ operators.conj().transpose(0, 2, 1)).sum(0)
    return rho


def read(rho: np.ndarray, circuit: Circuit, noise: Noise) -> np.ndarray:
    p = noise.readout_error
    misread = on_wires({wire: np.array([[1 - p, p], [p, 1 - p]]) for wire in range(circuit.n_wires)}, circuit.n_wires)
    seen = (misread @ np.diag(rho).real).reshape([2] * circuit.n_wires)
    if circuit.readout == "probabilities":
        return seen.sum(tuple(set(range(circuit.n_wires)) - set(circuit.measured))).ravel()
    strings = [(w,) for w in circuit.measured]
    if circuit.readout == "zz":
        strings = [(a, b) for a in circuit.measured for b in circuit.measured if a < b]
    signs = [on_wires(dict.fromkeys(string, Z), circuit.n_wires).diagonal().real for string in strings]
    return np.array([sign @ seen.ravel() for sign in signs])


def random_case(circuit: Circuit, n_circuits: int = 1, batch: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n_circuits, circuit.n_inputs, batch, generator=generator, dtype=torch.float64)
    if circuit.encoder == "amplitude":
        inputs /= inputs.norm(dim=1, keepdim=True)
    size = math.prod(circuit.weight_shape)
    return inputs, torch.randn(n_circuits, size, generator=generator, dtype=torch.float64)


def bare(n_wires: int, encoder: str, *gates: Gate, readout: str = "z", measured=None, n_weights: int = 0) -> Circuit:
    return Circuit(n_wires, encoder, gates, readout, measured or tuple(range(n_wires)), (n_weights,))


def values_of(circuit: Circuit, noise: Noise, *inputs: float) -> list[float]:
    angles = torch.tensor(inputs, dtype=torch.float64)[None, :, None].expand(-1, -1, 4)
    return density.expectations(angles, angles.new_empty(1, 0), circuit, noise)[0, :, 0].tolist()


P, x, y = 0.1, 0.7, -1.1
CNOT = Gate("cnot", (0, 1))


@pytest.mark.parametrize(
    ("encoder", "noise", "expected"),
    [
        ("angle_y", Noise(depolarizing=P), (1 - 4 * P / 3) * math.cos(x)),
        ("angle_y", Noise(bit_flip=P), (1 - 2 * P) * math.cos(x)),
        ("angle_y", Noise(phase_flip=P), math.cos(x)),
        ("angle_y", Noise(amplitude_damping=P), P + (1 - P) * math.cos(x)),
        ("angle_y", Noise(readout_error=P), (1 - 2 * P) * math.cos(x)),
        ("angle_x", Noise(0.03, P, 0.5, 0.2, 0.1), 0.8 * (0.2 + 0.8 * (1 - 2 * P) * 0.96 * math.cos(x))),
        ("angle_z", Noise(amplitude_damping=P), P + (1 - P) * P),
    ],
)
def test_one_wire_in_closed_form(encoder, noise, expected):
    assert values_of(bare(1, encoder), noise, x) == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    ("noise", "shrink"),
    [
        (Noise(phase_flip=P), (1 - 2 * P) ** 2),  # after H, and after Rz; after the readout's H it cannot be seen
        (Noise(bit_flip=P), 1 - 2 * P),  # the other way round
        (Noise(depolarizing=P), (1 - 4 * P / 3) ** 3),
        (Noise(amplitude_damping=P), None),
    ],
)
def test_x_of_a_phase_in_closed_form(noise, shrink):
    expected = shrink * math.cos(x) if shrink else P + (1 - P) * (1 - P) * math.cos(x)
    assert values_of(bare(1, "angle_z", Gate("h", (0,)), readout="x"), noise, x) == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    ("noise", "channel"),
    [
        (Noise(depolarizing=P), lambda z, k: (1 - 4 * P / 3) ** k * z),
        (Noise(bit_flip=P), lambda z, k: (1 - 2 * P) ** k * z),
        (Noise(phase_flip=P), lambda z, k: z),
    ],
)
def test_cnot_in_closed_form(noise, channel):
    z0, z1 = channel(math.cos(x), 1), channel(math.cos(y), 1)
    assert values_of(bare(2, "angle_y", CNOT), noise, x, y) == pytest.approx([channel(z0, 1), channel(z0 * z1, 1)])
    # Z₀Z₁ before is Z₁ after: the product of both after is Z₁ before, struck twice
    assert values_of(bare(2, "angle_y", CNOT, readout="zz"), noise, x, y) == pytest.approx([channel(z1, 2)])


def test_cnot_and_damping_in_closed_form():
    z0, z1 = P + (1 - P) * math.cos(x), P + (1 - P) * math.cos(y)
    noise = Noise(amplitude_damping=P)
    after = [P + (1 - P) * z0, P + (1 - P) * z0 * z1]
    assert values_of(bare(2, "angle_y", CNOT), noise, x, y) == pytest.approx(after, abs=1e-15)
    both = P * P + P * (1 - P) * (z0 + z0 * z1) + (1 - P) ** 2 * z1
    assert values_of(bare(2, "angle_y", CNOT, readout="zz"), noise, x, y) == pytest.approx([both], abs=1e-15)


def test_readout_error_in_closed_form():
    p = Noise(readout_error=P)
    a, b = (1 + math.cos(x)) / 2, (1 + math.cos(y)) / 2
    a, b = (1 - P) * a + P * (1 - a), (1 - P) * b + P * (1 - b)
    joint = [a * b, a * (1 - b), (1 - a) * b, (1 - a) * (1 - b)]
    assert values_of(bare(2, "angle_y", readout="probabilities"), p, x, y) == pytest.approx(joint, abs=1e-15)
    zz = (1 - 2 * P) ** 2 * math.cos(x) * math.cos(y)
    assert values_of(bare(2, "angle_y", readout="zz"), p, x, y) == pytest.approx([zz], abs=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("ansatz", list(ANSATZES))
def test_density_is_the_kraus_simulation(ansatz, encoder):
    for basis, readouts in {"z": ("z", "zz", "probabilities"), "x": ("x",), "y": ("y",)}.items():
        layers = 1 if ansatz in ("pooling", "qcnn") else 2  # of three wires two are left to be read
        circuit = make_circuit(3, layers, ansatz, encoder, basis)
        inputs, weights = random_case(circuit, n_circuits=2)
        noisy, clean = (
            [state(inputs[i, :, i], weights[i], circuit, noise) for i in range(2)] for noise in (ALL, Noise())
        )
        for readout in readouts:
            one = replace(circuit, readout=readout)
            for noise, states in ((ALL, noisy), (Noise(), clean)):
                # a batch of two goes forwards through the gates, a larger one backwards where it can
                for repeats in (1, 5):
                    values = density.expectations(inputs.repeat(1, 1, repeats), weights, one, noise)
                    for i, rho in enumerate(states):
                        assert np.abs(values[i, :, i].numpy() - read(rho, one, noise)).max() <= 1e-12
        assert max(np.abs(a - b).max() for a, b in zip(noisy, clean, strict=True)) > 0.05


@pytest.mark.parametrize("ansatz", ["hardware_efficient", "u3_cu3", "pooling"])
@pytest.mark.parametrize("encoder", ["angle_z", "reuploading", "amplitude"])
def test_density_is_pennylanes(ansatz, encoder):
    qml = pytest.importorskip("pennylane")
    circuit = make_circuit(4, 2, ansatz, encoder, "probabilities")
    inputs, weights = random_case(circuit)
    names = {"rx": "RX", "ry": "RY", "rz": "RZ", "u3": "U3", "h": "Hadamard", "x": "PauliX", "cnot": "CNOT"}
    names |= {"crx": "CRX", "crz": "CRZ"}
    channels = {"DepolarizingChannel": "depolarizing", "BitFlip": "bit_flip", "PhaseFlip": "phase_flip"}
    channels |= {"AmplitudeDamping": "amplitude_damping"}

    @qml.qnode(qml.device("default.mixed", wires=4))
    def run(sample):
        if encoder == "amplitude":
            qml.StatePrep(sample, wires=range(4))
        for gate in (*circuit.encoding, *circuit.gates):
            angles = [sample[i] for i in gate.inputs] + [weights[0, i].item() for i in gate.weights]
            if gate.name == "cu3":
                qml.ctrl(qml.U3(*angles, wires=gate.wires[1]), control=gate.wires[0])
            else:
                getattr(qml, names[gate.name])(*angles, wires=gate.wires)
            for wire in gate.wires:
                for channel, rate in channels.items():
                    getattr(qml, channel)(getattr(ALL, rate), wires=wire)
        for wire in circuit.measured:
            qml.BitFlip(ALL.readout_error, wires=wire)
        return qml.probs(wires=circuit.measured)

    values = density.expectations(inputs, weights, circuit, ALL)[0].T.numpy()
    expected = np.array([run(sample) for sample in inputs[0].T.numpy()])
    assert (
        np.abs(values - expected).max() <= 1e-11
    )  # PennyLane adds 1e-14 under the root of each channel's first operator


@st.composite
def gate_lists(draw):
    """Any circuit of one to three wires from every gate there is, any noise, a data gate on any axis among them."""
    n_wires = draw(st.integers(1, 3))
    gates, n_weights = [], 0
    names = [*ONE_WIRE, "data_rx", "data_ry", "data_rz", *(CONTROLLED if n_wires > 1 else ())]
    for name in draw(st.lists(st.sampled_from(names), max_size=8)):
        wires = tuple(draw(st.permutations(range(n_wires)))[: 2 if name in CONTROLLED else 1])
        if name.startswith("data_"):
            gates.append(Gate(name[5:], wires, inputs=(draw(st.integers(0, n_wires - 1)),)))
            continue
        k = ONE_WIRE[CONTROLLED.get(name, name)]
        gates.append(Gate(name, wires, weights=tuple(range(n_weights, n_weights + k))))
        n_weights += k
    encoder = draw(st.sampled_from(["angle_x", "angle_y", "angle_z", "amplitude"]))
    if encoder == "amplitude":
        gates = [gate for gate in gates if not gate.inputs]
    circuit = bare(n_wires, encoder, *gates, readout="probabilities", n_weights=n_weights)
    rate = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))
    noise = Noise(*draw(st.tuples(*[rate] * len(RATES))))
    return circuit, noise, draw(st.integers(0, 2**31))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(gate_lists())
def test_states_are_states_and_those_of_the_kraus_simulation(case):
    circuit, noise, seed = case
    inputs, weights = random_case(circuit, n_circuits=2, batch=1, seed=seed)
    matrices = density.density_matrix(inputs, weights, circuit, noise)
    assert matrices.shape == (2, 1, 2**circuit.n_wires, 2**circuit.n_wires)
    for c in range(2):
        rho = matrices[c, 0].numpy()
        assert abs(np.trace(rho) - 1) <= 1e-12
        assert np.abs(rho - rho.conj().T).max() <= 1e-12
        assert np.linalg.eigvalsh(rho).min() >= -1e-12
        expected = state(inputs[c, :, 0], weights[c], circuit, noise)
        assert np.abs(rho - expected).max() <= 1e-12
        probabilities = density.expectations(inputs, weights, circuit, noise)[c, :, 0].numpy()
        assert np.abs(probabilities - read(expected, circuit, noise)).max() <= 1e-12


@pytest.mark.parametrize("batch", [1, 5])  # forwards, backwards
@pytest.mark.parametrize(
    ("ansatz", "encoder", "readout"),
    [
        ("hardware_efficient", "angle_y", "z"),
        ("strongly_entangling", "angle_z", "x"),
        ("u3_cu3", "angle_x", "y"),
        ("pooling", "angle_y", "probabilities"),
        ("efficient_su2", "reuploading", "zz"),
        ("real_amplitudes", "amplitude", "probabilities"),
    ],
)
def test_gradcheck(ansatz, encoder, readout, batch):
    circuit = make_circuit(2, 1 if ansatz == "pooling" else 2, ansatz, encoder, readout)
    angles, weights = random_case(circuit, n_circuits=2, batch=batch)
    run = lambda angles, weights: density.expectations(angles, weights, circuit, ALL)  # noqa: E731
    assert torch.autograd.gradcheck(run, (angles.requires_grad_(), weights.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("encoder", ["angle_y", "reuploading", "amplitude"])
def test_chunks_change_nothing(encoder, monkeypatch):
    circuit = make_circuit(3, 2, "hardware_efficient", encoder, "z")
    results = []
    for chunk in (density.CHUNK, 2 * 2 * 4**3):  # the second: two columns at a time
        monkeypatch.setattr(density, "CHUNK", chunk)
        angles, weights = (t.requires_grad_() for t in random_case(circuit, n_circuits=2, batch=7))
        values = density.expectations(angles, weights, circuit, ALL)
        results.append((values.detach(), *torch.autograd.grad(values.cos().sum(), (angles, weights))))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked, atol=1e-13, rtol=0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_float32_stays_float32_and_an_empty_batch_is_one(encoder):
    circuit = make_circuit(3, 2, "u3_cu3", encoder, "probabilities")
    angles, weights = random_case(circuit, batch=10)
    values = density.expectations(angles.float(), weights.float(), circuit, ALL)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), density.expectations(angles, weights, circuit, ALL), atol=1e-6, rtol=0)
    assert density.expectations(angles[:, :, :0], weights, circuit, ALL).shape == (1, 8, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("circuit", "noise", "grids"),
    [
        (bare(1, "angle_y", readout="z"), Noise(0.3, 0.25, 0.5), (10, 4, 2)),
        (bare(1, "angle_x", Gate("sdg", (0,)), Gate("h", (0,)), readout="y"), Noise(0.3), (10, 1, 1)),
        (bare(1, "angle_z", Gate("h", (0,)), readout="x"), Noise(0.3), (10, 1, 1)),
        (bare(1, "angle_z", Gate("h", (0,)), readout="x"), Noise(bit_flip=0.25), (1, 4, 1)),
        (bare(1, "angle_z", Gate("h", (0,)), readout="x"), Noise(phase_flip=0.25), (1, 1, 4)),
        (bare(2, "amplitude", CNOT, Gate("h", (0,))), Noise(0.3), (10, 1, 1)),
    ],
)
def test_all_trajectories_weighed_by_their_probability_are_the_noisy_circuit(circuit, noise, grids):
    # Rates are multiples of a grid's step, so its midpoints stand for the interval from 0 to 1 without error.
    struck = sum(len(gate.wires) for gate in (*circuit.encoding, *circuit.gates))
    midpoints = [[(i + 0.5) / size for i in range(size)] for size in grids]
    angles, weights = random_case(circuit, batch=4)
    total, n = 0, 0
    for draws in product(*midpoints * struck):
        one = trajectory(circuit, noise, iter(draws).__next__)
        total, n = total + density.expectations(angles, weights, one, Noise()), n + 1
    assert n == math.prod(grids) ** struck
    expected = density.expectations(angles, weights, circuit, noise)
    torch.testing.assert_close(total / n, expected, atol=1e-12, rtol=0)
    assert (density.expectations(angles, weights, circuit, Noise()) - expected).abs().max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["angle_y", "angle_z", "reuploading"])
def test_trajectories_average_to_density_in_values_and_gradients(encoder):
    circuit = make_circuit(2, 2, "hardware_efficient", encoder, "z")
    uniform = random.Random(0).random

    def results(circuit, noise):
        angles, weights = (
            t.requires_grad_() for t in random_case(make_circuit(2, 2, encoder=encoder), batch=3, seed=1)
        )
        values = density.expectations(angles, weights, circuit, noise)
        gradients = torch.autograd.grad(values.sum(), (angles, weights))
        return torch.cat([t.detach().flatten() for t in (values, *gradients)])

    n = 300
    outputs = torch.stack([results(trajectory(circuit, PAULI, uniform), Noise()) for _ in range(n)])
    error, exact = outputs.std(0) / math.sqrt(n), results(circuit, PAULI)
    distance = (outputs.mean(0) - exact).abs()
    assert (distance <= 5 * error + 1e-12).all()
    noiseless = (outputs.mean(0) - results(circuit, Noise())).abs()
    assert (noiseless > 10 * error).sum() > 5  # the bound could fail
    assert trajectory(circuit, PAULI, random.Random(3).random) == trajectory(circuit, PAULI, random.Random(3).random)


def test_a_trajectory_without_noise_is_the_circuit_and_with_certain_errors_has_one_after_each_gate():
    circuit = bare(2, "angle_y", CNOT, Gate("ry", (0,), weights=(0,)), n_weights=1)
    assert trajectory(circuit, Noise(readout_error=0.3), random.random) == circuit
    names = [gate.name for gate in trajectory(circuit, Noise(bit_flip=1), random.random).gates]
    assert names == ["x", "x", "cnot", "x", "x", "ry", "x"]
    names = [gate.name for gate in trajectory(circuit, Noise(bit_flip=1, phase_flip=1), random.random).gates]
    assert names == ["y", "y", "cnot", "y", "y", "ry", "y"]


def test_methods_are_chosen_and_refused_in_one_line():
    few, many = MAX_DENSITY_WIRES, MAX_DENSITY_WIRES + 1
    assert [Noise(0.1).choose_method(n) for n in (few, many)] == ["density", "trajectories"]
    assert Noise(0.1, method="trajectories").choose_method(2) == "trajectories"
    assert Noise(amplitude_damping=0.1).choose_method(few) == "density"
    damped = Noise(amplitude_damping=0.1, method="trajectories")
    for refuse in (
        lambda: damped.choose_method(2),
        lambda: trajectory(make_circuit(2, 1), damped, random.random),
    ):
        with pytest.raises(ValueError, match=f"method='density'.* {MAX_DENSITY_WIRES} wires$"):
            refuse()
    with pytest.raises(ValueError, match=f"^{many} wires, .* at most {few} wires: lower .* amplitude_damping=0$"):
        Noise(amplitude_damping=0.1).choose_method(many)
    with pytest.raises(ValueError, match=r"use method='trajectories'$"):
        Noise(0.1, method="density").choose_method(many)


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), "0.1", True, None])
def test_a_rate_is_a_probability(name, value):
    with pytest.raises(ValueError, match=re.escape(f"noise.{name} must be between 0 and 1, got {value!r}")):
        Noise(**{name: value})


def test_arguments_are_checked_and_nothing_is_nothing():
    assert Noise().is_zero
    assert Noise(method="density", n_trajectories=1).is_zero
    assert not any(Noise(**{name: 1e-9}).is_zero for name in RATES)
    with pytest.raises(ValueError, match=r"noise\.method must be one of auto, density, trajectories; got 'exact'"):
        Noise(method="exact")
    for value in (0, 1.5, True):
        with pytest.raises(ValueError, match=r"noise\.n_trajectories must be (a whole number, )?at least 1"):
            Noise(n_trajectories=value)


def test_noise_needs_no_torch():
    code = "import sys, hqcnn_lab.quantum.noise; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
