"""What Lightning leaves out of a checkpoint, and a resumed run needs."""

from typing import Any

import lightning.pytorch as pl
import torch
from torchmetrics import Metric

from hqcnn_lab.callbacks.lightning_private import (
    count_last_epoch,
    forget_loader,
    is_within_an_epoch,
    take_back_an_epoch,
)
from hqcnn_lab.distributed import gather
from hqcnn_lab.error import ConfigError
from hqcnn_lab.torchmetrics_private import set_update_count

_KEY = "resume_state"


class ResumeState(pl.Callback):
    """Add to every checkpoint what a run needs to go on from it as if it had never stopped.

    Within an epoch that is the place in the data, the state of torch's random generators and the running training
    metrics (the classifier's `train_…`), of each process of a distributed run. At an epoch's end it is the figures so
    far and whether training is over: a run that is resumed after its last epoch goes straight to the test. Weights and
    optimizer are kept by Lightning, the next epoch's randomness comes from `EpochSeed`.
    """

    def __init__(self) -> None:
        self._within: dict[str, Any] | None = None
        self._at_epochs_end = False
        self._figures: dict[str, torch.Tensor] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        figures = {name: value.cpu() for name, value in trainer.callback_metrics.items()}
        state = {"figures": figures, "over": trainer.should_stop, "within": None}
        if is_within_an_epoch(trainer):
            cuda = torch.cuda.get_rng_state(pl_module.device).cpu() if pl_module.device.type == "cuda" else None
            metrics = {
                name: {"count": metric.update_count, "state": _on_cpu(metric)}
                for name, metric in _training_metrics(pl_module).items()
            }
            within = {"loader": _loader(trainer).state_dict(), "metrics": metrics}
            state["within"] = gather(within | {"random": torch.get_rng_state(), "random_cuda": cuda})
        checkpoint[_KEY] = state

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint.get(_KEY)
        if trainer.state.fn != "fit" or state is None:  # older checkpoints have none
            return
        forget_loader(checkpoint)
        self._figures, trainer.should_stop, of_each = state["figures"], state["over"], state["within"]
        if of_each is not None:
            if len(of_each) != trainer.world_size:
                raise ConfigError(
                    f"trainer.devices: the checkpoint was made within an epoch by {len(of_each)} processes, not "
                    f"{trainer.world_size}; ask for as many again"
                )
            self._within = of_each[trainer.global_rank]
        self._at_epochs_end = of_each is None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callback_metrics.update(self._figures)

    # As late as there is a hook: what comes before may draw random numbers, and moves the metrics to the device.
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._at_epochs_end and trainer.max_steps != -1:
            take_back_an_epoch(trainer)
        state, self._within = self._within, None
        if state is None:
            return
        # No batch has been drawn yet.
        _loader(trainer).load_state_dict(state["loader"])
        for name, metric in _training_metrics(pl_module).items():
            set_update_count(metric, state["metrics"][name]["count"])
            for key, value in state["metrics"][name]["state"].items():
                setattr(metric, key, value.to(pl_module.device))
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], pl_module.device)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Where nothing was left to train, Lightning has not counted the last epoch, whose checkpoint comes before.
        count_last_epoch(trainer)


def _loader(trainer: pl.Trainer) -> Any:
    """`data.datamodule.ResumableLoader`, which can say where it is."""
    return trainer.train_dataloader


def _on_cpu(metric: Metric) -> dict[str, torch.Tensor]:
    # A running metric of training keeps no lists.
    return {name: value.cpu() for name, value in metric.metric_state.items() if isinstance(value, torch.Tensor)}


def _training_metrics(pl_module: pl.LightningModule) -> dict[str, Metric]:
    return {name: m for name, m in pl_module.named_children() if isinstance(m, Metric) and name.startswith("train_")}
