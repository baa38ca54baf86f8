"""torchquantum's own gates and modules: its conventions, and what a user brings along."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import state_vector
import torch

from hqcnn_lab.quantum import FoldedModule, limits
from hqcnn_lab.quantum.circuit import make_circuit
from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine
from hqcnn_lab.quantum.engine.torchquantum import torchquantum
from hqcnn_lab.quantum.gate import CONTROLLED, ONE_WIRE, Gate


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("wires", [(0, 1), (1, 0), (2, 0)])
@pytest.mark.parametrize("name", [*ONE_WIRE, *CONTROLLED])
def test_each_gate_is_numpys_matrix_phase_included(name, wires, per_sample):
    n_wires, n_angles = 3, ONE_WIRE[CONTROLLED.get(name, name)]
    gate = Gate(name, wires if name in CONTROLLED else wires[:1], weights=tuple(range(n_angles)))
    values = np.random.default_rng(0).uniform(-7, 7, (8 if per_sample else 1, n_angles))
    device = torchquantum().QuantumDevice(n_wires=n_wires, bsz=8)
    device.reset_identity_states()  # row j becomes the gate's column j
    tensor = torch.as_tensor(values, dtype=torch.float32) if n_angles else None
    torchquantum_engine._apply(torchquantum().functional, device, gate, tensor)
    columns = device.get_states_1d().numpy()
    for j, column in enumerate(columns):
        expected = state_vector.gate_matrix(gate, n_wires, (), values[j % len(values)])[:, j]
        assert np.abs(column - expected).max() <= 1e-6


def test_float64_is_refused():
    circuit = make_circuit(2, 1)
    with pytest.raises(TypeError, match="engine='folded'"):
        torchquantum_engine.expectations(torch.zeros(1, 2, 1).double(), torch.zeros(1, 4).double(), circuit)


def in_double_precision(code: str) -> None:
    """Run code where torchquantum is complex128: a constant that all its modules copy when they are imported."""
    start = """
        import sys, torch
        from importlib.util import find_spec, module_from_spec, spec_from_file_location
        from hqcnn_lab.quantum.engine import statevector
        from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine
        from hqcnn_lab.quantum.ansatz import ANSATZES
        from hqcnn_lab.quantum.circuit import ENCODERS, READOUTS, make_circuit

        folder = find_spec("torchquantum").submodule_search_locations[0]
        spec = spec_from_file_location("torchquantum.macro", f"{folder}/macro.py")
        sys.modules["torchquantum.macro"] = macro = module_from_spec(spec)
        spec.loader.exec_module(macro)
        macro.C_DTYPE, macro.F_DTYPE = torch.complex128, torch.float64
        tq = torchquantum_engine.torchquantum()
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(0)

        def gradients(run, *leaves):
            values = run()
            upstream = torch.linspace(-1, 1, values.numel()).reshape(values.shape)
            return [values, *torch.autograd.grad(values, leaves, upstream)]
    """
    script = textwrap.dedent(start) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_in_double_precision_every_circuit_is_ours():
    in_double_precision("""
        torchquantum_engine.refuse_float64 = lambda dtype: None
        for encoder in ENCODERS:
            for i, ansatz in enumerate(ANSATZES):
                circuit = make_circuit(3, 2, ansatz, encoder, READOUTS[(i + 1) % 5], seed=5)
                x = torch.randn(2, circuit.n_inputs, 4).div(circuit.n_inputs**0.5).requires_grad_()
                w = torch.randn(2, *circuit.weight_shape).flatten(1).requires_grad_()
                engines = (statevector, torchquantum_engine)
                pairs = zip(*(gradients(lambda: e.expectations(x, w, circuit), x, w) for e in engines), strict=True)
                for (ours, theirs), tolerance in zip(pairs, (1e-12, 1e-11, 1e-11), strict=True):
                    assert ours.dtype == theirs.dtype == torch.float64
                    assert (ours - theirs).abs().max() <= tolerance, (encoder, ansatz)
    """)


@pytest.mark.slow
def test_in_double_precision_u3_cu3_is_torchquantums_own_layer():
    in_double_precision("""
        n_layers, batch = 3, 5
        for n_wires in (2, 4):
            circuit = make_circuit(n_wires, n_layers, "u3_cu3")
            x = torch.randn(batch, n_wires, requires_grad=True)
            w = torch.randn(circuit.weight_shape, requires_grad=True)
            layer = tq.U3CU3Layer0({"n_wires": n_wires, "n_blocks": n_layers})
            parameters = [operation.params for half in layer.layers_all for operation in half.ops_all]
            in_their_order = w.unflatten(2, (2, 3)).transpose(1, 2).reshape(-1, 3)  # row, U3s before CU3s, wire
            with torch.no_grad():
                for parameter, values in zip(parameters, in_their_order, strict=True):
                    parameter.copy_(values)

            def theirs():
                device = tq.QuantumDevice(n_wires=n_wires, bsz=batch)
                for wire in range(n_wires):
                    tq.functional.ry(device, wires=wire, params=x[:, wire])
                layer(device)
                return tq.expval(device, list(range(n_wires)), [tq.PauliZ()] * n_wires)

            def ours():
                return statevector.expectations(x.t()[None], w.reshape(1, -1), circuit)[0].t()

            expected, (values, d_x, d_w) = gradients(theirs, x, *parameters), gradients(ours, x, w)
            assert expected[0].abs().max() > 0.1
            assert (values - expected[0]).abs().max() <= 1e-12
            assert (d_x - expected[1]).abs().max() <= 1e-11
            d_theirs = torch.cat(expected[2:]).reshape(n_layers, 2, n_wires, 3).transpose(1, 2).reshape(w.shape)
            assert (d_w - d_theirs).abs().max() <= 1e-11
    """)


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
    most = limits.MAX_WIRES["folded"]
    with pytest.raises(ValueError, match=f"n_wires = {most + 1}, .* at most {most}"):
        FoldedModule(users_module(2), most + 1)
