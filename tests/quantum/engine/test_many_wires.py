"""Circuits too large for the numpy matrices of the other tests."""

import pytest
import torch

from hqcnn_lab.quantum import QuantumLayer, make_circuit
from hqcnn_lab.quantum.engine import statevector
from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine


@pytest.mark.parametrize(("n_wires", "batch"), [(11, 3), (13, 2), (14, 1)])
def test_many_wires_are_what_torchquantum_says(n_wires, batch):
    """Beyond 12 wires the signs are a product of two halves, and a single sample's last wires go another way."""
    circuit = make_circuit(n_wires, 2, "strongly_entangling", readout="zz")
    generator = torch.Generator().manual_seed(n_wires)
    results = []
    for engine in (statevector, torchquantum_engine):
        generator.manual_seed(n_wires)
        x = torch.randn(1, n_wires, batch, generator=generator).requires_grad_()
        w = torch.randn(1, 2 * n_wires * 3, generator=generator).requires_grad_()
        values = engine.expectations(x, w, circuit)
        values.square().sum().backward()
        results.append((values.detach(), x.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours.abs().max() > 0.05
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


def test_twenty_wires_train():
    torch.manual_seed(0)
    layer = QuantumLayer(20, 2)
    optimizer, x = torch.optim.Adam(layer.parameters(), lr=0.1), torch.randn(1, 20)
    losses = []
    for _ in range(4):
        loss = layer(x).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
