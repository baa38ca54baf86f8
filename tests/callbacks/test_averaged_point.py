"""An optimizer that averages by itself: batches are trained at its own point, and its average is judged and saved."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import tiny_config
from interrupted_run import assert_same_result, cut, into, killed
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hqcnn_lab.build import build
from hqcnn_lab.callbacks import AveragedPoint, WeightAverage
from hqcnn_lab.config.key import plain_values
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.run.training import train

LR, BETA, DECAY, WARMUP = 0.3, 0.8, 0.01, 3
BATCHES = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Watched(pl.LightningModule):
    """Keeps the weights that each batch is trained at, and each validation judges."""

    def __init__(self, optimizer: type[torch.optim.Optimizer] = SGDScheduleFree) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 1, bias=False), nn.BatchNorm1d(1, affine=False)).double()
        self.optimizer = optimizer
        self.trained: list[Tensor] = []
        self.judged: list[Tensor] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.trained.append(self.net[0].weight.detach().clone())
        self.net[1](self.net[0](batch[0]).detach())  # moves the statistics, and the loss does not depend on them
        return (self.net[0](batch[0]) - 1).square().mean()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.judged.append(self.net[0].weight.detach().clone())

    def configure_optimizers(self) -> Any:
        if self.optimizer is torch.optim.SGD:
            return torch.optim.SGD(self.parameters(), LR)
        more = {"momentum": BETA} if self.optimizer is SGDScheduleFree else {"betas": (BETA, 0.9)}
        return self.optimizer(self.parameters(), LR, weight_decay=DECAY, warmup_steps=WARMUP, **more)


def fit(module: Watched, folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[AveragedPoint(), *callbacks],
        **{"max_epochs": 2, "num_sanity_val_steps": 1} | options,
    )
    data = DataLoader(TensorDataset(BATCHES.flatten(0, 1)), 5)
    trainer.fit(module, data, DataLoader(TensorDataset(BATCHES[0]), 5))
    return trainer


def by_the_paper(start: Tensor, n_steps: int) -> tuple[list[Tensor], list[Tensor]]:
    """Schedule-Free SGD (Defazio et al. 2024, Algorithm 1, warm-up and weights lr²) with x, y and z written out."""
    x = z = start
    trained, averages, total = [], [x], 0.0
    for step in range(n_steps):
        y = (1 - BETA) * z + BETA * x
        trained.append(y)
        images = BATCHES[step % len(BATCHES)]
        gradient = 2 * ((images @ y.T - 1) * images).mean(0, keepdim=True) + DECAY * y
        lr = LR * min((step + 1) / WARMUP, 1)
        total += lr**2
        z = z - lr * gradient
        x = (1 - lr**2 / total) * x + lr**2 / total * z
        averages.append(x)
    return trained, averages


def test_batches_are_trained_at_y_and_x_is_judged(tmp_path: Path) -> None:
    module = Watched()
    start = module.net[0].weight.detach().clone()
    fit(module, tmp_path, val_check_interval=2)
    trained, averages = by_the_paper(start, 8)
    torch.testing.assert_close(module.trained, trained, rtol=1e-12, atol=1e-12)
    # The sanity check, then two validations an epoch; after the fit, the average stays.
    torch.testing.assert_close(module.judged, averages[:1] + averages[2::2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.net[0].weight.detach(), averages[-1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(trained[4], averages[4], rtol=1e-3)  # the two are not the same


@pytest.mark.parametrize("optimizer", [SGDScheduleFree, AdamWScheduleFree])
def test_judging_leaves_no_trace_in_training(optimizer: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    often, never = Watched(optimizer), Watched(optimizer)
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(often, tmp_path, save, val_check_interval=1)
    fit(never, tmp_path, limit_val_batches=0)
    assert all(map(torch.equal, often.trained, never.trained))
    assert all(map(torch.equal, often.state_dict().values(), never.state_dict().values()))


class Bare(ModelCheckpoint):
    """Lightning takes a second one by another name."""


def test_every_checkpoint_is_of_the_average_and_keeps_the_training_point(tmp_path: Path) -> None:
    module = Watched()
    start = module.net[0].weight.detach().clone()
    each = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    bare = Bare(tmp_path, "bare", save_on_train_epoch_end=True, save_weights_only=True)
    fit(module, tmp_path, each, last, bare, check_val_every_n_epoch=2, max_epochs=3)
    trained, averages = by_the_paper(start, 13)
    steps = {name: step for step in range(1, 13) for name in [f"step={step}"]} | {"last": 12}
    for name, step in steps.items():
        checkpoint = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == step
        torch.testing.assert_close(checkpoint["state_dict"]["net.0.weight"], averages[step], rtol=1e-12, atol=0)
        torch.testing.assert_close(checkpoint["training_point"]["net.0.weight"], trained[step], rtol=1e-12, atol=0)
        # As the library wants it: the average beside an optimizer in its eval mode.
        weight = nn.Parameter(checkpoint["state_dict"]["net.0.weight"])
        optimizer = SGDScheduleFree([weight], LR, BETA)
        optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        optimizer.train()
        torch.testing.assert_close(weight.detach(), trained[step], rtol=1e-12, atol=0)
    bare_one = torch.load(tmp_path / "bare.ckpt", weights_only=True)
    torch.testing.assert_close(bare_one["state_dict"]["net.0.weight"], averages[12], rtol=1e-12, atol=0)


def test_buffers_are_put_back(tmp_path: Path) -> None:
    """Whatever judging makes of batch normalization's statistics, training goes on from its own."""

    class Spoils(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            pl_module.net[1].running_mean.fill_(1e6)

    whole, spoilt = Watched(), Watched()
    seen: list[float] = []

    class Looks(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            seen.append(pl_module.net[1].running_mean.item())

    fit(whole, tmp_path, Looks())
    fit(spoilt, tmp_path, Looks(), Spoils(), num_sanity_val_steps=0)
    assert seen[:8] == seen[8:]


def test_any_other_optimizer_is_left_alone(tmp_path: Path) -> None:
    module = Watched(torch.optim.SGD)
    save = ModelCheckpoint(tmp_path, "one", save_on_train_epoch_end=True)
    trainer = fit(module, tmp_path, save)
    assert "training_point" not in torch.load(tmp_path / "one.ckpt", weights_only=True)
    point = trainer.callbacks[0]
    assert isinstance(point, AveragedPoint)
    assert point._training_point is None
    assert torch.equal(module.judged[-1], module.net[0].weight)


def test_beside_a_weight_average_that_one_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Watched()
    start = module.net[0].weight.detach().clone()
    save = ModelCheckpoint(tmp_path, "one", save_on_train_epoch_end=True)
    fit(module, tmp_path, WeightAverage(0.1), save, max_epochs=1)
    assert capsys.readouterr().out.count("warning: SGDScheduleFree averages by itself") == 1
    trained, _ = by_the_paper(start, 5)
    torch.testing.assert_close(module.trained, trained[:4], rtol=1e-12, atol=1e-12)
    mean = trained[1]
    for point in trained[2:]:
        mean = 0.1 * mean + 0.9 * point
    torch.testing.assert_close(module.judged[-1], mean, rtol=1e-10, atol=1e-12)
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    torch.testing.assert_close(checkpoint["state_dict"]["net.0.weight"], mean, rtol=1e-10, atol=1e-12)
    assert "training_point" not in checkpoint


SMALL = ["dataset.n_train=48", "dataset.n_test=8", "dataset.batch_size=8", "trainer.max_epochs=2"]


@pytest.mark.slow
def test_a_run_that_averages_twice_goes_on_as_it_would_have(tmp_path: Path) -> None:
    twice = ["optim=schedule_free_adamw", "callbacks.weight_average.decay=0.9", *SMALL]
    config = tiny_config(tmp_path, *twice)
    train(into(config, tmp_path / "whole"))
    cut(into(config, tmp_path / "cut"), None, "training", 1, 2, killed)
    train(into(config, tmp_path / "resumed", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt"))
    assert_same_result(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.slow
@pytest.mark.parametrize("scored", ["last", "best"])
def test_a_run_is_scored_at_the_average_also_from_its_checkpoint(scored: str, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "optim=schedule_free_adamw", f"test_checkpoint={scored}", "optim.warmup_steps=0")
    cut(into(config, tmp_path / "cut"), None, "test", 2, 0, killed)
    # The training is over: it goes straight to the test.
    train(into(config, tmp_path / "run", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt", resume="auto"))
    train(into(config, tmp_path / "whole"))
    summary, other = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("run", "whole"))
    assert summary["test/loss"] == other["test/loss"]
    assert (tmp_path / "run/predictions.csv").read_text() == (tmp_path / "whole/predictions.csv").read_text()

    path = tmp_path / f"whole/checkpoints/{scored}.ckpt"
    model = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    data = build(plain_values(config)["dataset"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    assert scores["test/loss"] == pytest.approx(summary["test/loss"], rel=1e-6)
    if scored == "last":
        [scores] = trainer.validate(model, datamodule=data, verbose=False)
        assert scores["val/loss"] == pytest.approx(summary["val/loss"], rel=1e-5)
    model.load_state_dict(torch.load(path, weights_only=True)["training_point"])
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    assert scores["test/loss"] != pytest.approx(summary["test/loss"], rel=1e-4)


def test_lightnings_own_average_is_refused(tmp_path: Path) -> None:
    swa = ["+callbacks.x._target_=lightning.pytorch.callbacks.StochasticWeightAveraging", "+callbacks.x.swa_lrs=0.01"]
    with pytest.raises(MisconfigurationException, match="not with AdamWScheduleFree, which averages by itself"):
        train(tiny_config(tmp_path / "run", "optim=schedule_free_adamw", *swa, *SMALL))
