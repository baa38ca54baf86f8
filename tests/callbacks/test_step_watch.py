"""Gradients are seen as the optimizer uses them, whatever it does with them."""

from typing import Any

import pytest
import torch
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn

from hqcnn_lab.callbacks.step_watch import StepWatch
from hqcnn_lab.optim import GVCO, QNG, SPSA, parameter_groups
from hqcnn_lab.quantum import QuantumLayer


def watch(optimizer: torch.optim.Optimizer) -> tuple[StepWatch, list[list[Tensor | None]], list[str]]:
    seen: list[list[Tensor | None]] = []
    order: list[str] = []

    def see(gradients: list[Tensor | None]) -> None:
        order.append("gradients")
        seen.append([None if g is None else g.clone() for g in gradients])

    return StepWatch(optimizer, see, lambda: order.append("before"), lambda: order.append("after")), seen, order


@pytest.mark.parametrize("how", ["closure", "positional", "none"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, AdamWScheduleFree, Prodigy, GVCO])
def test_gradients_are_of_this_step_and_before_it(optimizer: Any, how: str) -> None:
    # Lightning gives the step a closure, so that a hook before it sees the gradients of the step before. And
    # schedulefree divides a gradient in place in its step.
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    chosen = optimizer([weight], lr=0.1)
    if hasattr(chosen, "train"):
        chosen.train()
    watching, seen, order = watch(chosen)
    for factor in (3.0, 5.0):

        def closure(factor: float = factor) -> Tensor:
            chosen.zero_grad()
            loss = factor * weight.sum()
            loss.backward()
            return loss

        if how == "none":
            closure()
            chosen.step()
        else:
            loss = chosen.step(closure) if how == "positional" else chosen.step(closure=closure)
            assert isinstance(loss, Tensor)
    assert [gradients[0].tolist() for gradients in seen] == [[3.0, 3.0], [5.0, 5.0]]
    assert order == ["before", "gradients", "after"] * 2
    watching.end()
    chosen.step()
    assert len(seen) == 2


def test_of_a_closure_that_is_called_often_the_first_gradient_is_seen() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.LBFGS([weight], max_iter=5)
    _, seen, order = watch(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert [gradients[0].tolist() for gradients in seen] == [[2.0, 4.0]]
    assert order == ["before", "gradients", "after"]


def test_what_a_step_of_spsa_estimated_is_seen_after_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(QuantumLayer(4, 1), nn.Linear(4, 2))
    optimizer = SPSA(parameter_groups(net, 1e-2), lr=1e-2)
    batch = torch.randn(3, 4)
    _, seen, order = watch(optimizer)
    loss = net(batch).square().mean()
    loss.backward()
    exact, classical = net[0].weights.grad.clone(), net[1].weight.grad.clone()
    optimizer.add_loss(lambda: net(batch).square().mean())
    optimizer.step()
    [[angles, weight, _]] = seen
    assert order == ["before", "gradients", "after"]
    assert not torch.equal(angles, exact)
    assert angles.abs().unique().numel() < angles.numel()  # one slope along random signs
    assert torch.equal(weight, classical)


def test_of_qng_the_gradient_is_seen_not_the_direction() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(QuantumLayer(4, 1), nn.Linear(4, 2))
    optimizer = QNG(parameter_groups(net, 1e-2), lr=1e-2)
    optimizer.watch(net)
    _, seen, _ = watch(optimizer)
    net(torch.randn(3, 4)).square().mean().backward()
    exact = net[0].weights.grad.clone()
    optimizer.step()
    assert torch.equal(seen[0][0], exact)


def test_an_absent_and_a_sparse_gradient_are_none() -> None:
    table, unused, weight = nn.Embedding(3, 2, sparse=True), nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([table.weight, unused, weight], lr=0.1)
    _, seen, _ = watch(optimizer)
    (table(torch.tensor([1])) * weight).sum().backward()
    optimizer.step()
    assert [g is None for g in seen[0]] == [True, True, False]


@pytest.mark.parametrize("fused", [False, True])
def test_the_scale_of_a_grad_scaler_is_not_in_the_gradients(fused: bool) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=fused)  # fused, it is told the scale
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    _, seen, order = watch(optimizer)
    for factor in (3.0, float("inf"), 5.0):  # a step that the scaler leaves out is not seen, but by what it told it to
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    finite = [gradients[0] for gradients in seen if gradients[0].isfinite().all()]
    torch.testing.assert_close(torch.stack(finite), torch.tensor([[3.0, 3.0], [5.0, 5.0]]))
    assert len(seen) == (3 if fused else 2)
    assert order == ["before", "gradients", "after"] * len(seen)
