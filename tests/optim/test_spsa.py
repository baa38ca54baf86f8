"""SPSA's estimate, its descent, what a step leaves alone, and how Lightning runs it."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from conftest import tiny_config
from omegaconf import OmegaConf
from torch import nn

from hqcnn_lab.build import build
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.optim import SPSA, parameter_groups
from hqcnn_lab.quantum import QuantumLayer

MATRIX = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.5]], dtype=torch.float64)


def quadratic(x: torch.Tensor) -> torch.Tensor:
    return x @ MATRIX @ x / 2


def point() -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))


def test_mean_direction_is_the_gradient():
    # Of a quadratic a central difference is exact: E[Δ Δᵀ g] = g, and the spread is that of the signs alone.
    x, n = point(), 4000
    optimizer = SPSA([x], lr=0.0, n_directions=n)
    optimizer.add_loss(lambda: quadratic(x))
    optimizer.step()
    gradient = MATRIX @ x.detach()
    spread = (gradient.square().sum() / n).sqrt()
    assert (x.grad - gradient).abs().max() < 5 * spread


def test_one_direction_is_signs_times_the_difference():
    x = point()
    optimizer = SPSA([x], lr=0.1, c=0.3, gamma=0.5, weight_decay=0.2)
    seen: list[torch.Tensor] = []

    def loss() -> torch.Tensor:
        seen.append(x.detach().clone())
        return x.pow(3).sum()  # not a quadratic: the perturbation's size shows

    for k in range(3):
        start = x.detach().clone()
        seen.clear()
        optimizer.add_loss(loss)
        optimizer.step()
        c = 0.3 / (k + 1) ** 0.5
        signs = (seen[0] - start) / c
        assert torch.allclose(signs.abs(), torch.ones(3).double())
        assert torch.allclose(seen[1], start - c * signs)
        expected = (seen[0].pow(3).sum() - seen[1].pow(3).sum()) / (2 * c) * signs
        assert torch.allclose(x.detach(), start * (1 - 0.1 * 0.2) - 0.1 * expected)
        assert torch.allclose(x.grad, expected)


def test_descends():
    x = point()
    optimizer = SPSA([x], lr=0.05)
    start = quadratic(x).item()
    for _ in range(300):
        optimizer.add_loss(lambda: quadratic(x))
        optimizer.step()
    assert quadratic(x).item() < 1e-2 * start


def test_the_losses_of_several_batches_are_averaged():
    one, both = point(), point()
    optimizers = [SPSA([one], lr=0.1), SPSA([both], lr=0.1)]
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    optimizers[0].add_loss(lambda: quadratic(one))
    optimizers[1].add_loss(lambda: quadratic(both) * 1.5)
    optimizers[1].add_loss(lambda: quadratic(both) * 0.5)
    for optimizer in optimizers:
        optimizer.step()
    assert torch.allclose(one, both)


def test_both_evaluations_draw_the_same_numbers_and_the_next_batch_others():
    x = point()
    optimizer = SPSA([x], lr=0.1, n_directions=2)
    numbers: list[float] = []

    def loss() -> torch.Tensor:
        assert not torch.is_grad_enabled()
        numbers.append(torch.rand(()).item())
        return quadratic(x)

    before = torch.get_rng_state()
    optimizer.add_loss(loss)
    optimizer.step()
    assert len(set(numbers)) == 1
    assert len(numbers) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failed_evaluation_leaves_the_weights():
    x = point()
    start = x.detach().clone()
    optimizer = SPSA([x])
    optimizer.add_loss(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    assert torch.equal(x, start)


def test_without_a_loss_it_says_what_to_do():
    x = point()
    optimizer = SPSA([x])
    optimizer.add_loss(lambda: quadratic(x))
    optimizer.step()
    with pytest.raises(RuntimeError, match="call add_loss"):
        optimizer.step(lambda: quadratic(x))


@pytest.mark.parametrize(
    ("name", "value"), [("c", 0.0), ("c", float("inf")), ("gamma", -1.0), ("n_directions", 0), ("n_directions", 1.5)]
)
def test_wrong_argument_is_refused(name, value):
    with pytest.raises(ValueError, match=f"SPSA: {name} must be"):
        SPSA([point()], **{name: value})


def hybrid() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), QuantumLayer(2, 1, shots=20), nn.Linear(2, 2))


def test_the_classical_part_is_stepped_by_adamw_and_a_resumed_run_draws_on(tmp_path):
    def make(net: nn.Module) -> SPSA:
        return SPSA(parameter_groups(net, lr=1e-2, weight_decay=0.1), lr=1e-2)

    def step(net: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
        torch.manual_seed(7)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = net(batch).square().sum()
            loss.backward()
            return loss

        if isinstance(optimizer, SPSA):
            optimizer.add_loss(lambda: net(batch).square().sum())
        assert optimizer.step(closure).item() > 0

    net, batches = hybrid(), torch.rand(4, 5, 2)
    optimizer = make(net)
    twin = hybrid()
    step(net, optimizer, batches[0])
    step(twin, torch.optim.AdamW(parameter_groups(twin, lr=1e-2, weight_decay=0.1)), batches[0])
    assert torch.equal(net[0].weight, twin[0].weight)
    assert torch.equal(net[2].bias, twin[2].bias)
    assert not torch.equal(net[1].weights, twin[1].weights)

    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "one.pt")
    saved = torch.load(tmp_path / "one.pt", weights_only=True)
    twin.load_state_dict(saved["net"])
    resumed = make(twin)
    resumed.load_state_dict(saved["optimizer"])
    for batch in batches[1:]:
        step(net, optimizer, batch)
        step(twin, resumed, batch)
    assert all(map(torch.equal, net.parameters(), twin.parameters()))


def fit(folder: Path, optim: str, n_directions: int = 1) -> tuple[ImageClassifier, pl.Trainer]:
    """Two epochs with circuits that all but stand still, so that every optimizer sees the same losses."""
    chosen = [f"optim={optim}", "optim.quantum_lr=1e-30", "circuit.shots=50"]
    chosen += [f"optim.n_directions={n_directions}"] if optim == "spsa" else []
    config = tiny_config(folder, *chosen)
    plain = OmegaConf.to_container(config, resolve=True)
    data = build(plain["dataset"])
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    parts = {name: plain[name] for name in ("model", "optim", "scheduler")}
    model = ImageClassifier(**parts, classes=list(data.classes), image_size=16)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=2, enable_model_summary=False, num_sanity_val_steps=0, **quiet)
    torch.manual_seed(1)
    trainer.fit(model, datamodule=data)
    return model, trainer


@pytest.mark.slow
def test_running_averages_and_logged_metrics_are_those_of_adamw(tmp_path):
    # The extra evaluations must not be seen: neither in batch normalization nor in the log nor in random numbers.
    model, trainer = fit(tmp_path / "adamw", "adamw")
    same, trainer_of_same = fit(tmp_path / "spsa", "spsa", n_directions=2)
    assert trainer.callback_metrics.keys() == trainer_of_same.callback_metrics.keys()
    for name, value in trainer.callback_metrics.items():
        assert torch.equal(value, trainer_of_same.callback_metrics[name]), name
    buffers = dict(same.net.named_buffers())
    assert buffers
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.net.named_buffers())
    assert all(map(torch.equal, model.net.parameters(), same.net.parameters()))
