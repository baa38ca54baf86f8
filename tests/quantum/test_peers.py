"""Our engines against PennyLane's templates in float64: same weights, same order, values and gradients."""

import numpy as np
import pytest
import torch

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import READOUTS, Circuit, make_circuit
from hqcnn_lab.quantum.engine import folded, statevector, trig

qml = pytest.importorskip("pennylane")

ENGINES = {"folded": folded, "trig": trig, "statevector": statevector}
ENCODERS = ["angle_y", "angle_x", "angle_z", "amplitude"]
N_WIRES, N_LAYERS, BATCH, SEED = 3, 2, 4, 11


def embed(encoder: str, inputs: torch.Tensor, wires: range) -> None:
    if encoder == "amplitude":
        qml.AmplitudeEmbedding(inputs, wires, normalize=False)
    elif encoder == "angle_z":
        for wire in wires:
            qml.Hadamard(wire)
        qml.AngleEmbedding(inputs, wires, rotation="Z")
    else:
        qml.AngleEmbedding(inputs, wires, rotation=encoder[-1].upper())


def layers(ansatz: str, weights: torch.Tensor, wires: range) -> None:
    if ansatz == "basic_entangler":
        qml.BasicEntanglerLayers(weights[..., 0], wires, rotation=qml.RX)
    elif ansatz == "strongly_entangling":
        qml.StronglyEntanglingLayers(weights, wires)
    else:
        qml.RandomLayers(weights[..., 0], wires, seed=SEED)


def measurements(readout: str, wires: range) -> list:
    if readout == "probabilities":
        return [qml.probs(wires)]
    if readout == "zz":
        return [qml.expval(qml.Z(i) @ qml.Z(j)) for i in wires for j in wires if i < j]
    pauli = {"x": qml.X, "y": qml.Y, "z": qml.Z}[readout]
    return [qml.expval(pauli(i)) for i in wires]


def pennylane(circuit: Circuit, ansatz: str, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[B, n_inputs] inputs, weights in their shape → [B, K]."""
    wires = range(circuit.n_wires)

    @qml.qnode(qml.device("default.qubit"), interface="torch", diff_method="backprop")
    def run():
        embed(circuit.encoder, inputs, wires)
        layers(ansatz, weights, wires)
        return measurements(circuit.readout, wires)

    values = run()
    return values[0] if circuit.readout == "probabilities" else torch.stack(tuple(values), dim=-1)


def draw(circuit: Circuit) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    inputs = torch.as_tensor(rng.normal(0, 1.5, (BATCH, circuit.n_inputs)))
    if circuit.encoder == "amplitude":
        inputs = inputs / inputs.norm(dim=1, keepdim=True)
    return inputs, torch.as_tensor(rng.normal(0, 1.5, circuit.weight_shape))


def with_gradients(run, inputs: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    inputs, weights = inputs.clone().requires_grad_(), weights.clone().requires_grad_()
    values = run(inputs, weights)
    upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [values.detach(), *torch.autograd.grad(values, (inputs, weights), upstream)]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("ansatz", ["basic_entangler", "strongly_entangling", "random"])
def test_pennylane_gives_the_same_values_and_gradients(ansatz, encoder):
    for n_wires, readouts in ((N_WIRES, READOUTS), (2, ["x"]), (1, ["y"])):
        for readout in readouts:
            circuit = make_circuit(n_wires, N_LAYERS, ansatz, encoder, readout, seed=SEED)
            inputs, weights = draw(circuit)
            expected = with_gradients(lambda x, w, c=circuit: pennylane(c, ansatz, x, w), inputs, weights)
            for name, engine in ENGINES.items():
                if name == "trig" and encoder == "amplitude":
                    continue

                def ours(x, w, engine=engine, circuit=circuit):
                    return engine.expectations(x.t()[None].contiguous(), w.reshape(1, -1), circuit)[0].t()

                values, d_inputs, d_weights = with_gradients(ours, inputs, weights)
                assert (values - expected[0]).abs().max() <= 1e-12, (name, n_wires, readout)
                assert (d_inputs - expected[1]).abs().max() <= 1e-10, (name, n_wires, readout)
                assert (d_weights - expected[2]).abs().max() <= 1e-10, (name, n_wires, readout)


@pytest.mark.parametrize("n_wires", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_random_layers_are_pennylanes_gate_for_gate(n_wires, seed):
    weights = np.arange(3.0 * n_wires).reshape(3, n_wires)  # each angle is its own index
    operation = qml.RandomLayers(weights, range(n_wires), seed=seed)
    theirs = [(gate.name.lower(), tuple(gate.wires), tuple(gate.parameters)) for gate in operation.decomposition()]
    layers = ANSATZES["random"].layers(n_wires, 3, seed)
    ours = [(gate.name, gate.wires, gate.weights) for layer in layers for gate in layer]
    assert ours == theirs
