"""Every engine against numpy state vectors, against the others, and its gradients against differences."""

from contextlib import nullcontext
from functools import lru_cache
from types import ModuleType

import numpy as np
import pytest
import state_vector
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.quantum import limits
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import ENCODERS, READOUTS, Circuit, basis_change, make_circuit
from hqcnn_lab.quantum.engine import evolve, folded, gates, statevector, trig
from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine
from hqcnn_lab.quantum.gate import CONTROLLED, ONE_WIRE, Gate

ENGINES = {"folded": folded, "trig": trig, "statevector": statevector, "torchquantum": torchquantum_engine}
OURS = ["folded", "trig", "statevector"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def refused(engine: str, encoder: str) -> bool:
    """Folding encodes once; a trigonometric polynomial needs angles."""
    return encoder in {"folded": ["reuploading"], "trig": ["reuploading", "amplitude"]}.get(engine, [])


def supported(engines, encoders=ENCODERS) -> list[tuple[str, str]]:
    return [(engine, encoder) for engine in engines for encoder in encoders if not refused(engine, encoder)]


def precisions(engine: str) -> list[torch.dtype]:
    return [torch.float32] if engine == "torchquantum" else [torch.float64, torch.float32]


def draw_inputs(circuit: Circuit, n_circuits: int, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [C, B, n_inputs], a few radians or normalized amplitudes, and flat weights [C, W]."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(0, 1.5, (n_circuits, batch, circuit.n_inputs))
    if circuit.encoder == "amplitude":
        inputs /= np.linalg.norm(inputs, axis=-1, keepdims=True)
    return inputs, rng.normal(0, 1.5, (n_circuits, int(np.prod(circuit.weight_shape))))


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Numpy's inputs [C, B, n] and weights [C, W] as an engine takes them: [C, n, B] and [C, W]."""
    inputs, weights = (torch.as_tensor(array, dtype=dtype) for array in arrays)
    return inputs.transpose(1, 2).contiguous(), weights


def difference(values: torch.Tensor, expected: np.ndarray) -> float:
    """Largest, of values [C, K, B] from expected [C, B, K]."""
    assert values.shape == expected.transpose(0, 2, 1).shape
    return np.abs(values.detach().numpy().transpose(0, 2, 1) - expected).max()


def gradients(engine: ModuleType, angles: torch.Tensor, weights: torch.Tensor, circuit: Circuit, upstream=None):
    angles, weights = (tensor.detach().clone().requires_grad_() for tensor in (angles, weights))
    values = engine.expectations(angles, weights, circuit)
    if upstream is None:
        upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values.backward(upstream.to(values.dtype))
    return values.detach(), angles.grad, weights.grad


# --- Values. ---

SHAPES = [(1, 2, 1, 70), (2, 2, 3, 20), (3, 2, 2, 3), (4, 1, 1, 1)]  # wires, layers, circuits, samples


@lru_cache(maxsize=2048)
def by_the_book(ansatz: str, encoder: str, readout: str, shape: tuple[int, int, int, int]):
    n_wires, n_layers, n_circuits, batch = shape
    circuit = make_circuit(n_wires, n_layers, ansatz, encoder, readout, seed=2)
    inputs, weights = draw_inputs(circuit, n_circuits, batch)
    expected = [
        state_vector.batch(ansatz, encoder, readout, x, w.reshape(circuit.weight_shape), seed=2)
        for x, w in zip(inputs, weights, strict=True)
    ]
    return circuit, inputs, weights, np.stack(expected)


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", ANSATZES)
@pytest.mark.parametrize(("engine", "encoder"), supported(ENGINES))
def test_every_circuit_is_the_state_vector(engine, encoder, ansatz):
    for shape in SHAPES:
        for readout in READOUTS:
            if readout == "zz" and len(make_circuit(*shape[:2], ansatz).measured) < 2:
                continue
            circuit, inputs, weights, expected = by_the_book(ansatz, encoder, readout, shape)
            for dtype in precisions(engine):
                values = ENGINES[engine].expectations(*tensors(inputs, weights, dtype=dtype), circuit)
                assert values.dtype == dtype
                assert difference(values, expected) <= TOLERANCE[dtype], (shape, readout, dtype)


@st.composite
def circuits(draw, data_gates: tuple[str, ...], wires=(1, 5), amplitude: bool = True) -> Circuit:
    """Any gates in any order, sharing weights and inputs as they like, any wires read."""
    n_wires = draw(st.integers(*wires))
    encoders = ["angle_y", "angle_x", "angle_z"] + ["amplitude"] * amplitude
    wire = st.integers(0, n_wires - 1)

    def gate(name: str, n_wires_of_gate: int, n_angles: int, data: bool) -> st.SearchStrategy[Gate]:
        wires = st.permutations(range(n_wires)).map(lambda order: tuple(order[:n_wires_of_gate]))
        indices = st.tuples(*[wire if data else st.integers(0, N_WEIGHTS - 1)] * n_angles)
        nothing = st.just(())
        return st.builds(Gate, st.just(name), wires, nothing if data else indices, indices if data else nothing)

    kinds = [gate(name, 1, n_angles, False) for name, n_angles in ONE_WIRE.items()]
    kinds += [gate(name, 1, ONE_WIRE[name], True) for name in data_gates if name in ONE_WIRE]
    if n_wires > 1:
        kinds += [gate(name, 2, ONE_WIRE[acts], False) for name, acts in CONTROLLED.items()]
        kinds += [gate(name, 2, ONE_WIRE[CONTROLLED[name]], True) for name in data_gates if name in CONTROLLED]
    several = draw(st.lists(st.one_of(kinds), max_size=14))
    measured = tuple(sorted(draw(st.sets(wire, min_size=1))))
    readout = draw(st.sampled_from([name for name in READOUTS if name != "zz" or len(measured) > 1]))
    all_gates = (*several, *basis_change(readout, measured))
    return Circuit(n_wires, draw(st.sampled_from(encoders)), all_gates, readout, measured, (N_WEIGHTS,))


N_WEIGHTS = 6
DATA_GATES = {
    "folded": (),
    "trig": (),
    "statevector": ("rx", "ry", "rz"),
    "torchquantum": ("rx", "ry", "rz", "u3", "crx", "crz", "cu3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), n_circuits=st.integers(1, 2), batch=st.sampled_from([1, 3, 20]))
def test_any_list_of_gates_is_what_numpy_makes_of_it(engine, data, n_circuits, batch):
    circuit = data.draw(circuits(DATA_GATES[engine], amplitude=not refused(engine, "amplitude")))
    inputs, weights = draw_inputs(circuit, n_circuits, batch)
    expected = np.stack([state_vector.run(circuit, x, w) for x, w in zip(inputs, weights, strict=True)])
    for dtype in precisions(engine):
        values = ENGINES[engine].expectations(*tensors(inputs, weights, dtype=dtype), circuit)
        assert difference(values, expected) <= TOLERANCE[dtype]


@settings(max_examples=20, deadline=None)
@given(circuit=circuits(DATA_GATES["statevector"], wires=(1, 7)), batch=st.sampled_from([1, 5]))
def test_states_are_numpys_up_to_a_phase(circuit, batch):
    inputs, weights = draw_inputs(circuit, 2, batch)
    states = evolve.states(*tensors(inputs, weights), circuit).numpy().transpose(0, 2, 1)
    expected = np.stack([state_vector.final_states(circuit, x, w) for x, w in zip(inputs, weights, strict=True)])
    overlaps = np.abs((states.conj() * expected).sum(-1))
    assert states.shape == expected.shape
    assert np.abs(overlaps - 1).max() <= 1e-12


@pytest.mark.parametrize("engine", OURS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_list_of_gates_on_more_wires_than_one_matrix_takes(engine, data):
    circuit = data.draw(circuits(DATA_GATES[engine], wires=(6, 7), amplitude=not refused(engine, "amplitude")))
    inputs, weights = draw_inputs(circuit, 1, 3)
    values = ENGINES[engine].expectations(*tensors(inputs, weights), circuit)
    assert difference(values, state_vector.run(circuit, inputs[0], weights[0])[None]) <= 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_wire_zero_is_the_most_significant_bit_and_a_ring_of_two_has_both_cnots(engine):
    # |10⟩ → (0→1) |11⟩ → (1→0) |01⟩
    angles, weights = torch.tensor([[[torch.pi], [0.0]]]), torch.zeros(1, 4)
    values = ENGINES[engine].expectations(angles, weights, make_circuit(2, 1))
    torch.testing.assert_close(values, torch.tensor([[[1.0], [-1.0]]]), atol=1e-6, rtol=0)
    values = ENGINES[engine].expectations(angles, weights, make_circuit(2, 1, readout="probabilities"))
    torch.testing.assert_close(values, torch.tensor([[[0.0], [1.0], [0.0], [0.0]]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("ansatz", ["separable", "pooling"])
@pytest.mark.parametrize(("engine", "encoder"), supported(ENGINES))
def test_an_empty_batch_goes_through_and_back(engine, encoder, ansatz):
    circuit = make_circuit(3, 1, ansatz, encoder, "probabilities")
    inputs, weights = draw_inputs(circuit, 2, 0)
    values, d_angles, d_weights = gradients(ENGINES[engine], *tensors(inputs, weights, dtype=torch.float32), circuit)
    assert values.shape == (2, circuit.n_outputs, 0)
    assert d_angles.shape == (2, circuit.n_inputs, 0)
    assert (d_weights == 0).all()


# --- Gradients. ---


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", ANSATZES)
@pytest.mark.parametrize(("engine", "encoder"), supported(OURS))
def test_gradcheck(engine, encoder, ansatz):
    for n_wires, readout in ((1, "y"), (3, "zz"), (2, "probabilities")):
        circuit = make_circuit(
            n_wires, 2 if n_wires > 1 and ansatz not in ("pooling", "qcnn") else 1, ansatz, encoder, readout
        )
        if circuit.n_outputs == 0:
            continue
        arguments = [tensor.requires_grad_() for tensor in tensors(*draw_inputs(circuit, 2, 3))]
        run = ENGINES[engine].expectations
        assert torch.autograd.gradcheck(lambda x, w, c=circuit, f=run: f(x, w, c), arguments, fast_mode=n_wires > 1)


@pytest.mark.parametrize("engine", ["statevector"])
@settings(max_examples=20, deadline=None)
@given(circuit=circuits(DATA_GATES["statevector"], wires=(1, 3)), batch=st.integers(1, 9))
def test_gradcheck_of_any_list_of_gates(engine, circuit, batch):
    arguments = [tensor.requires_grad_() for tensor in tensors(*draw_inputs(circuit, 2, batch))]
    run = ENGINES[engine].expectations
    assert torch.autograd.gradcheck(lambda x, w: run(x, w, circuit), arguments, fast_mode=True)


@pytest.mark.parametrize("encoder", ["angle_y", "amplitude"])
def test_folded_is_differentiable_twice_and_the_faster_engines_say_that_they_are_not(encoder):
    circuit = make_circuit(2, 1, "u3_cu3", encoder)
    arguments = [tensor.requires_grad_() for tensor in tensors(*draw_inputs(circuit, 1, 2))]
    assert torch.autograd.gradgradcheck(lambda x, w: folded.expectations(x, w, circuit), arguments)
    for engine in ("trig", "statevector"):
        if refused(engine, encoder):
            continue
        values = ENGINES[engine].expectations(*arguments, circuit).sum()
        # Refused where it is asked for: torch's once_differentiable would let this one through, and drop a gradient.
        with pytest.raises(RuntimeError, match="create_graph=True\\): use engine='folded'"):
            torch.autograd.grad(values, arguments[0], create_graph=True)


PAULI_TURNS = ["hardware_efficient", "strongly_entangling", "random"]


def by_shifting(ansatz, encoder, readout, x, w, step, scale):
    """Of Σ outputs, by inputs [B, n] and weights: differences of the numpy reference."""

    def total(x, w):
        return state_vector.batch(ansatz, encoder, readout, x, w, seed=3).sum()

    grads = []
    for which, array in enumerate((x, w)):
        grad = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            moved = [array.copy(), array.copy()]
            moved[0][index] += step
            moved[1][index] -= step
            plus, minus = ((m, w) if which == 0 else (x, m) for m in moved)
            grad[index] = (total(*plus) - total(*minus)) * scale
        grads.append(grad)
    return grads


def check_against_shifts(engine, ansatz, encoder, readout, n_wires, n_layers, step, scale, tolerance):
    circuit = make_circuit(n_wires, n_layers, ansatz, encoder, readout, seed=3)
    inputs, weights = draw_inputs(circuit, 1, 2)
    expected = by_shifting(ansatz, encoder, readout, inputs[0], weights[0].reshape(circuit.weight_shape), step, scale)
    _, d_angles, d_weights = gradients(
        ENGINES[engine], *tensors(inputs, weights), circuit, torch.ones(1, circuit.n_outputs, 2)
    )
    assert np.abs(d_angles[0].T.numpy() - expected[0]).max() <= tolerance
    assert np.abs(d_weights[0].numpy() - expected[1].reshape(-1)).max() <= tolerance
    assert d_angles.abs().max() > 1e-2
    assert d_weights.abs().max() > 1e-2


@pytest.mark.parametrize("ansatz", PAULI_TURNS)
@pytest.mark.parametrize(("engine", "encoder"), supported(OURS, ["angle_y", "angle_x", "angle_z"]))
def test_gradients_are_the_parameter_shift(engine, encoder, ansatz):
    """Every angle turns one Pauli: [f(θ + π/2) − f(θ − π/2)] / 2 is the derivative, exactly."""
    check_against_shifts(engine, ansatz, encoder, "zz", 3, 2, np.pi / 2, 0.5, 1e-12)


@pytest.mark.parametrize(
    ("engine", "ansatz", "encoder"),
    [
        *((engine, ansatz, "angle_x") for engine in OURS for ansatz in ("u3_cu3", "pooling")),
        *(("statevector", ansatz, "reuploading") for ansatz in ("u3_cu3", "real_amplitudes", "hardware_efficient")),
    ],
)
def test_gradients_are_central_differences(engine, ansatz, encoder):
    """Where an angle's turn is controlled, or an angle comes twice, the plain shift rule does not hold."""
    n_wires, n_layers = (4, 1) if ansatz == "pooling" else (3, 2)
    check_against_shifts(engine, ansatz, encoder, "x", n_wires, n_layers, 1e-5, 0.5e5, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("n_wires", range(1, 9))
def test_engines_agree_in_values_and_gradients(n_wires):
    for ansatz, encoder, readout, batch in (
        ("hardware_efficient", "angle_y", "z", 70),
        ("u3_cu3", "angle_x", "probabilities", 3),
        ("strongly_entangling", "angle_z", "y", 1),
        ("real_amplitudes", "reuploading", "z", 5),
        ("pooling", "amplitude", "probabilities", 20),
    ):
        circuit = make_circuit(n_wires, 2, ansatz, encoder, readout)
        arguments = tensors(*draw_inputs(circuit, 2, batch), dtype=torch.float32)
        expected = gradients(torchquantum_engine, *arguments, circuit)
        assert n_wires == 1 or all(tensor.abs().max() > 1e-3 for tensor in expected)
        for engine in OURS:
            if refused(engine, encoder):
                continue
            for ours, theirs in zip(gradients(ENGINES[engine], *arguments, circuit), expected, strict=True):
                torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5, msg=lambda m, e=engine: f"{e}: {m}")


def test_ten_wires_like_torchquantum():
    circuit = make_circuit(10, 2, "efficient_su2", "reuploading")
    arguments = tensors(*draw_inputs(circuit, 1, 5), dtype=torch.float32)
    expected = gradients(torchquantum_engine, *arguments, circuit)
    for ours, theirs in zip(gradients(statevector, *arguments, circuit), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("engine", ["trig", "statevector"])
@pytest.mark.parametrize("batch", [1, 7, 40, 300])
@pytest.mark.parametrize("n_circuits", [1, 3])
def test_samples_come_out_the_same_in_any_chunks(engine, batch, n_circuits, monkeypatch):
    circuit = make_circuit(3, 2, "u3_cu3", "angle_x", "zz")
    arguments = tensors(*draw_inputs(circuit, n_circuits, batch))
    whole = gradients(ENGINES[engine], *arguments, circuit)
    monkeypatch.setattr(ENGINES[engine], "CHUNK", 40)
    for ours, theirs in zip(gradients(ENGINES[engine], *arguments, circuit), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("engine", "encoder"), supported(ENGINES))
def test_gradients_of_one_side_alone_are_those_of_both(engine, encoder):
    circuit = make_circuit(3, 2, "strongly_entangling", encoder)
    angles, weights = tensors(*draw_inputs(circuit, 2, 4), dtype=torch.float32)
    _, d_angles, d_weights = gradients(ENGINES[engine], angles, weights, circuit, torch.ones(2, 3, 4))
    run, leaf = ENGINES[engine].expectations, angles.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(run(leaf, weights, circuit).sum(), leaf)[0], d_angles)
    leaf = weights.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(run(angles, leaf, circuit).sum(), leaf)[0], d_weights)


@pytest.mark.parametrize("batch", [3, 300])
@pytest.mark.parametrize(("engine", "encoder"), supported(ENGINES))
def test_passes_share_no_memory(engine, encoder, batch):
    """Two passes forward before either goes back, a graph gone back through twice: buffers reused would show."""
    circuit = make_circuit(3, 2, "u3_cu3", encoder)
    cases = [tensors(*draw_inputs(circuit, 1, batch, seed), dtype=torch.float32) for seed in range(2)]
    expected = [gradients(ENGINES[engine], *case, circuit) for case in cases]
    leaves = [[tensor.clone().requires_grad_() for tensor in case] for case in cases]
    passes = [ENGINES[engine].expectations(*pair, circuit) for pair in leaves]
    for values, pair, (expected_values, *expected_grads) in zip(passes, leaves, expected, strict=True):
        upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
        for keep in (True, False):
            grads = torch.autograd.grad(values, pair, upstream, retain_graph=keep)
            assert all(map(torch.equal, grads, expected_grads))
        assert torch.equal(values, expected_values)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_rz_cannot_be_seen_by_z(engine):
    circuit = make_circuit(3, 2)
    arguments = tensors(*draw_inputs(circuit, 1, 5), dtype=torch.float32)
    grad = gradients(ENGINES[engine], *arguments, circuit)[2].reshape(circuit.weight_shape)
    assert grad[-1, :, 1].abs().max() <= (1e-6 if engine == "torchquantum" else 0)
    assert grad[0].abs().min() > 1e-4


@pytest.mark.parametrize(("engine", "encoder"), supported(OURS))
def test_constants_made_in_inference_mode_serve_a_later_training_step(engine, encoder):
    caches = [item for module in (evolve, gates, *ENGINES.values()) for item in vars(module).values()]
    for cache in (item for item in caches if hasattr(item, "cache_clear")):
        cache.cache_clear()
    circuit = make_circuit(3, 2, "efficient_su2", encoder, "probabilities")
    arguments = tensors(*draw_inputs(circuit, 1, 4))
    with torch.inference_mode():
        ENGINES[engine].expectations(*arguments, circuit)
    assert gradients(ENGINES[engine], *arguments, circuit)[2].abs().sum() > 0


@pytest.mark.parametrize("n_wires", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 50])
def test_contract_is_its_formula(n_wires, batch):
    rng = np.random.default_rng(0)
    angles, coefficients = rng.normal(0, 2, (2, n_wires, batch)), rng.normal(size=(2, 4, 3**n_wires))
    features = np.ones((2, 1, batch))
    for i in range(n_wires):
        factors = np.stack([np.ones((2, batch)), np.cos(angles[:, i]), np.sin(angles[:, i])], axis=1)
        features = (features[:, :, None] * factors[:, None]).reshape(2, -1, batch)
    values = trig.contract(torch.as_tensor(angles), torch.as_tensor(coefficients))
    assert np.abs(values.numpy() - coefficients @ features).max() <= 1e-12


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_limits_refuse_what_an_engine_cannot_run_and_nothing_else(engine, encoder):
    refusal = pytest.raises(ValueError, match=f"engine='{engine}'") if refused(engine, encoder) else nullcontext()
    with refusal:
        limits.check_circuit(3, 2, encoder=encoder, engine=engine)


def test_every_engine_is_checked_here():
    assert set(ENGINES) == set(limits.ENGINES) - {"auto"}
