"""Progress on a terminal, and where there is none."""

import sys
from typing import Any

import lightning.pytorch as pl

from hqcnn_lab.callbacks.lightning_private import EpochBar


class Progress(EpochBar):
    """A line an epoch, and on a terminal a live bar below the lines; a log file or a pipe gets the lines alone."""

    def __init__(self) -> None:
        super().__init__()
        if not sys.stdout.isatty():
            self.disable()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        shown = {name: trainer.callback_metrics.get(name) for name in ("train/loss", "val/loss", "val/accuracy")}
        figures = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items() if value is not None)
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {figures}"
        if self.is_enabled and self.progress is not None:
            self.progress.console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """None beside the bar: they are those of the epoch before, which the line above it shows."""
        return {}

    def describe_epoch(self, epoch: int) -> str:
        return f"epoch {epoch + 1}/{self.trainer.max_epochs}"  # Lightning's own counts from 0
