"""Which parameters are quantum, and which are decayed."""

import pytest
import torch
from torch import nn

from hqcnn_lab.optim import GVCO, parameter_groups
from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer


def hybrid():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        QuantumConv2d(4),
        nn.Flatten(),
        QuantumLayer(4, n_layers=1),
        nn.Linear(4, 2),
    )


def by_name(groups):
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: group for group in groups}


def test_splits_circuits_kernels_and_the_rest():
    net = hybrid()
    groups = by_name(parameter_groups(net, lr=1e-2, quantum_lr=3e-2, weight_decay=0.1))
    conv, norm, quantum_conv, _, quantum_layer, dense = net
    expected = {
        "quantum": ("quantum", 3e-2, 0.0, [*quantum_conv.parameters(), *quantum_layer.parameters()]),
        "classical": ("classical", 1e-2, 0.1, [conv.weight, dense.weight]),
        "classical_no_decay": ("classical", 1e-2, 0.0, [conv.bias, norm.weight, norm.bias, dense.bias]),
    }
    assert groups.keys() == expected.keys()
    for name, (kind, lr, weight_decay, params) in expected.items():
        group = groups[name]
        assert (group["group"], group["lr"], group["weight_decay"]) == (kind, lr, weight_decay)
        assert [id(p) for p in group["params"]] == [id(p) for p in params]
        assert params


def test_every_trainable_parameter_is_in_exactly_one_group():
    net = hybrid()
    members = [id(p) for group in parameter_groups(net, lr=1e-2) for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in net.parameters())


def test_quantum_learning_rate_defaults_to_the_common_one():
    assert {group["lr"] for group in parameter_groups(hybrid(), lr=5e-3)} == {5e-3}


def test_a_bare_circuit_is_quantum():
    (group,) = parameter_groups(QuantumLayer(3, n_layers=1), lr=1e-2, weight_decay=0.1)
    assert (group["name"], group["weight_decay"]) == ("quantum", 0.0)


def test_empty_groups_and_frozen_parameters_are_left_out():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False))
    net[0].requires_grad_(False)
    (group,) = parameter_groups(net, lr=1e-2)
    assert group["name"] == "classical"
    assert [id(p) for p in group["params"]] == [id(net[1].weight)]


@pytest.mark.parametrize("build", [GVCO, torch.optim.AdamW, torch.optim.SGD])
def test_any_optimizer_takes_them(build):
    net = hybrid()
    optimizer = build(parameter_groups(net, lr=1e-2, quantum_lr=2e-2, weight_decay=0.01))
    net[:3](torch.rand(2, 1, 6, 6)).square().sum().backward()
    before = [p.detach().clone() for p in net[2].parameters()]
    optimizer.step()
    assert not any(map(torch.equal, before, net[2].parameters()))
    optimizer.load_state_dict(optimizer.state_dict())
    assert [group["group"] for group in optimizer.param_groups] == ["quantum", "classical", "classical"]
