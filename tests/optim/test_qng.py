"""QNG's step against numpy, what it buys on an energy, what it keeps, and what it refuses."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from hqcnn_lab.optim import QNG, parameter_groups, qng
from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer


def hybrid() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), QuantumConv2d(2), nn.Flatten(), nn.Linear(32, 2))


def one_pass(net: nn.Module, images: torch.Tensor) -> None:
    net.zero_grad()
    net(images).square().sum().backward()


def watched(net: nn.Module, **options: float) -> QNG:
    optimizer = QNG(parameter_groups(net, lr=1e-2, weight_decay=0.1), lr=1e-2, **options)
    optimizer.watch(net)
    return optimizer


def final_states(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B, 2] angles, [2, 2] weights → [B, 4]: Ry encoding, then twice Rx on both wires and a CNOT."""
    x, cnot = np.array([[0, 1], [1, 0]]), np.eye(4)[[0, 1, 3, 2]]
    turns = [[np.cos(w / 2) * np.eye(2) - 1j * np.sin(w / 2) * x for w in row] for row in weights]
    encoded = [np.kron(*([np.cos(a / 2), np.sin(a / 2)] for a in sample)) for sample in angles]
    total = cnot @ np.kron(*turns[1]) @ cnot @ np.kron(*turns[0])
    return np.stack([total @ state for state in encoded])


def numpy_metric(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F [4, 4]; the derivative by a rotation's angle is the state at half a turn more, halved."""
    state = final_states(angles, weights)
    slopes = np.stack([final_states(angles, weights + np.pi * e.reshape(2, 2)) / 2 for e in np.eye(4)])  # [4, B, 2ⁿ]
    overlaps = np.einsum("bk,wbk->wb", state.conj(), slopes)
    tensor = np.einsum("ibk,jbk->ij", slopes.conj(), slopes) - overlaps.conj() @ overlaps.T
    return tensor.real / len(angles)


def test_one_step_is_the_gradient_times_the_inverse_metric():
    torch.manual_seed(1)
    layer = QuantumLayer(2, 2, "basic_entangler").double()
    angles = torch.randn(5, 2, dtype=torch.float64)
    optimizer = QNG(layer.parameters(), lr=0.3, damping=0.05, weight_decay=0.1)
    optimizer.watch(layer)
    one_pass(layer, angles)
    before, gradient = layer.weights.detach()[..., 0].numpy().copy(), layer.weights.grad[..., 0].numpy().copy()
    metric = numpy_metric(angles.numpy(), before)
    optimizer.step()
    for row in range(2):
        block = metric[2 * row : 2 * row + 2, 2 * row : 2 * row + 2]
        natural = np.linalg.solve(block + 0.05 * np.eye(2), gradient[row])
        expected = before[row] * (1 - 0.3 * 0.1) - 0.3 * natural
        np.testing.assert_allclose(layer.weights.detach()[row, :, 0], expected, atol=1e-12)


def steps_to_ground(optimizer_class: type, limit: int = 400) -> int:
    """Steps until ⟨Z₀ + Z₁ + Z₂⟩ is within 1e-3 of its minimum, −3, at one learning rate."""
    layer = QuantumLayer(3, 3, "hardware_efficient").double()
    with torch.no_grad():
        layer.weights.copy_(torch.randn(layer.weights.shape, generator=torch.Generator().manual_seed(3)))
    optimizer = optimizer_class(layer.parameters(), lr=0.05)
    if isinstance(optimizer, QNG):
        optimizer.watch(layer)
    for step in range(limit):
        optimizer.zero_grad()
        energy = layer(torch.zeros(1, 3, dtype=torch.float64)).sum()
        if energy < -3 + 1e-3:
            return step
        energy.backward()
        optimizer.step()
    return limit


def test_fewer_steps_than_gradient_descent_on_an_energy():
    # Stokes et al. 2020, figure 3, in small.
    natural, plain = steps_to_ground(QNG), steps_to_ground(torch.optim.SGD)
    assert natural < 400
    assert natural < plain / 2


def test_the_classical_part_is_stepped_by_adamw():
    nets = [hybrid(), hybrid()]
    images = torch.rand(3, 1, 6, 6)
    adamw = torch.optim.AdamW(parameter_groups(nets[1], lr=1e-2, weight_decay=0.1))
    optimizers = [watched(nets[0]), adamw]
    for _ in range(3):
        nets[1][1].load_state_dict(nets[0][1].state_dict())
        for net, optimizer in zip(nets, optimizers, strict=True):
            one_pass(net, images)
            optimizer.step()
    for part in (0, 3):
        assert all(map(torch.equal, nets[0][part].parameters(), nets[1][part].parameters()))
    assert not torch.equal(nets[0][1].weights, nets[1][1].weights)


def test_resumes_bit_for_bit_from_plain_data(tmp_path):
    net, images = hybrid(), torch.rand(4, 3, 1, 6, 6)
    optimizer = watched(net)
    for index in range(4):
        if index == 2:
            torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "two.pt")
        one_pass(net, images[index])
        optimizer.step()
    saved = torch.load(tmp_path / "two.pt", weights_only=True)
    again = hybrid()
    resumed = watched(again)
    again.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["optimizer"])
    for index in (2, 3):
        one_pass(again, images[index])
        resumed.step()
    assert all(map(torch.equal, net.parameters(), again.parameters()))


def test_only_the_last_training_batch_is_measured():
    layer = QuantumLayer(2, 1)
    optimizer = QNG(layer.parameters())
    optimizer.watch(layer)
    optimizer.watch(layer)  # twice is once
    first, last = torch.zeros(1, 2), torch.ones(1, 2)
    layer(first)
    layer(angles=last).sum().backward()
    with torch.no_grad():
        layer(first)
    layer.eval()(first)
    copy.deepcopy(layer).train()(first)
    assert torch.equal(qng._inputs[layer], last)
    assert len(layer._forward_pre_hooks) == 1


def test_what_it_cannot_measure_is_refused():
    net = hybrid()
    optimizer = QNG(parameter_groups(net, lr=1e-2))
    one_pass(net, torch.rand(2, 1, 6, 6))
    with pytest.raises(RuntimeError, match=r"belongs to no watched circuit; call watch\(net\) first"):
        optimizer.step()
    optimizer.watch(net)
    with pytest.raises(RuntimeError, match="has seen no training batch since"):
        optimizer.step()
    optimizer = QNG(net.parameters())
    optimizer.watch(net)
    with pytest.raises(RuntimeError, match=re.escape('"group": "classical" (parameter_groups)')):
        optimizer.step()


@pytest.mark.parametrize("damping", [0.0, -1.0, float("inf"), float("nan")])
def test_wrong_damping_is_refused(damping):
    with pytest.raises(ValueError, match="damping must be a positive, finite number"):
        QNG([torch.zeros(1, requires_grad=True)], damping=damping)


def test_wrong_group_is_refused():
    with pytest.raises(ValueError, match='"group" must be one of quantum, classical'):
        QNG([{"params": [torch.zeros(1, requires_grad=True)], "group": "quantun"}])
