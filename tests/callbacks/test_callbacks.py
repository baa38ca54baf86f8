"""What the callbacks log is what happened."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hqcnn_lab.callbacks import Convergence, EpochSeed, GradientVariance, OptimizerState, Progress, WeightAverage
from hqcnn_lab.callbacks.gradient_moments import GradientMoments
from hqcnn_lab.optim import GVCO, SPSA, parameter_groups
from hqcnn_lab.quantum import QuantumLayer


class Circuit(pl.LightningModule):
    """A dense layer and a circuit, trained on random angles."""

    def __init__(self, optimizer: type = GVCO) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), QuantumLayer(4, 1))
        self.optimizer = optimizer
        self.seen: list[dict[str, torch.Tensor]] = []

    def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
        return (self.net(batch) - 0.5).square().mean()

    def on_train_batch_start(self, batch: torch.Tensor, batch_index: int) -> None:
        if isinstance(optimizer := self.optimizers(use_pl_optimizer=False), SPSA):
            optimizer.add_loss(lambda: (self.net(batch) - 0.5).square().mean())

    def optimizer_step(self, *arguments: Any) -> None:
        super().optimizer_step(*arguments)
        self.seen.append({name: p.grad.clone() for name, p in self.net.named_parameters() if p.grad is not None})

    def configure_optimizers(self) -> Any:
        return self.optimizer(parameter_groups(self.net, 0.01, quantum_lr=0.005), lr=0.01)


def fit(module: pl.LightningModule, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    torch.manual_seed(0)
    settings = {"max_epochs": 1, "log_every_n_steps": 1, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **settings | options)
    trainer.fit(module, DataLoader(torch.randn(12, 4), 4))
    return trainer


def test_gradient_variance_is_of_the_gradients_the_optimizer_used() -> None:
    # Regression: in `on_before_optimizer_step` Lightning has not clipped the gradients yet.
    module = Circuit()
    trainer = fit(module, GradientVariance(), accumulate_grad_batches=3, gradient_clip_val=1e-3)
    [gradients] = module.seen  # one step: after accumulation and clipping
    weight, bias, angles = (gradients[name] for name in ("0.weight", "0.bias", "1.weights"))
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    classical = torch.cat([weight.flatten(), bias])
    assert torch.cat([classical, angles.flatten()]).norm() == pytest.approx(1e-3, rel=1e-3)
    expected = {"quantum": angles, "classical": classical, "layer/0": weight, "layer/1.weights": angles}
    for name, gradient in expected.items():
        spread = gradient.var(correction=0).item()
        assert logged[f"grad/{name}/variance_over_elements"] == pytest.approx(spread, rel=1e-4)
    assert logged["grad/classical/norm"] == pytest.approx(classical.norm().item(), rel=1e-4)
    assert not any("over_steps" in name or "signal" in name for name in logged)  # of one step there is none


def test_gradient_variance_over_steps_pools_elements() -> None:
    module = Circuit(torch.optim.Adam)
    logged = fit(module, GradientVariance(), max_epochs=4).callback_metrics
    moments = GradientMoments(dict(module.net.named_parameters()))
    for step in module.seen:
        moments.update([step[name] for name in moments.names])
    _, variance, signal = moments.table
    weight, bias, angles = variance.tolist()
    assert logged["grad/layer/0/variance_over_steps"].item() == pytest.approx(weight, rel=1e-4)
    assert logged["grad/quantum/variance_over_steps"].item() == pytest.approx(angles, rel=1e-4)
    assert logged["grad/quantum/signal"].item() == pytest.approx(signal[2].item(), rel=1e-4)
    assert logged["grad/classical/variance_over_steps"].item() == pytest.approx((16 * weight + 4 * bias) / 20, rel=1e-4)


def test_gradient_variance_is_logged_as_often_as_the_trainer_logs() -> None:
    assert "grad/quantum/norm" in fit(Circuit(), GradientVariance(), log_every_n_steps=3).callback_metrics
    assert "grad/quantum/norm" not in fit(Circuit(), GradientVariance(), log_every_n_steps=4).callback_metrics


def test_optimizer_state_is_what_the_optimizer_holds() -> None:
    module = Circuit()
    trainer = fit(module, OptimizerState())
    [optimizer] = trainer.optimizers
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert (logged["lr/quantum"], logged["lr/classical"]) == (pytest.approx(0.005), pytest.approx(0.01))
    weight, bias, angles = (optimizer.state[p] for p in module.net.parameters())
    assert logged["control/quantum/rate"] == pytest.approx(angles["rate"].item())
    assert logged["control/quantum/rate"] == logged["effective_lr/quantum"] < logged["lr/quantum"]
    assert logged["control/quantum/momentum"] == logged["momentum/quantum"] == pytest.approx(0.9)
    assert logged["control/layer/1.weights/average_weight"] == angles["average_weight"].item()
    assert logged["control/quantum/noise"] == angles["noise"].item()
    rates = weight["rate"].item(), bias["rate"].item()
    assert logged["control/layer/0/rate"] == pytest.approx(rates[0])
    assert logged["control/classical/rate"] == pytest.approx(sum(rates) / 2)


def test_optimizer_state_reads_what_an_optimizer_says_of_each_tensor() -> None:
    class Steered(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            for n, p in enumerate(p for group in self.param_groups for p in group["params"]):
                given = {"rate": 0.1 * n, "momentum": 0.5 + 0.1 * n, "average_weight": 1 / (n + 1), "noise": 2.0}
                self.state[p].update({name: torch.tensor(x) for name, x in given.items()})
            return loss

    logged = {name: x.item() for name, x in fit(Circuit(Steered), OptimizerState()).callback_metrics.items()}
    assert logged["control/layer/0/rate"] == pytest.approx(0.1)  # the circuits come first
    assert logged["control/classical/average_weight"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert logged["control/classical/momentum"] == logged["momentum/classical"] == pytest.approx(0.65)
    assert logged["control/quantum/rate"] == logged["effective_lr/quantum"] == 0
    assert logged["lr/quantum"] == pytest.approx(0.005)


def test_optimizer_state_leaves_out_a_group_without_gradients() -> None:
    class Unused(Circuit):
        def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
            return self.net[0](batch).square().mean()

    logged = fit(Unused(), OptimizerState()).callback_metrics
    assert "control/classical/average_weight" in logged
    assert "control/quantum/average_weight" not in logged


def test_rates_are_those_of_the_step_that_was_taken() -> None:
    class Scheduled(Circuit):
        def configure_optimizers(self) -> Any:
            chosen = super().configure_optimizers()
            halving = torch.optim.lr_scheduler.ExponentialLR(chosen, 0.5)
            return {"optimizer": chosen, "lr_scheduler": {"scheduler": halving, "interval": "step"}}

    module = Scheduled()
    logged = fit(module, OptimizerState()).callback_metrics  # three steps
    assert logged["lr/quantum"].item() == pytest.approx(0.005 / 4)
    share = logged["control/quantum/rate"].item() / (0.005 / 4)
    assert 0.03 * 0.1 < share < 0.03  # three of a hundred steps of warm-up, times the size of the angles


def test_controls_have_the_same_names_whatever_the_optimizer_calls_them() -> None:
    def logged_by(optimizer: Any) -> dict[str, float]:
        return {name: x.item() for name, x in fit(Circuit(optimizer), OptimizerState()).callback_metrics.items()}

    sgd = logged_by(lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.7))
    assert sgd["control/classical/momentum"] == sgd["momentum/classical"] == pytest.approx(0.7)
    assert sgd["control/classical/rate"] == sgd["effective_lr/classical"] == pytest.approx(0.01)
    adam = logged_by(torch.optim.Adam)
    assert adam["control/quantum/momentum"] == pytest.approx(0.9)
    assert not any(name.startswith(("gvco", "control/layer")) for name in adam)
    spsa = logged_by(SPSA)
    assert "control/quantum/momentum" not in spsa  # betas are its AdamW's
    assert spsa["control/classical/momentum"] == pytest.approx(0.9)


def test_convergence_keeps_the_first_epoch_at_each_level() -> None:
    convergence = Convergence([0.9, 0.95, 0.98])
    accuracies = [0.5, 0.96, 0.91, 0.97]

    def epoch(watcher: Convergence, index: int) -> None:
        metrics = {"val/accuracy": torch.tensor(accuracies[index])}
        state = SimpleNamespace(fn="fit")
        trainer = SimpleNamespace(
            callback_metrics=metrics,
            current_epoch=index,
            global_step=10 * (index + 1),
            state=state,
            sanity_checking=False,
        )
        watcher.on_train_epoch_start(trainer, None)
        watcher.on_validation_end(trainer, None)
        watcher.on_train_epoch_end(trainer, None)

    for index in (0, 1):
        epoch(convergence, index)
    resumed = Convergence([0.9, 0.95, 0.98])
    resumed.load_state_dict(convergence.state_dict())
    for index in (2, 3):
        epoch(resumed, index)
    summary = resumed.summary()
    assert (summary["convergence/epochs_to_90"], summary["convergence/steps_to_90"]) == (2, 20)
    assert summary["convergence/epochs_to_95"] == 2
    assert summary["convergence/epochs_to_98"] is None
    assert summary["convergence/seconds_to_98"] is None
    assert (summary["val/best_epoch"], summary["val/best_accuracy"]) == (4, pytest.approx(0.97))
    assert summary["seconds/training"] >= convergence.seconds > 0


def test_epoch_seed_depends_on_seed_epoch_and_rank_alone() -> None:
    def draw(seed: int, epoch: int, rank: int = 0) -> float:
        EpochSeed(seed).on_train_epoch_start(SimpleNamespace(current_epoch=epoch, global_rank=rank), None)
        return torch.rand(1).item()

    first = draw(1, 2)
    torch.rand(7)
    assert draw(1, 2) == first
    assert len({first, draw(1, 3), draw(2, 2), draw(1, 2, rank=1)}) == 4


def test_weight_average_is_the_exponential_mean_of_the_weights(tmp_path: Path) -> None:
    class Tracking(Circuit):
        def on_train_batch_end(self, *_: Any) -> None:
            self.__dict__.setdefault("track", []).append(self.net[0].weight.detach().clone())

    module = Tracking(torch.optim.SGD)
    fit(module, WeightAverage(decay=0.15))
    first, second, third = module.track
    # Lightning's callbacks run before the module's hook, so each weight tracked is the one that was just averaged.
    expected = 0.15 * (0.15 * first + 0.85 * second) + 0.85 * third
    torch.testing.assert_close(module.net[0].weight.detach(), expected)


def test_weight_average_of_a_short_run_forgets_its_start() -> None:
    # Regression: at a constant decay of 0.995 the average of a 400-step run was one seventh initialization.
    averaged = WeightAverage(decay=0.995)
    mean, current = [torch.zeros(1)], [torch.ones(1)]
    for step in range(1, 101):
        averaged._latest_update_step = step
        averaged._average(mean, current, None)
    assert mean[0].item() > 0.999


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_epoch_has_a_line_with_the_same_figures(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regression: on a terminal each epoch overwrote the last, and the loss on validation was nowhere.
    class Validated(Circuit):
        def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
            self.log("train/loss", 0.25, on_epoch=True, on_step=False)
            return super().training_step(batch, batch_index)

        def validation_step(self, batch: torch.Tensor, batch_index: int) -> None:
            self.log_dict({"val/loss": 0.5, "val/accuracy": 0.75})

        def val_dataloader(self) -> DataLoader:
            return DataLoader(torch.zeros(4, 4), 4)

    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    progress = Progress()
    progress._console_kwargs = {"force_terminal": True, "width": 100}
    fit(Validated(), progress, max_epochs=2, enable_progress_bar=True, enable_model_summary=False)
    lines = [re.sub(r"\x1b\[[\d;?]*\w", "", line).strip() for line in re.split(r"[\r\n]+", capsys.readouterr().out)]
    figures = "train/loss 0.2500  val/loss 0.5000  val/accuracy 0.7500"
    assert [line for line in lines if "train/loss" in line] == [f"epoch {n}/2  {figures}" for n in (1, 2)]
    assert any("━" in line for line in lines) == is_terminal
