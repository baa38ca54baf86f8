"""The quantum comparison networks: shapes, gradients, frozen circuits, twins; circuits by an independent simulator."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hqcnn_lab.models.classical_kernel import ClassicalKernel2d
from hqcnn_lab.models.hqcnn import HQCNN
from hqcnn_lab.models.hqcnn_dense import HQCNNDense
from hqcnn_lab.models.hqcnn_separable import SeparableHQCNN
from hqcnn_lab.models.qcnn import QCNN
from hqcnn_lab.models.quanvolution import Quanvolution
from hqcnn_lab.optim import parameter_groups
from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer

FOUR_WIRES = {"n_wires": 4, "n_layers": 2}
THUMBNAIL = {"n_wires": 8, "n_layers": 2, "ansatz": "qcnn", "encoder": "amplitude", "readout": "probabilities"}


def hqcnn(size: int = 32, kernel: str = "quantum", **circuit: object) -> HQCNN:
    return HQCNN(4, size, FOUR_WIRES | circuit, kernel, widths=[8, 8, 8], n_circuits=3)


def dense(size: int = 32, kernel: str = "quantum", **circuit: object) -> HQCNNDense:
    return HQCNNDense(4, size, FOUR_WIRES | circuit, kernel, widths=[8, 8, 8])


def separable(size: int = 32, kernel: str = "quantum", **circuit: object) -> SeparableHQCNN:
    return SeparableHQCNN(4, size, FOUR_WIRES | circuit, kernel, widths=[8, 16, 16])


def quanvolution(size: int = 32, **circuit: object) -> Quanvolution:
    return Quanvolution(4, size, FOUR_WIRES | circuit, n_filters=3, widths=[8, 16])


def qcnn(size: int = 32, **circuit: object) -> QCNN:
    return QCNN(4, size, THUMBNAIL | circuit)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "dense": dense,
    "dense twin": partial(dense, kernel="classical"),
    "dense frozen": partial(dense, kernel="frozen"),
    "separable": separable,
    "separable twin": partial(separable, kernel="classical"),
    "separable frozen": partial(separable, kernel="frozen"),
    "hqcnn frozen": partial(hqcnn, kernel="frozen"),
    "quanvolution": quanvolution,
    "qcnn": qcnn,
}
FROZEN = ["quanvolution", "hqcnn frozen", "dense frozen", "separable frozen"]
WITH_TWIN = [hqcnn, dense, separable]


def n_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def circuit_of(network: nn.Module) -> QuantumLayer | QuantumConv2d:
    [circuit] = [part for part in network.modules() if isinstance(part, QuantumLayer | QuantumConv2d)]
    return circuit


def step(network: nn.Module) -> None:
    """One optimizer step on a loss of random images."""
    optimizer = torch.optim.SGD(parameter_groups(network, lr=0.1))
    images, labels = torch.rand(8, 1, 32, 32), torch.arange(8) % 4
    nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_finite_and_see_the_image(name: str, size: int) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](size).eval()
    images = torch.stack([torch.zeros(1, size, size), torch.rand(1, size, size), torch.rand(1, size, size) ** 4])
    logits = network(images)
    assert logits.shape == (3, 4)
    assert logits.isfinite().all()
    assert all((logits[i] - logits[j]).abs().max() > 1e-5 for i, j in ((0, 1), (1, 2), (0, 2)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_trainable_parameter_and_no_frozen_one_moves(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    step(network)
    frozen = set()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.abs().sum() > 0, key
            assert not torch.equal(parameter, before[key]), key
        else:
            assert parameter.grad is None, key
            assert torch.equal(parameter, before[key]), key
            frozen.add(id(parameter))
    assert frozen == ({id(circuit_of(network).weights)} if name in FROZEN else set())


@pytest.mark.parametrize("build", WITH_TWIN)
def test_a_frozen_circuit_is_the_trained_one_before_training(build: Callable[..., nn.Module]) -> None:
    networks = []
    for kernel in ("quantum", "frozen"):
        torch.manual_seed(3)
        networks.append(build(kernel=kernel).eval())
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(networks[0](images), networks[1](images))
    for network in networks:
        network(images).square().sum().backward()
    passed = [next(network.features.parameters()).grad for network in networks]
    torch.testing.assert_close(passed[0], passed[1], atol=1e-7, rtol=1e-4)  # to the layers before the circuit


@pytest.mark.parametrize("build", WITH_TWIN)
@pytest.mark.parametrize("engine", ["trig", "statevector", "folded"])
def test_every_engine_passes_gradients_through_a_frozen_circuit(build: Callable[..., nn.Module], engine: str) -> None:
    gradients = []
    for name in (engine, "torchquantum"):
        torch.manual_seed(0)
        network = build(kernel="frozen", engine=name)
        network(torch.rand(2, 1, 32, 32)).square().sum().backward()
        assert circuit_of(network).weights.grad is None
        gradients.append(next(network.features.parameters()).grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_circuits_are_left_out_of_the_parameter_groups(name: str) -> None:
    groups = parameter_groups(NETWORKS[name](), lr=1e-3)
    assert {group["group"] for group in groups} == {"classical"}


@pytest.mark.parametrize("build", [dense, separable])
@pytest.mark.parametrize(
    "circuit",
    [
        {"n_layers": 1},
        {"n_layers": 9},
        {"n_wires": 6, "readout": "zz"},
        {"n_wires": 3, "encoder": "amplitude", "readout": "probabilities"},
        {"ansatz": "pooling"},
    ],
)
def test_twin_differs_in_the_circuit_alone_and_has_at_least_its_weights(
    build: Callable[..., nn.Module], circuit: dict
) -> None:
    quantum, classical = build(**circuit), build(kernel="classical", **circuit)
    assert isinstance(quantum.kernel.circuit, QuantumLayer)
    assert any(isinstance(part, ClassicalKernel2d) for part in classical.kernel.circuit)
    assert n_weights(classical.kernel.circuit) >= n_weights(quantum.kernel.circuit)
    shapes = [
        {name: p.shape for name, p in network.named_parameters() if not name.startswith("kernel.circuit")}
        for network in (quantum, classical)
    ]
    assert shapes[0] == shapes[1]
    angles = torch.randn(5, circuit_of(quantum).circuit.n_inputs)
    assert quantum.kernel.circuit(angles).shape == classical.kernel.circuit(angles).shape


def test_the_twin_of_the_default_circuit_has_exactly_its_weights() -> None:
    assert n_weights(dense().kernel.circuit) == n_weights(dense(kernel="classical").kernel.circuit) == 16


@pytest.mark.parametrize("name", [name for name in NETWORKS if "twin" not in name])
@pytest.mark.parametrize("shot_gradient", ["straight_through", "parameter_shift"])
def test_shots(name: str, shot_gradient: str) -> None:
    torch.manual_seed(0)
    smaller = {"n_wires": 4, "n_layers": 1} if name == "qcnn" else {}  # a shift for every use of every angle
    network = NETWORKS[name](shots=16, shot_gradient=shot_gradient, **smaller)
    step(network)
    read = circuit_of(network)
    angles = torch.rand(2, *((read.in_channels, 4, 4) if isinstance(read, QuantumConv2d) else (read.circuit.n_inputs,)))
    values = read(angles)
    assert torch.equal(values * 16, (values * 16).round())  # what sixteen shots can give
    assert not torch.equal(values, read(angles))


@pytest.mark.parametrize("build", WITH_TWIN)
def test_circuits_run_in_float32_under_autocast(build: Callable[..., nn.Module]) -> None:
    network = build().eval()
    seen = []
    circuit_of(network).register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(2, 1, 32, 32))
    assert seen == [(torch.float32, torch.float32)]


# --- Against a simulator of a few lines: a state [2, 2, …], one axis a wire. ---


def rotation(axis: str, angle: float) -> np.ndarray:
    pauli = {"x": np.array([[0, 1], [1, 0]]), "y": np.array([[0, -1j], [1j, 0]]), "z": np.diag([1, -1])}[axis]
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * pauli


def u3(theta: float, phi: float, lam: float) -> np.ndarray:
    return np.diag([1, np.exp(1j * phi)]) @ rotation("y", theta) @ np.diag([1, np.exp(1j * lam)])


def turn(state: np.ndarray, gate: np.ndarray, wire: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(gate, state, (1, wire)), 0, wire)


def turn_if(state: np.ndarray, gate: np.ndarray, control: int, target: int) -> np.ndarray:
    """The gate on the target where the control is |1⟩."""
    turned = turn(state, gate, target)
    one = [slice(None)] * state.ndim
    one[control] = 1
    state = state.copy()
    state[tuple(one)] = turned[tuple(one)]
    return state


def cnot(state: np.ndarray, control: int, target: int) -> np.ndarray:
    return turn_if(state, np.array([[0, 1], [1, 0]]), control, target)


def encoded(angles: np.ndarray) -> np.ndarray:
    state = np.zeros([2] * len(angles), dtype=complex)
    state.flat[0] = 1
    for wire, angle in enumerate(angles):
        state = turn(state, rotation("y", angle), wire)
    return state


def probabilities(state: np.ndarray, wires: list[int]) -> np.ndarray:
    others = tuple(wire for wire in range(state.ndim) if wire not in wires)
    return (np.abs(state) ** 2).sum(axis=others)


def z_of(state: np.ndarray, wire: int) -> float:
    zero, one = probabilities(state, [wire])
    return zero - one


def convolved_and_pooled(state: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The QCNN of Cong et al.: the same SU(4) on all neighbours, then half the wires measured (deferred)."""
    left = list(range(state.ndim))
    for w in weights:
        even = [(left[i], left[i + 1]) for i in range(0, len(left), 2)]
        odd = [(left[i], left[(i + 1) % len(left)]) for i in range(1, len(left), 2)] if len(left) > 2 else []
        for a, b in even + odd:
            state = cnot(turn(turn(state, u3(*w[0:3]), a), u3(*w[3:6]), b), a, b)
            state = cnot(turn(turn(state, rotation("y", w[6]), a), rotation("z", w[7]), b), b, a)
            state = cnot(turn(state, rotation("y", w[8]), a), a, b)
            state = turn(turn(state, u3(*w[9:12]), a), u3(*w[12:15]), b)
        for a, b in even:
            state = turn_if(state, rotation("z", w[15]), b, a)
            state = turn(
                turn_if(turn(state, rotation("x", np.pi), b), rotation("x", w[16]), b, a), rotation("x", np.pi), b
            )
        left = left[::2]
    return state


@pytest.mark.parametrize(
    "circuit",
    [
        {"n_wires": 8, "n_layers": 2, "encoder": "amplitude", "readout": "probabilities"},
        {"n_wires": 4, "n_layers": 2, "encoder": "amplitude", "readout": "z"},
        {"n_wires": 8, "n_layers": 3, "encoder": "angle_y", "readout": "z"},
        {"n_wires": 4, "n_layers": 1, "encoder": "angle_y", "readout": "z"},
    ],
)
def test_qcnn_is_the_state_vector(circuit: dict) -> None:
    torch.manual_seed(0)
    network = qcnn(64, **circuit)
    read = network.kernel
    nn.init.uniform_(read.weights, -np.pi, np.pi)
    images = torch.rand(2, 1, 64, 64)
    n = circuit["n_wires"]
    rows, columns = {
        ("amplitude", 8): (16, 16),
        ("amplitude", 4): (4, 4),
        ("angle_y", 8): (2, 4),
        ("angle_y", 4): (2, 2),
    }[circuit["encoder"], n]
    cells = images.double().numpy().reshape(2, rows, 64 // rows, columns, 64 // columns).mean((2, 4)).reshape(2, -1)
    expected = []
    for cell in cells:
        state = (
            (cell / np.linalg.norm(cell)).reshape([2] * n)
            if circuit["encoder"] == "amplitude"
            else encoded(np.pi * cell)
        )
        state = convolved_and_pooled(state, read.weights.detach().double().numpy())
        left = list(range(0, n, 2 ** circuit["n_layers"]))
        expected.append(
            probabilities(state, left).ravel()
            if circuit["readout"] == "probabilities"
            else [z_of(state, w) for w in left]
        )
    logits = np.array(expected) @ network.head.weight.detach().double().numpy().T + network.head.bias.detach().numpy()
    np.testing.assert_allclose(network(images).detach().numpy(), logits, atol=1e-6)


@pytest.mark.parametrize("encoder", ["angle_y", "amplitude"])
def test_qcnn_gradients_are_differences(encoder: str) -> None:
    torch.manual_seed(0)
    network = QCNN(4, 16, {"n_wires": 4, "n_layers": 1, "ansatz": "qcnn", "encoder": encoder}).double()
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)

    def logits(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, {"kernel.weights": weights}, images)

    assert torch.autograd.gradcheck(logits, (images, network.kernel.weights), fast_mode=True)


def test_qcnn_joins_what_pooling_alone_does_not() -> None:
    """Wires 1 and 2 of four are no pair of the pooling: only the second half of the convolution entangles them."""
    read = QuantumLayer(4, 1, ansatz="qcnn").double()
    alone = QuantumLayer(4, 1, ansatz="pooling").double()
    angles = torch.zeros(2, 4, dtype=torch.float64)
    angles[1, 2] = 1.0
    assert (read(angles)[0] - read(angles)[1])[0].abs() > 1e-3  # wire 0's outcome, of wire 2's input
    assert (alone(angles)[0] - alone(angles)[1])[0].abs() < 1e-12


def test_quanvolution_is_the_state_vector_on_a_patch() -> None:
    network = quanvolution()
    image = torch.rand(1, 1, 32, 32)
    values = network.kernel(np.pi * image.expand(-1, 3, -1, -1))[0].double().numpy()  # [3 · 4, 16, 16]
    row, column = 5, 11
    patch = image[0, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].double().numpy().ravel()
    for circuit, weights in enumerate(network.kernel.weights.double().numpy()):
        state = encoded(np.pi * patch)
        for layer in weights:
            for wire in range(4):
                state = turn(turn(state, rotation("y", layer[wire, 0]), wire), rotation("z", layer[wire, 1]), wire)
            for wire in range(4):
                state = cnot(state, wire, (wire + 1) % 4)
        expected = [z_of(state, wire) for wire in range(4)]
        np.testing.assert_allclose(values[4 * circuit : 4 * circuit + 4, row, column], expected, atol=1e-6)


def test_quanvolution_is_its_seed() -> None:
    first, same, other = (circuit_of(quanvolution(seed=seed)).weights for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert 1 < first.max() < 2 * np.pi
    assert len({tuple(weights.flatten().tolist()) for weights in first}) == 3  # a circuit for each filter


@pytest.mark.parametrize("circuit", [{}, {"ansatz": "random"}, {"encoder": "amplitude", "n_wires": 2}])
def test_quanvolution_records_no_graph_of_its_circuits(circuit: dict) -> None:
    network = quanvolution(**circuit)
    seen = []
    network.kernel.register_forward_hook(lambda _, inputs, output: seen.append(output.requires_grad))
    logits = network(torch.rand(2, 1, 32, 32))
    assert seen == [False]
    assert logits.requires_grad


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: dense(kernel="magic"), "kernel must be one of quantum, classical, frozen; got 'magic'"),
        (lambda: separable(kernel="magic"), "kernel must be one of quantum, classical, frozen; got 'magic'"),
        (lambda: quanvolution(n_wires=6), r"circuit.n_wires=6: a patch of kernel_size² = 4 pixels takes 4"),
        (lambda: quanvolution(encoder="amplitude"), r"circuit.n_wires=4: a patch of kernel_size² = 4 pixels takes 2"),
        (lambda: quanvolution(1), "image_size=1 is less than a patch"),
        (lambda: qcnn(ansatz="pooling"), "circuit.ansatz=pooling: this network is the ansatz qcnn"),
        (lambda: qcnn(n_wires=6), "circuit.n_wires=6: must be a power of two"),
        (lambda: qcnn(8), "image_size=8: the circuit takes 16×16 pixels"),
        (lambda: qcnn(n_layers=4), "8 wires take n_layers of at most 3, got 4"),
    ],
)
def test_impossible_arrangements_are_refused(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()
