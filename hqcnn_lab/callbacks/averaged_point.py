"""Judge the average that an optimizer keeps by itself, and train on from where it was."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from hqcnn_lab.callbacks.batch_norm import recalibrate
from hqcnn_lab.optim.averaging import averages, put_average, put_training_point

_KEY = "training_point"


class AveragedPoint(pl.Callback):
    """Validate, test and save the average of an optimizer that averages by itself; training goes on from its own point.

    Such an optimizer (Schedule-Free AdamW) has `train()`, which puts the training point y into the parameters, and
    `eval()`, which puts in the average x. The parameters hold y while batches are trained. They hold x from a
    validation, or an epoch's end, until the next batch, and after the fit. Give it to the trainer before callbacks that
    look at the parameters. With any other optimizer it does nothing.

    Batch normalization's statistics are measured anew for x, on training batches (`recalibrate`).

    Back from x to y would round, so y is kept as it was, buffers too. A checkpoint has x as its `state_dict`, the
    optimizer in the state that belongs to it, as the `schedulefree` library wants it, and y under `training_point`: a
    run that goes on from it equals one that was not interrupted.

    Beside a `WeightAveraging` callback, which averages y and is what is judged then, y stays in the parameters.
    """

    def __init__(self) -> None:
        self._holds_average = True
        self._training_point: dict[str, Tensor] | None = None  # kept while the parameters hold the average

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":  # of a new optimizer, average and training point are the same
            self._holds_average, self._training_point = True, None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit":  # and not for a test
            self._training_point = checkpoint.get(_KEY)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        averaging = [type(optimizer).__name__ for optimizer in trainer.optimizers if averages(optimizer)]
        if averaging and _is_averaged_elsewhere(trainer):
            print(
                f"warning: {averaging[0]} averages by itself, and the weight average of what it trains is judged "
                "instead; callbacks.weight_average=null",
                flush=True,
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._to_training_point(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._to_training_point(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._to_average(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._to_average(trainer, pl_module)  # where no validation came before

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._to_average(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training_point = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        within = not self._holds_average
        self._to_average(trainer, pl_module)
        if self._training_point is not None:
            checkpoint[_KEY] = self._training_point
        if within and self._holds_average:  # what Lightning has put there is of the training point
            checkpoint["state_dict"] = _copy_of(pl_module.state_dict())
            checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(o) for o in trainer.optimizers]
            self._to_training_point(trainer, pl_module)

    # Validation is in inference mode, and what comes to be there could not be trained with.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _to_average(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._holds_average or _is_averaged_elsewhere(trainer) or not any(map(averages, trainer.optimizers)):
            return
        self._training_point = _copy_of(_tensors_of(pl_module))
        put_average(trainer.optimizers)
        self._holds_average = True
        recalibrate(trainer, pl_module)  # the buffers of y are put back with the rest

    @torch.no_grad()
    def _to_training_point(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._holds_average:
            return
        put_training_point(trainer.optimizers)
        if self._training_point is not None:
            for name, tensor in _tensors_of(pl_module).items():
                tensor.copy_(self._training_point[name])
        self._holds_average, self._training_point = False, None


def _copy_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _tensors_of(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Parameters and kept buffers, without what a fitted classifier adds to the state: that has any length."""
    own = dict(pl_module.named_parameters()) | dict(pl_module.named_buffers())
    return {name: own[name] for name in pl_module.state_dict() if name in own}


def _is_averaged_elsewhere(trainer: pl.Trainer) -> bool:
    callbacks: list[pl.Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it
    return any(isinstance(callback, WeightAveraging) for callback in callbacks)
