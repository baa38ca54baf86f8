"""Our callbacks beside Lightning's own, and steps without a gradient, a closure or an optimizer of ours."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import TINY_PHANTOM, tiny_config
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader

from hqcnn_lab.callbacks import (
    Convergence,
    EpochSeed,
    GradientVariance,
    MetricsFirst,
    OptimizerState,
    Progress,
    ResumeState,
    StopCheckpoint,
    WeightAverage,
)
from hqcnn_lab.callbacks.checkpoint_io import WholeFileIO
from hqcnn_lab.config.compose import compose
from hqcnn_lab.optim import GVCO, QNG, parameter_groups
from hqcnn_lab.quantum import QuantumLayer
from hqcnn_lab.run.training import train


class Hybrid(pl.LightningModule):
    def __init__(self, optimizer: str = "gvco") -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), QuantumLayer(4, 1), nn.Linear(4, 2))
        self.optimizer = optimizer
        self.lr = 0.01

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor | None:
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log_dict({"val/accuracy": float(index), "val/loss": self.net(batch[0]).square().mean()})

    def configure_optimizers(self) -> Any:
        if self.optimizer == "foreign":  # its groups have no names of ours
            return torch.optim.SGD(self.net.parameters(), lr=0.01)
        optimizer = {"gvco": GVCO, "qng": QNG}[self.optimizer](parameter_groups(self.net, 0.01), lr=0.01)
        if self.optimizer == "qng":
            optimizer.watch(self.net)
        return optimizer


class NoLoss(Hybrid):
    """Every other step is skipped, and the network of the last has no gradient."""

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor | None:
        return None if index % 2 == 0 else torch.zeros((), requires_grad=True)


class ByHand(Hybrid):
    """Steps without a closure."""

    automatic_optimization = False

    def training_step(self, batch: torch.Tensor, index: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, index))
        optimizer.step()


class Empty(Hybrid):
    def configure_optimizers(self) -> None:
        return None


def fit(module: pl.LightningModule, folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    torch.manual_seed(0)
    ours = [EpochSeed(0), WeightAverage(), GradientVariance(), OptimizerState(), Convergence(), Progress()]
    every = [MetricsFirst(), *ours, *callbacks, ResumeState(), StopCheckpoint(folder)]
    settings = {"max_epochs": 2, "log_every_n_steps": 1, "num_sanity_val_steps": 0} | options
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder),
        callbacks=every,
        plugins=[WholeFileIO()],
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    images = torch.utils.data.TensorDataset(torch.randn(12, 4))
    trainer.fit(module, DataLoader(images, 4), DataLoader(images, 4))
    return trainer


LIGHTNINGS = {
    # Regression: after its last epoch it steps without a gradient, "stack expects a non-empty TensorList".
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.01),
    "accumulation": lambda: GradientAccumulationScheduler({0: 3, 1: 1}),
    "timer": lambda: Timer(duration={"seconds": 0}),
    "early stopping": lambda: EarlyStopping("val/loss", patience=1),
    "rates": lambda: LearningRateMonitor("step"),
    "rates of epochs": lambda: LearningRateMonitor("epoch", log_momentum=True),
}
ODD_STEPS = {"no loss": NoLoss, "by hand": ByHand, "no optimizer": Empty, "foreign": lambda: Hybrid("foreign")}
OPTIONS = {
    "never log": {"log_every_n_steps": 0},
    "accumulate all": {"accumulate_grad_batches": 10},
    "fast": {"fast_dev_run": True},
    "within": {"val_check_interval": 1},
    "sanity": {"num_sanity_val_steps": 2},
    "one batch": {"limit_train_batches": 1, "limit_val_batches": 0},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", ["gvco", "qng"])
@pytest.mark.parametrize("name", LIGHTNINGS)
def test_a_run_with_lightning_s_callback_finishes(name: str, optimizer: str, tmp_path: Path) -> None:
    assert fit(Hybrid(optimizer), tmp_path, LIGHTNINGS[name]()).state.finished


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD_STEPS)
def test_a_run_of_odd_steps_finishes(name: str, tmp_path: Path) -> None:
    assert fit(ODD_STEPS[name](), tmp_path).state.finished


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_of_odd_length_finishes(name: str, tmp_path: Path) -> None:
    assert fit(Hybrid(), tmp_path, **OPTIONS[name]).state.finished


def test_that_its_average_is_not_judged_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(Hybrid(), tmp_path, StochasticWeightAveraging(swa_lrs=0.01), max_epochs=1)
    assert "warning: WeightAverage's weights are judged, not StochasticWeightAveraging's" in capsys.readouterr().out


SWA = ["+callbacks.x._target_=lightning.pytorch.callbacks.StochasticWeightAveraging", "+callbacks.x.swa_lrs=0.01"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_averages_by_lightning_where_its_last_checkpoint_has_the_average(tmp_path: Path) -> None:
    alone = [*SWA, "optim=adam", "callbacks.weight_average=null", "trainer.max_epochs=1", "logger=none", "name=tiny"]
    train(tiny_config(tmp_path / "run", *alone))
    assert (tmp_path / "run/predictions.csv").is_file()
    # Regression: without batch normalization it comes after the last checkpoint, and with SPSA it moved the circuits.
    plain = [line for line in TINY_PHANTOM if not line.startswith("model")]
    for config in (
        tiny_config(tmp_path / "spsa", *SWA, "optim=spsa"),
        compose([*plain, *alone, "model=ann", f"paths.output_dir={tmp_path}/ann"]),
    ):
        with pytest.raises(MisconfigurationException, match=r"use callbacks\.weight_average"):
            train(config)
