"""The Fubini-Study metric against closed forms, infidelities of an independent state vector, and PennyLane."""

import math
from collections import Counter

import numpy as np
import pytest
import state_vector
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import ENCODERS, Circuit, make_circuit
from hqcnn_lab.quantum.gate import Gate
from hqcnn_lab.quantum.metric import fubini_study, layer_metric


def draw(circuit: Circuit, n_circuits: int = 1, batch: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    angles = torch.as_tensor(rng.normal(0, 1.5, (n_circuits, circuit.n_inputs, batch)))
    if circuit.encoder == "amplitude":
        angles = angles / angles.norm(dim=1, keepdim=True)
    return angles, torch.as_tensor(rng.normal(0, 1.5, (n_circuits, math.prod(circuit.weight_shape))))


def test_one_turn_moves_the_state_by_a_quarter():
    circuit = Circuit(1, "angle_y", (Gate("ry", (0,), weights=(0,)),), "z", (0,), (1, 1, 1))
    angles, weights = draw(circuit, n_circuits=3, batch=2)
    assert torch.allclose(fubini_study(angles, weights, circuit), torch.full((3, 1, 1, 1), 0.25).double())


def test_a_product_state_by_its_closed_form():
    # Ry(θ) then Rz(φ) on Ry(x)|0⟩: F = diag(1, sin²(x + θ))/4 on each wire, nothing between wires.
    circuit = make_circuit(3, 1, "separable")
    angles, weights = draw(circuit, batch=4)
    theta = weights.reshape(3, 2)[:, 0]
    expected = np.zeros((6, 6))
    for wire in range(3):
        expected[2 * wire, 2 * wire] = 0.25
        expected[2 * wire + 1, 2 * wire + 1] = (angles[0, wire] + theta[wire]).sin().square().mean() / 4
    np.testing.assert_allclose(fubini_study(angles, weights, circuit)[0, 0], expected, atol=1e-12)


def infidelity_metric(circuit: Circuit, angles: np.ndarray, weights: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """The matrix F [W, W] in 1 − |⟨ψ(θ)|ψ(θ + e)⟩|² ≈ eᵀFe, from symmetric differences, averaged over samples."""
    base = state_vector.final_states(circuit, angles, weights)

    def infidelity(e: np.ndarray) -> float:
        values = []
        for sign in (1, -1):
            moved = state_vector.final_states(circuit, angles, weights + sign * e)
            values.append(1 - np.abs((base.conj() * moved).sum(1)) ** 2)
        return float(np.mean(values))

    eye = step * np.eye(len(weights))
    single = np.array([infidelity(e) for e in eye])
    both = np.array([[infidelity(a + b) for b in eye] for a in eye])
    metric = (both - single[:, None] - single[None]) / 2 / step**2
    np.fill_diagonal(metric, single / step**2)
    return metric


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ansatz", "encoder"),
    [*((ansatz, "angle_y") for ansatz in ANSATZES), *(("hardware_efficient", encoder) for encoder in ENCODERS[1:])],
)
def test_infidelity_is_the_metric(ansatz, encoder):
    circuit = make_circuit(2, 2 if ansatz not in ("pooling", "qcnn") else 1, ansatz, encoder)
    angles, weights = draw(circuit, batch=2)
    expected = infidelity_metric(circuit, angles[0].T.numpy(), weights[0].numpy())
    blocks = fubini_study(angles, weights, circuit)[0]
    size = blocks.shape[-1]
    assert blocks.shape[0] * size == weights.shape[1]
    for row, block in enumerate(blocks):
        part = slice(row * size, (row + 1) * size)
        np.testing.assert_allclose(block, expected[part, part], atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    ansatz=st.sampled_from(sorted(ANSATZES)),
    encoder=st.sampled_from(ENCODERS),
    n_wires=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_metric_is_symmetric_positive_semidefinite_and_bounded(ansatz, encoder, n_wires, seed):
    circuit = make_circuit(max(n_wires, 2) if ansatz in ("pooling", "qcnn") else n_wires, 1, ansatz, encoder)
    angles, weights = draw(circuit, n_circuits=2, batch=3, seed=seed)
    metric = fubini_study(angles, weights, circuit)
    assert torch.allclose(metric, metric.mT, atol=1e-12)
    assert torch.linalg.eigvalsh(metric).min() > -1e-12
    # A generator's variance is at most a quarter of its range squared; that of a weight used k times is a sum of k.
    most = max(Counter(i for gate in circuit.gates for i in gate.weights).values())
    assert metric.diagonal(dim1=-2, dim2=-1).max() < most**2 / 4 + 1e-12


def test_circuits_and_samples_do_not_mix(monkeypatch):
    circuit = make_circuit(3, 2, "strongly_entangling", "reuploading")
    angles, weights = draw(circuit, n_circuits=2, batch=3)
    together = fubini_study(angles, weights, circuit)
    for c in range(2):
        alone = [fubini_study(angles[c : c + 1, :, b : b + 1], weights[c : c + 1], circuit) for b in range(3)]
        assert torch.allclose(together[c], torch.stack(alone).mean(0)[0], atol=1e-14)
    monkeypatch.setattr("hqcnn_lab.quantum.metric.CHUNK", 1)
    assert torch.allclose(fubini_study(angles, weights, circuit), together, atol=1e-14)
    assert torch.equal(fubini_study(angles[..., :0], weights, circuit), torch.zeros_like(together))


@pytest.mark.parametrize("encoder", ["angle_y", "amplitude"])
def test_a_convolution_is_measured_on_patches_taken_evenly(encoder):
    torch.manual_seed(0)
    layer = QuantumConv2d(4, groups=2, kernel_size=1, stride=1, encoder=encoder, shots=3).double()
    images = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    patches = images.permute(1, 0, 2, 3).reshape(2, 2, 20)[:, :, [0, 5, 10, 15]]
    if encoder == "amplitude":
        patches = patches / patches.norm(dim=1, keepdim=True)
    expected = fubini_study(patches, layer.weights.detach().reshape(2, -1), layer.circuit)
    before = torch.get_rng_state()
    assert torch.equal(layer_metric(layer, images, max_samples=4), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_measured_in_float32():
    layer = QuantumLayer(2, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metric = layer_metric(layer, torch.zeros(3, 2, dtype=torch.bfloat16))
    assert metric.dtype == torch.float32
    assert torch.allclose(metric, layer_metric(layer, torch.zeros(3, 2)))


def test_pennylane_gives_the_same_blocks():
    qml = pytest.importorskip("pennylane")
    for ansatz, template in (("basic_entangler", qml.BasicEntanglerLayers), ("strongly_entangling", None)):
        circuit = make_circuit(3, 2, ansatz)
        angles, weights = draw(circuit)

        @qml.qnode(qml.device("default.qubit", wires=4))
        def run(values, angles=angles, template=template):
            qml.AngleEmbedding(angles[0, :, 0].numpy(), range(3), rotation="Y")
            if template:
                template(values.reshape(2, 3), range(3), rotation=qml.RX)
            else:
                qml.StronglyEntanglingLayers(values.reshape(2, 3, 3), range(3))
            return qml.expval(qml.Z(0))

        values = qml.numpy.array(weights[0].numpy(), requires_grad=True)
        theirs = np.asarray(qml.metric_tensor(run, approx="block-diag" if template else None)(values))
        theirs = theirs.reshape(len(values), len(values))
        blocks = fubini_study(angles, weights, circuit)[0]
        size = blocks.shape[-1]
        for row, block in enumerate(blocks):
            part = slice(row * size, (row + 1) * size)
            np.testing.assert_allclose(block, theirs[part, part], atol=1e-9)
