"""The literal reading of the paper: as its docstring says, step by step."""

import math

import pytest
import torch
from gvco_runs import gradient_stream

from hqcnn_lab.optim import GVCOLiteral


def test_follows_its_formulas():
    stream = list(gradient_stream([(4,)], 25, seed=1))
    theta = torch.arange(4.0, dtype=torch.float64)
    parameter = torch.nn.Parameter(theta.clone())
    optimizer = GVCOLiteral([parameter], lr=0.1, momentum=0.8, rho=0.9, weight_decay=0.01)
    a = b = v = torch.zeros(4, dtype=torch.float64)
    for t, (g,) in enumerate(stream, start=1):
        a, b = 0.9 * a + 0.1 * g, 0.9 * b + 0.1 * g**2
        variance = (b / (1 - 0.9**t) - (a / (1 - 0.9**t)) ** 2).clamp(min=0).mean()
        v = 0.8 / (1 + variance) * v + g
        theta = theta * (1 - 0.1 * 0.01) - 0.1 / (1 + variance) * v
        parameter.grad = g
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), theta, rtol=1e-12, atol=1e-12)
    assert optimizer.state[parameter]["lr_scale"].item() == pytest.approx(1 / (1 + variance.item()))


def test_without_variance_it_is_heavy_ball_sgd():
    ours, theirs = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizers = [GVCOLiteral([ours], lr=0.1), torch.optim.SGD([theirs], lr=0.1, momentum=0.9)]
    for _ in range(10):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)  # never changes
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_high_variance_lowers_both_controls():
    quiet, loud = (torch.nn.Parameter(torch.zeros(50)) for _ in range(2))
    optimizer = GVCOLiteral([quiet, loud])
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        noise = torch.randn(50, generator=generator)
        quiet.grad, loud.grad = 0.1 * noise, 10 * noise
        optimizer.step()
    for control in ("lr_scale", "momentum"):
        assert optimizer.state[loud][control] < 0.1 * optimizer.state[quiet][control]


def test_a_broken_gradient_leaves_everything_as_it_was():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = GVCOLiteral([parameter], weight_decay=0.1)
    for value in (1.0, 2.0):
        parameter.grad = torch.full((3,), value)
        optimizer.step()
    before = [parameter.detach().clone(), *(s.clone() for s in optimizer.state[parameter].values())]
    parameter.grad = torch.tensor([1.0, math.nan, 1.0])
    optimizer.step()
    assert all(map(torch.equal, before, [parameter.detach(), *optimizer.state[parameter].values()]))


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("momentum", 1.0), ("rho", 1.5), ("weight_decay", math.inf)])
def test_invalid_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"GVCOLiteral: {name} must be"):
        GVCOLiteral([torch.nn.Parameter(torch.ones(2))], **{name: value})


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        GVCOLiteral(table.parameters()).step()
