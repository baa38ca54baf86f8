"""Every ansatz's gate list against its definition, in numpy; what it reads and how its weights are laid out."""

import numpy as np
import pytest
import state_vector

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import ENCODERS, READOUTS, make_circuit
from hqcnn_lab.quantum.gate import CONTROLLED, ONE_WIRE, Gate

ROWS = {"real_amplitudes": 1, "efficient_su2": 1}  # beside one a layer
PER_WIRE = {
    **{"hardware_efficient": 2, "separable": 2, "basic_entangler": 1, "strongly_entangling": 3, "real_amplitudes": 1},
    **{"efficient_su2": 2, "u3_cu3": 6, "random": 1},
}
PER_LAYER = {"pooling": 6, "qcnn": 17}  # shared by all pairs of wires


def cnots(ansatz: str, n_wires: int, n_layers: int = 1) -> list[list[tuple[int, int]]]:
    layers = ANSATZES[ansatz].layers(n_wires, n_layers, 0)
    return [[gate.wires for gate in layer if gate.name == "cnot"] for layer in layers]


def inputs_for(encoder: str, n_wires: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 1.5, (batch, 2**n_wires if encoder == "amplitude" else n_wires))


def test_every_ansatz_is_checked_here():
    assert {*PER_WIRE, *PER_LAYER} == set(ANSATZES)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("ansatz", ANSATZES)
def test_the_gate_list_is_the_definition(ansatz, encoder):
    rng = np.random.default_rng(0)
    for n_wires, n_layers in ((1, 2), (2, 2), (3, 1), (4, 4), (5, 1)):
        for readout in READOUTS:
            circuit = make_circuit(n_wires, n_layers, ansatz, encoder, readout, seed=4)
            if circuit.n_outputs == 0:  # no pair of wires
                continue
            weights, angles = rng.normal(0, 2, circuit.weight_shape), inputs_for(encoder, n_wires, 2, rng)
            expected = state_vector.batch(ansatz, encoder, readout, angles, weights, seed=4)
            values = state_vector.run(circuit, angles, weights.reshape(-1))
            assert values.shape == expected.shape == (2, circuit.n_outputs)
            assert np.abs(values - expected).max() <= 1e-12, (n_wires, n_layers, readout)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("ansatz", ANSATZES)
def test_every_weight_and_every_input_is_used_in_order(ansatz, encoder):
    for n_wires, n_layers in ((2, 1), (4, 2)):
        circuit = make_circuit(n_wires, n_layers, ansatz, encoder)
        size = int(np.prod(circuit.weight_shape))
        weights = [i for gate in circuit.gates for i in gate.weights]
        assert set(weights) == set(range(size))
        assert len(weights) == size or ansatz in PER_LAYER  # where pairs share them
        assert circuit.n_inputs == (2**n_wires if encoder == "amplitude" else n_wires)
        inputs = [i for gate in circuit.encoding for i in gate.inputs]
        assert inputs == ([] if encoder == "amplitude" else list(range(n_wires)))
        again = [i for gate in circuit.gates for i in gate.inputs]
        assert again == list(range(n_wires)) * (n_layers - 1 if encoder == "reuploading" else 0)
        assert circuit.reuploads == bool(again)


@pytest.mark.parametrize("ansatz", PER_WIRE)
def test_weights_have_the_documented_shape(ansatz):
    for n_wires, n_layers in ((1, 1), (4, 3)):
        shape = make_circuit(n_wires, n_layers, ansatz).weight_shape
        assert shape == (n_layers + ROWS.get(ansatz, 0), n_wires, PER_WIRE[ansatz])


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("ansatz", ANSATZES)
def test_gates_are_well_formed(ansatz, readout):
    circuit = make_circuit(4, 2, ansatz, "reuploading", readout)
    assert hash(circuit) == hash(make_circuit(4, 2, ansatz, "reuploading", readout))
    for gate in (*circuit.encoding, *circuit.gates):
        acting = CONTROLLED.get(gate.name, gate.name)
        assert len(gate.wires) == len(set(gate.wires)) == (2 if gate.name in CONTROLLED else 1)
        assert set(gate.wires) <= set(range(4))
        assert len(gate.weights or gate.inputs) == ONE_WIRE[acting]
        assert not (gate.weights and gate.inputs)


def test_only_the_random_circuit_is_not_trained():
    assert [name for name, ansatz in ANSATZES.items() if not ansatz.trainable] == ["random"]


def test_rings_and_chains_of_cnots():
    assert cnots("hardware_efficient", 1) == [[]]
    assert cnots("hardware_efficient", 2) == [[(0, 1), (1, 0)]]
    assert cnots("hardware_efficient", 4) == [[(0, 1), (1, 2), (2, 3), (3, 0)]]
    assert cnots("basic_entangler", 2) == [[(0, 1)]]  # PennyLane has one CNOT for two wires
    assert cnots("basic_entangler", 3) == [[(0, 1), (1, 2), (2, 0)]]
    assert cnots("real_amplitudes", 4) == [[(2, 3), (1, 2), (0, 1)], []]  # Qiskit's "reverse_linear"
    assert cnots("efficient_su2", 3, 2) == [[(1, 2), (0, 1)], [(1, 2), (0, 1)], []]
    assert cnots("separable", 5, 3) == [[], [], []]


def test_strongly_entangling_reaches_further_layer_by_layer():
    steps = [{(b - a) % 4 for a, b in pairs} for pairs in cnots("strongly_entangling", 4, 5)]
    assert steps == [{1}, {2}, {3}, {1}, {2}]
    assert cnots("strongly_entangling", 1, 2) == [[], []]
    assert cnots("strongly_entangling", 2, 2) == [[(0, 1), (1, 0)]] * 2
    assert all(len(pairs) == 4 for pairs in cnots("strongly_entangling", 4, 5))


def test_the_random_circuit_is_its_seed():
    layers = ANSATZES["random"].layers
    assert layers(4, 3, 7) == layers(4, 3, 7)
    assert layers(4, 3, 7) != layers(4, 3, 8)
    assert layers(4, 1, 7) == layers(4, 3, 7)[:1]
    assert make_circuit(4, 3, "random", seed=7) != make_circuit(4, 3, "random", seed=8)
    gates = [gate for seed in range(40) for layer in layers(5, 2, seed) for gate in layer]
    turns = [gate for gate in gates if gate.name != "cnot"]
    assert len(turns) == 40 * 2 * 5
    assert {gate.name for gate in turns} == {"rx", "ry", "rz"}
    assert {gate.wires[0] for gate in turns} == set(range(5))
    assert 0.25 < 1 - len(turns) / len(gates) < 0.35  # CNOTs, 3 in 10
    assert all(gate.name != "cnot" for gate in layers(1, 3, 0)[0])


@pytest.mark.parametrize("ansatz", PER_LAYER)
@pytest.mark.parametrize(
    ("n_wires", "n_layers", "measured"),
    [(8, 1, (0, 2, 4, 6)), (8, 2, (0, 4)), (8, 3, (0,)), (5, 1, (0, 2, 4)), (5, 2, (0, 4)), (5, 3, (0,)), (1, 2, (0,))],
)
def test_pooling_halves_the_wires(ansatz, n_wires, n_layers, measured):
    circuit = make_circuit(n_wires, n_layers, ansatz)
    assert circuit.measured == measured
    assert circuit.weight_shape == (n_layers, PER_LAYER[ansatz])
    left = set(range(n_wires))
    for layer in ANSATZES[ansatz].layers(n_wires, n_layers, 0):
        assert {wire for gate in layer for wire in gate.wires} <= left
        left -= {gate.wires[0] for gate in layer if gate.name in ("crx", "crz")}  # the control is read no more
    assert left == set(measured)


@pytest.mark.parametrize("ansatz", PER_WIRE)
def test_all_wires_are_read_but_by_pooling(ansatz):
    assert make_circuit(5, 2, ansatz).measured == (0, 1, 2, 3, 4)


def test_qcnn_convolves_every_neighbouring_pair_once_before_it_pools():
    first, second, third = ANSATZES["qcnn"].layers(8, 3, 0)
    expected = [(0, 1), (2, 3), (4, 5), (6, 7), (1, 2), (3, 4), (5, 6), (7, 0)]
    for layer, pairs in ((first, expected), (second, [(0, 2), (4, 6), (2, 4), (6, 0)]), (third, [(0, 4)])):
        cnots = [gate.wires for gate in layer if gate.name == "cnot"]
        assert cnots == [wires for a, b in pairs for wires in ((a, b), (b, a), (a, b))]
    assert make_circuit(8, 3, "qcnn").weight_shape == (3, 17)  # Hur, Kim, Park 2022: 51 weights


def test_strings_of_the_readouts():
    def strings(readout, ansatz="separable"):
        return make_circuit(4, 1, ansatz, readout=readout).strings

    assert strings("z") == strings("x") == strings("y") == ((0,), (1,), (2,), (3,))
    assert strings("zz") == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    assert len(strings("probabilities")) == 16
    assert {frozenset(string) for string in strings("probabilities", "pooling")} == {
        *(frozenset(), frozenset({0}), frozenset({2}), frozenset({0, 2})),
    }


@pytest.mark.parametrize("n_wires", [1, 2, 3])
def test_probabilities_are_the_walsh_hadamard_transform_of_the_strings(n_wires):
    rng = np.random.default_rng(1)
    circuit = make_circuit(n_wires, 2, "efficient_su2", readout="probabilities")
    angles, weights = rng.normal(size=(3, n_wires)), rng.normal(size=circuit.weight_shape).reshape(-1)
    probabilities = state_vector.run(circuit, angles, weights)
    signs = np.array(
        [[(-1) ** sum(j >> (n_wires - 1 - i) & 1 for i in s) for s in circuit.strings] for j in range(2**n_wires)]
    )
    hadamard = state_vector.on_every_wire([np.array([[1, 1], [1, -1]])] * n_wires)
    strings = probabilities @ signs
    assert (signs == hadamard).all()
    assert np.abs(strings @ hadamard.T / 2**n_wires - probabilities).max() <= 1e-12
    assert np.abs(probabilities.sum(1) - 1).max() <= 1e-12


def test_angle_z_is_seen_only_after_a_basis_change():
    """H and then Rz: an input turns the phase of |+⟩, and X reads its cosine."""
    inputs = np.array([0.7, -1.9])
    states = state_vector.encode("angle_z", inputs)[None]
    assert np.abs(state_vector.read("x", states, [0, 1]) - np.cos(inputs)).max() <= 1e-12
    assert np.abs(state_vector.read("y", states, [0, 1]) - np.sin(inputs)).max() <= 1e-12
    assert make_circuit(1, 1, encoder="angle_z").encoding == (Gate("h", (0,)), Gate("rz", (0,), inputs=(0,)))
