"""Both engines against the numpy state vector, against each other, and their gradients against the parameter shift."""

import numpy as np
import pytest
import state_vector
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hqcnn_lab.quantum import FoldedModule, QuantumLayer, folded, limits, torchquantum_engine
from hqcnn_lab.quantum.ansatz import ANSATZES, Cnots, Rotations
from hqcnn_lab.quantum.torchquantum_engine import torchquantum

RADIANS = st.floats(-7, 7, allow_subnormal=False)
CPU = torch.device("cpu")


@st.composite
def circuits(draw):
    n_wires, n_layers = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    batch = draw(st.sampled_from([1, 3, 40]))  # 40 > 2⁵: folded; fewer: run on the states
    seed = draw(st.integers(0, 2**31))
    angles = np.random.default_rng(seed).uniform(-7, 7, (batch, n_wires))
    angles[0] = draw(hnp.arrays(np.float64, n_wires, elements=RADIANS))
    return angles, draw(hnp.arrays(np.float64, (n_layers, n_wires, 2), elements=RADIANS))


def layer_with(weights, engine, dtype) -> QuantumLayer:
    layer = QuantumLayer(weights.shape[1], weights.shape[0], engine=engine).to(dtype)
    with torch.no_grad():
        layer.weights.copy_(torch.as_tensor(weights))
    return layer


def random_case(n_wires, n_layers=2, batch=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(batch, n_wires, generator=generator, dtype=torch.float64)
    return angles, torch.randn(n_layers, n_wires, 2, generator=generator, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(circuits())
def test_folded_is_the_state_vector(case):
    angles, weights = case
    expected = state_vector.batch(angles, weights)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        values = layer_with(weights, "folded", dtype)(torch.as_tensor(angles, dtype=dtype))
        assert values.dtype == dtype
        assert np.abs(values.detach().numpy() - expected).max() <= tolerance


@settings(max_examples=25, deadline=None)
@given(circuits())
def test_torchquantum_is_the_state_vector(case):
    angles, weights = case
    values = layer_with(weights, "torchquantum", torch.float32)(torch.as_tensor(angles, dtype=torch.float32))
    assert np.abs(values.detach().numpy() - state_vector.batch(angles, weights)).max() <= 1e-5


@pytest.mark.parametrize("n_wires", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("batch", [3, 70])
def test_engines_agree_in_values_and_gradients(n_wires, batch):
    results = []
    angles, weights = random_case(n_wires, batch=batch)
    upstream = torch.randn(batch, n_wires, generator=torch.Generator().manual_seed(1)) / batch
    for engine in ("folded", "torchquantum"):
        layer, x = layer_with(weights, engine, torch.float32), angles.float().requires_grad_()
        values = layer(x)
        values.backward(upstream)
        results.append((values.detach(), x.grad, layer.weights.grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [2, 10])  # 2 < 2³: on the states; 10: folded
def test_folding_and_running_on_the_states_agree_for_many_circuits(batch, monkeypatch):
    circuit = ANSATZES["hardware_efficient"].build(3, 2)
    angles = torch.randn(4, 3, batch, dtype=torch.float64)
    weights = torch.randn(4, 2, 3, 2, dtype=torch.float64)
    values = folded.expectations(angles, weights, circuit)
    expected = [state_vector.batch(a.T.numpy(), w.numpy()).T for a, w in zip(angles, weights, strict=True)]
    assert np.abs(values.numpy() - np.stack(expected)).max() <= 1e-12
    monkeypatch.setattr(folded, "FOLD_WIRES", 0)
    torch.testing.assert_close(folded.expectations(angles, weights, circuit), values, atol=1e-13, rtol=0)


@pytest.mark.parametrize("n_wires", [1, 2, 3, 5])
def test_gradcheck(n_wires):
    angles, weights = random_case(n_wires, batch=2)
    layer = layer_with(weights, "folded", torch.float64)

    def run(angles, weights):
        return torch.func.functional_call(layer, {"weights": weights}, (angles,))

    inputs = (angles.requires_grad_(), weights.requires_grad_())
    assert torch.autograd.gradcheck(run, inputs)
    if n_wires == 2:  # plain autograd: second derivatives come free, and must stay right
        assert torch.autograd.gradgradcheck(run, inputs)


def test_gradients_are_the_parameter_shift():
    angles, weights = random_case(3, batch=9)
    layer, x = layer_with(weights, "folded", torch.float64), angles.clone().requires_grad_()
    layer(x).sum().backward()

    def shifted(tensor, index, run):
        values = []
        for sign in (1, -1):
            moved = tensor.clone()
            moved[index] += sign * torch.pi / 2
            values.append(state_vector.batch(*(t.numpy() for t in run(moved))).sum())
        return (values[0] - values[1]) / 2

    for index in np.ndindex(*weights.shape):
        expected = shifted(weights, index, lambda moved: (angles, moved))
        assert layer.weights.grad[index].item() == pytest.approx(expected, abs=1e-12)
    for index in np.ndindex(*angles.shape):
        expected = shifted(angles, index, lambda moved: (moved, weights))
        assert x.grad[index].item() == pytest.approx(expected, abs=1e-12)
    assert (layer.weights.grad[-1, :, 1] == 0).all()  # the last Rz cannot be seen by Z
    assert layer.weights.grad[0].abs().min() > 1e-4


OPERATIONS = st.one_of(
    st.builds(Rotations, st.sampled_from("yz"), st.integers(0, 1), st.integers(0, 1)),
    st.builds(Cnots, st.lists(st.permutations(range(3)).map(lambda order: tuple(order[:2])), max_size=3).map(tuple)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(OPERATIONS, max_size=6).map(tuple), st.sampled_from([2, 10]))
def test_engines_agree_on_any_list_of_operations(circuit, batch):
    generator = torch.Generator().manual_seed(0)
    angles, weights = torch.randn(2, 3, batch, generator=generator), torch.randn(2, 2, 3, 2, generator=generator)
    reference = torchquantum_engine.expectations(angles, weights, circuit)
    torch.testing.assert_close(folded.expectations(angles, weights, circuit), reference, atol=1e-5, rtol=0)


def test_constants_made_in_inference_mode_serve_a_later_training_step():
    for cached in (folded._signs, folded._sources, folded._identity):
        cached.cache_clear()
    layer = QuantumLayer(3, 2)
    with torch.inference_mode():
        layer(torch.randn(20, 3))
    layer(torch.randn(20, 3)).sum().backward()
    assert layer.weights.grad.abs().sum() > 0


def test_wire_zero_is_the_most_significant_bit_and_a_ring_of_two_has_both_cnots():
    signs = folded._signs(2, (), CPU, torch.float64)
    assert signs.tolist() == [[1, 1, -1, -1], [1, -1, 1, -1]]
    # |10⟩ → (0→1) |11⟩ → (1→0) |01⟩
    values = layer_with(np.zeros((1, 2, 2)), "folded", torch.float64)(torch.tensor([torch.pi, 0.0]).double())
    torch.testing.assert_close(values.detach(), torch.tensor([1.0, -1.0]).double())


def test_torchquantum_refuses_float64():
    with pytest.raises(TypeError, match="engine='folded'"):
        QuantumLayer(2, 1, engine="torchquantum")(torch.zeros(1, 2).double())


def test_limits_name_what_the_code_has():
    assert set(limits.ANSATZES) == set(ANSATZES)
    assert set(limits.MAX_WIRES) == set(limits.ENGINES)
    assert limits.MAX_WIRES["auto"] <= limits.MAX_WIRES[limits.choose_engine("auto")]


def users_module(n_wires: int):
    tq = torchquantum()

    class Brought(tq.QuantumModule):
        def __init__(self):
            super().__init__()
            self.turns = tq.QuantumModuleList([tq.U3(has_params=True, trainable=True) for _ in range(n_wires)])
            self.bend = tq.CRX(has_params=True, trainable=True)

        def forward(self, device):
            for wire, turn in enumerate(self.turns):
                turn(device, wires=wire)
            tq.functional.hadamard(device, wires=0)
            tq.functional.s(device, wires=0, inverse=True)
            self.bend(device, wires=[n_wires - 1, 0])
            tq.functional.cnot(device, wires=[0, n_wires - 1])

    torch.manual_seed(3)
    return Brought()


@pytest.mark.parametrize("n_wires", [2, 4])
@pytest.mark.parametrize("batch", [1, 33])
def test_a_module_brought_by_a_user_is_what_torchquantum_makes_of_it(n_wires, batch):
    tq, module = torchquantum(), users_module(n_wires)
    layer = FoldedModule(module, n_wires)
    upstream = torch.randn(batch, n_wires)
    ours, theirs = (torch.randn(batch, n_wires, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    values = layer(ours.requires_grad_())
    values.backward(upstream)
    gradients = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()

    device = tq.QuantumDevice(n_wires=n_wires, bsz=batch)
    for wire in range(n_wires):
        tq.functional.ry(device, wires=wire, params=theirs.requires_grad_()[:, wire, None])
    module(device)
    expected = tq.expval(device, list(range(n_wires)), [tq.PauliZ()] * n_wires)
    expected.backward(upstream)

    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)
    assert sum(gradient.abs().sum() for gradient in gradients) > 1e-2
    for gradient, parameter in zip(gradients, module.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-5)


def test_a_module_brought_by_a_user_takes_leading_dimensions_and_refuses_float64_and_too_many_wires():
    layer = FoldedModule(users_module(2), 2)
    x = torch.randn(3, 5, 2)
    assert torch.equal(layer(x)[1], layer(x.flatten(0, 1))[5:10].reshape(5, 2))
    assert layer(x[:0]).shape == (0, 5, 2)
    assert layer(x.bfloat16()).dtype == torch.float32
    with pytest.raises(TypeError, match="float32"):
        layer(x.double())
    with pytest.raises(ValueError, match=f"n_wires = 11, .* at most {limits.MAX_MODULE_WIRES}"):
        FoldedModule(users_module(2), 11)
