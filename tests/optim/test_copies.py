"""Every optimizer of ours goes on as it would have: copied, pickled, compiled, resumed from a file."""

import copy
import io
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from hqcnn_lab.build import build
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.optim import QNG, parameter_groups
from hqcnn_lab.quantum import QuantumConv2d

OURS = [
    path.stem
    for path in sorted((CONFIG_DIR / "optim").glob("*.yaml"))
    if "hqcnn_lab" in path.read_text() or "  - gvco" in path.read_text()
]
BATCHES = torch.rand(4, 3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Pair = tuple[nn.Module, torch.optim.Optimizer]


@cache
def settings(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(compose([f"optim={name}"]).optim, resolve=True)


def make(name: str, seed: int = 0) -> Pair:
    spec = dict(settings(name))
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), QuantumConv2d(2), nn.Flatten(), nn.Linear(32, 2))
    groups = parameter_groups(net, spec["lr"], spec.pop("quantum_lr"), spec.pop("weight_decay"))
    optimizer = build(spec, groups)
    if isinstance(optimizer, QNG):
        optimizer.watch(net)
    return net, optimizer


def train(pair: Pair, batches: torch.Tensor, step: Callable[[], Any] | None = None) -> list[torch.Tensor]:
    net, optimizer = pair

    def loss(batch: torch.Tensor) -> torch.Tensor:
        return net(batch).square().sum()

    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        if hasattr(optimizer, "add_loss"):
            optimizer.add_loss(lambda batch=batch: loss(batch))
        (step or optimizer.step)()
    return [parameter.detach().clone() for parameter in net.parameters()]


def through_a_file(pair: Pair) -> Pair:
    content = io.BytesIO()
    torch.save(pair, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


def through_state(name: str, pair: Pair) -> Pair:
    content = io.BytesIO()
    torch.save([part.state_dict() for part in pair], content)
    content.seek(0)
    again = make(name, seed=9)
    for part, state in zip(again, torch.load(content, weights_only=True), strict=True):
        part.load_state_dict(state)
    return again


WAYS: dict[str, Callable[[str, Pair], Pair]] = {
    "deepcopy": lambda name, pair: copy.deepcopy(pair),
    "copy": lambda name, pair: (pair[0], copy.copy(pair[1])),
    "pickle": lambda name, pair: pickle.loads(pickle.dumps(pair)),
    "torch.save": lambda name, pair: through_a_file(pair),
    "state_dict": through_state,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OURS)
def test_goes_on_as_it_would_have(name, way):
    expected = train(make(name), BATCHES)
    pair = make(name)
    train(pair, BATCHES[:2])
    assert all(map(torch.equal, expected, train(WAYS[way](name, pair), BATCHES[2:])))


@pytest.mark.parametrize("name", OURS)
def test_a_copy_and_its_original_do_not_meddle(name):
    expected = train(make(name), BATCHES)
    pair = make(name)
    train(pair, BATCHES[:2])
    train(copy.deepcopy(pair), BATCHES.flip(0))
    assert all(map(torch.equal, expected, train(pair, BATCHES[2:])))


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_compiled_step_is_the_same_step(name):
    # Regression: compiled, QNG's and SPSA's classical weights never moved, and nothing was said.
    torch._dynamo.reset()
    pair = make(name)
    step = torch.compile(pair[1].step, backend="eager")
    assert all(map(torch.equal, train(make(name), BATCHES), train(pair, BATCHES, step)))


def test_no_batch_is_in_a_pickled_network_or_optimizer():
    pair = make("qng")
    train(pair, BATCHES[:1])
    few, many = (copy.deepcopy(pair) for _ in range(2))
    train(many, torch.rand(1, 300, 1, 6, 6))
    assert abs(len(pickle.dumps(few)) - len(pickle.dumps(many))) < 100


def test_qng_alone_asks_to_watch_again_and_spsa_for_new_losses():
    net, optimizer = make("qng")
    fresh = QNG(optimizer.param_groups)
    train((net, optimizer), BATCHES[:1])
    with pytest.raises(RuntimeError, match=r"belongs to no watched circuit; call watch\(net\) first"):
        fresh.step()
    net, optimizer = make("spsa")
    optimizer.add_loss(lambda: net(BATCHES[0]).sum())
    with pytest.raises(RuntimeError, match="no loss to evaluate; call add_loss"):
        copy.deepcopy(optimizer).step()
